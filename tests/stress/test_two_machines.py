"""Two real daemons and one bucket: who works on a queue, and what the other one does."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from imds import Imds
from s3_endpoint import Endpoint, env_for
from s3_faults import FaultProxy
from world import World, attempts_alive

OTHER = (
    "import os, pathlib, runner.results.claim as claim;"
    "claim._MACHINE_ID = pathlib.Path(os.environ['TEST_MACHINE_ID']);"
    "from runner.cli.main import main; raise SystemExit(main())"
)
"""Two machines have two ids; all else is the product."""

COMMAND = """
echo begun >> mine
echo {machine} $$ >> {records}
trap 'echo saved >> mine; exit 0' TERM
until [ -e {go} ]; do sleep 0.02; done
"""


class Site:
    """A machine in EC2: a world of its own, with an id, before the one bucket."""

    def __init__(self, folder: Path, name: str, url: str, imds: Imds) -> None:
        self.world = World(folder / name)
        self.name = name
        self.store = url
        self.records, self.go = folder / "begun", folder / "go"
        self.instance = imds.data["instance-id"] = f"i-{name}"
        machine_id = folder / name / "machine-id"
        machine_id.write_text(name * 8)
        self.world.env |= {
            **env_for(url),
            **imds.env,
            "TEST_MACHINE_ID": str(machine_id),
            "RUNNER_HEARTBEAT": "200ms",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **more: str) -> None:
        self.process = self.world.daemon(env=more)

    def kill(self, *, jobs: bool = False) -> None:
        """The daemon, and with ``jobs`` all that it has started: the next start is another boot."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        if jobs:
            while living := attempts_alive(self.world.state):
                for pid in living:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            with closing(sqlite3.connect(self.world.state / "queues/q/state.db")) as database:
                before = "UPDATE queue SET record = json_set(record, '$.boot_id', 'before')"
                database.execute(before)
                database.commit()

    def submit(self, bucket: str) -> None:
        """The same document on each machine, but for its own name in the list."""
        long = {"command": COMMAND.format(machine="$MACHINE", records=self.records, go=self.go)}
        jobs = [
            {"job_id": "early", "command": "echo result > r", "result_paths": ["r"]},
            {"job_id": "long", **long},
        ]
        document = self.world.document(
            *({**job, "timeout": "5m"} for job in jobs),
            result_s3_bucket=bucket,
            term_grace="5s",
        )
        done = self.world.call("submit", document)
        assert done.returncode == 0, done.stderr

    def job(self, name: str = "long") -> dict[str, Any]:
        return self.world.jobs().get(name, {})

    def runs(self) -> bool:
        return self.job().get("status") == "running"

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.world.ask("status", queue="q", limit=0)["queue"]
        return answer

    def begun(self) -> int:
        """How often the long job's command began here."""
        try:
            return (self.world.state / "queues/q/work/mine").read_text().count("begun")
        except FileNotFoundError:
            return 0

    def given_up(self) -> bool:
        now = self.status()
        return now["status"] == "interrupted" and "worker" not in now


@pytest.fixture(autouse=True)
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("world.RUNNER", [sys.executable, "-c", OTHER])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes machines; whatever was started on them is ended."""
    with ExitStack() as stack:

        def make(name: str, url: str) -> Site:
            imds = Imds()
            stack.callback(imds.close)
            made = Site(tmp_path, name, url, imds)
            stack.callback(made.world.close)
            return made

        yield make


@pytest.fixture
def proxy(endpoint: Endpoint) -> Iterator[FaultProxy]:
    made = FaultProxy(endpoint.port)
    yield made
    made.close()


def lease(endpoint: Endpoint, bucket: str) -> dict[str, Any]:
    if "queues/q/lease.json" not in endpoint.keys(bucket, "queues/q/lease"):
        return {}
    told: dict[str, Any] = json.loads(endpoint.read(bucket, "queues/q/lease.json"))
    return told


def stored(endpoint: Endpoint, bucket: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(endpoint.read(bucket, "queues/q/queue-state.json"))
    return told


def taken_over(site: Callable[..., Site], endpoint: Endpoint, url: str) -> tuple[Site, Site, str]:
    """A machine that runs the long job, and one that has taken the queue over from it."""
    bucket = endpoint.bucket()
    first, second = site("a", url), site("b", endpoint.url)
    first.start()
    first.submit(bucket)
    first.world.until(first.runs)
    first.world.until(lambda: lease(endpoint, bucket).get("instance_id") == "i-a")
    first.world.until(
        lambda: (
            [job["status"] for job in stored(endpoint, bucket)["jobs"]] == ["completed", "running"]
            # Only what was stored is not done again.
            and stored(endpoint, bucket)["jobs"][0].get("logs_uploaded")
        )
    )
    return first, second, bucket


def take_over(second: Site, bucket: str) -> None:
    second.start()
    second.submit(bucket)
    second.world.until(second.runs)


def test_the_second_machine_takes_over_and_the_first_one_stops(
    site: Callable[..., Site], endpoint: Endpoint
) -> None:
    """Two machines would work on one queue, and each spoil what the other does."""
    first, second, bucket = taken_over(site, endpoint, endpoint.url)
    assert lease(endpoint, bucket)["epoch"] == 1
    take_over(second, bucket)
    first.world.until(first.given_up)
    second.world.until(lambda: lease(endpoint, bucket).get("instance_id") == "i-b")
    assert lease(endpoint, bucket)["epoch"] == 2
    mine = (first.world.state / "queues/q/work/mine").read_text()
    assert mine == "begun\nsaved\n", "an orderly end, and the files stay"
    assert attempts_alive(first.world.state) == []
    assert first.job()["status"] == "interrupted" and second.runs()
    assert second.job("early")["attempt"] == 1, "what was done is not done again"
    why = first.status()["reason"]
    assert "taken over by" in why and "what is here stays" in why, why
    # In the journal, whose lines come some at once.
    first.world.until(lambda: "taken_over" in first.world.stderr and why in first.world.stderr)
    shown = first.world.call("status").stdout
    assert "taken over by" in shown and "Worker:      none\n" in shown
    refused = first.world.call("submit", "q.json")
    assert refused.returncode == 2 and "--fresh begins anew here" in refused.stderr
    second.go.touch()
    second.world.until(lambda: second.status()["status"] == "completed")
    second.world.until(lambda: lease(endpoint, bucket)["released"])
    assert (first.begun(), second.begun()) == (1, 1)
    assert stored(endpoint, bucket)["status"] == "completed"


@pytest.mark.parametrize("alive", [False, True], ids=["after-a-boot", "its-jobs-alive"])
def test_one_that_comes_back_late_starts_nothing(
    site: Callable[..., Site], endpoint: Endpoint, alive: bool
) -> None:
    """EC2 restarts the old machine after a resume: its jobs would run twice at the same time."""
    first, second, bucket = taken_over(site, endpoint, endpoint.url)
    first.kill(jobs=not alive)
    take_over(second, bucket)
    first.start()
    first.world.until(first.given_up)
    assert attempts_alive(first.world.state) == [] and first.begun() == 1
    assert second.runs() and second.begun() == 1
    first.kill()
    first.start()
    assert first.given_up() and "taken over by" in first.status()["blocked"]
    second.go.touch()
    second.world.until(lambda: stored(endpoint, bucket)["status"] == "completed")
    assert first.begun() == 1


def test_a_lease_that_was_left_behind_ends_nothing(
    site: Callable[..., Site], endpoint: Endpoint
) -> None:
    """Who removes a stored state, but not all of it, could never run the queue again."""
    bucket, machine = endpoint.bucket(), site("a", endpoint.url)
    old = {"run_id": "old", "epoch": 99, "holder": "gone", "valid_for_seconds": 120}
    endpoint.client().put_object(
        Bucket=bucket, Key="queues/q/lease.json", Body=json.dumps(old).encode()
    )
    machine.start()
    machine.submit(bucket)
    machine.world.until(lambda: lease(endpoint, bucket).get("instance_id") == "i-a")
    machine.go.touch()
    machine.world.until(lambda: machine.status()["status"] == "completed")
    assert machine.begun() == 1 and lease(endpoint, bucket)["epoch"] == 1


def test_without_a_network_it_works_on_until_it_is_told(
    site: Callable[..., Site], endpoint: Endpoint, proxy: FaultProxy
) -> None:
    """A network that is away for a while would end work that nobody else does; or nobody would
    end what another does when it is back."""
    first, second, bucket = taken_over(site, endpoint, proxy.url)
    first.kill(jobs=True)
    take_over(second, bucket)
    with proxy.closed_door():
        first.start()
        first.world.until(lambda: first.begun() == 2)
    first.world.until(first.given_up)
    assert attempts_alive(first.world.state) == [] and second.runs()


def test_a_lease_is_renewed_and_a_lost_network_ends_nothing(
    site: Callable[..., Site], endpoint: Endpoint, proxy: FaultProxy
) -> None:
    """A machine that can't reach S3 would stop its jobs; or a lease run out under a living one."""
    first, _, bucket = taken_over(site, endpoint, proxy.url)
    times = {lease(endpoint, bucket)["renewed_at"]}
    first.world.until(lambda: times.add(lease(endpoint, bucket)["renewed_at"]) or len(times) > 2)
    assert lease(endpoint, bucket)["valid_for_seconds"] == pytest.approx(0.8)
    with proxy.closed_door():
        first.go.touch()
        first.world.until(lambda: first.job()["status"] == "completed")
    first.world.until(lambda: first.status()["status"] == "completed")
    first.world.until(lambda: lease(endpoint, bucket)["released"])
    assert lease(endpoint, bucket)["epoch"] == 1


def test_a_machine_that_was_succeeded_ends_for_want_of_work(
    site: Callable[..., Site], endpoint: Endpoint
) -> None:
    """It would cost money to the end of its lifetime, for a queue that another has."""
    first, second, bucket = taken_over(site, endpoint, endpoint.url)
    first.kill(jobs=True)
    take_over(second, bucket)
    first.start(RUNNER_ON_COMPLETE="stop", RUNNER_ON_COMPLETE_DELAY="1h")
    path = first.world.state / "machine.json"
    first.world.until(lambda: (json.loads(path.read_text()).get("plan") or {}).get("why"))
    assert json.loads(path.read_text())["plan"]["why"] == "queue q taken over"
