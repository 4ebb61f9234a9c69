"""Queues on AWS Batch that are driven by the daemon: the real commands, beside a Batch server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from batch_account import BatchAccount
from on_batch import ROLE, account_with, job
from s3_endpoint import Endpoint
from world import World


class Served:
    """A daemon whose settings name a job queue and a bucket."""

    def __init__(self, world: World, account: BatchAccount, endpoint: Endpoint) -> None:
        self.world, self.account, self.endpoint = world, account, endpoint
        self.bucket = endpoint.bucket()
        world.env |= {**endpoint.env, **account.env, "AWS_DEFAULT_REGION": "us-east-1"}
        told = {
            "region": "us-east-1",
            "bucket": self.bucket,
            "job_queue": "queue",
            "image": "local/deb",
            "job_role": ROLE,
            "bundle": "image",
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in told.items()]
        with world.config.open("a") as config:
            config.write("disk_reserve = 1\n[batch]\n" + "\n".join(lines) + "\n")
        self.daemon = world.daemon()

    def submit(
        self, *jobs: dict[str, Any], name: str = "q", flags: tuple[str, ...] = (), **more: Any
    ):
        document = self.world.document(*jobs, name=name, **more)
        return self.world.call("submit", document, "--target", "batch", *flags)

    def wait(self, name: str = "q") -> int:
        return self.world.call("wait", name).returncode

    def running(self, name: str, job_id: str) -> dict[str, Any]:
        def found() -> Any:
            told = self.world.jobs(name).get(job_id, {})
            return told if told.get("status") == "running" else None

        answer: dict[str, Any] = self.world.until(found)
        return answer

    def submitted(self) -> int:
        return len([each for each in self.account.server.jobs() if each.parent is None])

    def again(self, number: int = signal.SIGKILL) -> None:
        """The daemon ends by this signal, and another begins."""
        self.daemon.send_signal(number)
        self.daemon.wait()
        self.daemon = self.world.daemon()


@pytest.fixture
def served(endpoint: Endpoint, world: World) -> Iterator[Served]:
    account = account_with(endpoint, second_s=1.0)
    yield Served(world, account, endpoint)
    account.close()


def test_a_queue_is_driven_to_its_end(served: Served) -> None:
    """`submit --target batch` would not run there what `run --target batch` runs."""
    told = served.submit(
        job("a", "echo 1 > a.txt; echo hello", result_paths=["a.txt"]),
        job("b", "cat a.txt", depends_on=["a"]),
    )
    assert (told.returncode, told.stdout) == (0, "q submitted\n"), told.stderr
    assert "run one by one" in told.stderr
    assert served.wait() == 0
    assert served.world.call("logs", "b", "--queue", "q", "--stdout").stdout == "1\n"
    assert served.submitted() == 2
    assert served.endpoint.read(served.bucket, "queues/q/jobs/a/a.txt") == b"1\n"


def test_what_kills_the_daemon_ends_no_job_and_runs_none_twice(served: Served) -> None:
    """A daemon that is started again would lose its jobs on AWS Batch, or submit them again."""
    proof, go = served.world.home / "ran", served.world.home / "go"
    command = f"echo ran >> {proof}; until [ -e {go} ]; do sleep 0.1; done; exit 3"
    served.submit(job("a", command))
    served.running("q", "a")
    served.again(signal.SIGKILL)
    served.running("q", "a")
    served.again(signal.SIGTERM)
    go.touch()
    assert served.wait() == 100
    a = served.world.jobs()["a"]
    assert (a["attempt"], a["exit_code"], proof.read_text()) == (1, 3, "ran\n")
    assert served.submitted() == 1


@pytest.mark.share
def test_it_holds_up_no_queue_of_this_machine_and_can_be_acted_on(served: Served) -> None:
    """One long queue on AWS Batch would take the only place of the queues that run here."""
    world = served.world
    served.submit(job("a", "sleep 600", timeout="1h"), job("b"))
    served.submit(job("c", "sleep 600", timeout="1h"), name="p")
    world.call("submit", world.document(job("here"), name="local"))
    assert served.wait("local") == 0
    for name, each in (("q", "a"), ("p", "c")):
        served.running(name, each)
    assert world.call("pause", "--queue", "q").returncode == 0
    assert world.call("cancel", "a", "--queue", "q").returncode == 0
    world.until(lambda: world.jobs("q")["a"]["status"] == "cancelled")
    assert world.jobs("q")["b"]["status"] == "pending"
    assert world.call("cancel", "--all", "--queue", "p").returncode == 0
    assert served.wait("p") == 103
    assert world.call("unpause", "--queue", "q").returncode == 0
    assert served.wait("q") == 103
    assert world.call("retry", "a", "--queue", "q").returncode == 0
    served.running("q", "a")
    assert world.call("stop").returncode == 0
    assert world.jobs("q")["a"]["status"] in ("interrupted", "pending")
    states = [each.id for each in served.account.server.jobs() if each.parent is None]
    assert {served.account.wait(each)["status"] for each in states} <= {"SUCCEEDED", "FAILED"}


@pytest.mark.share
def test_what_is_left_there_can_be_ended_without_a_daemon(served: Served) -> None:
    """`cancel` would take jobs on AWS Batch for ended, for they have no process here."""
    served.submit(job("a", "sleep 600", timeout="1h"))
    served.running("q", "a")
    served.daemon.send_signal(signal.SIGTERM)
    served.daemon.wait()
    (left,) = served.account.server.jobs()
    assert served.account.job(left.id)["status"] == "RUNNING"
    assert served.world.call("pause", "--queue", "q").returncode == 0
    assert served.account.job(left.id)["status"] == "RUNNING"
    assert served.world.jobs()["a"]["status"] == "running"
    assert served.world.call("cancel", "--all", "--queue", "q").returncode == 0
    assert served.account.wait(left.id)["status"] == "FAILED"
    assert served.world.jobs()["a"]["status"] == "cancelled"


@pytest.mark.share
def test_fresh_ends_what_runs_there_first(served: Served) -> None:
    """The jobs of the run before would go on beside those of the new one."""
    document = job("a", "sleep 600", timeout="1h")
    served.submit(document)
    served.running("q", "a")
    (old,) = served.account.server.jobs()
    assert served.submit(document).stdout == "q there already (running)\n"
    assert served.submit(document, flags=("--fresh",)).stdout == "q submitted\n"
    assert served.account.job(old.id)["status"] == "FAILED"
    served.world.until(lambda: served.submitted() == 2)
    served.world.call("cancel", "--all", "--queue", "q")
    assert served.wait() == 103


@pytest.mark.share
def test_what_can_not_be_is_refused_and_nothing_is_kept(served: Served) -> None:
    """A queue would be accepted that can't run there, or in two places at once."""
    world = served.world
    background = served.submit(job("a", keep_background=True))
    assert (background.returncode, background.stdout) == (2, "")
    assert "jobs[0].keep_background" in background.stderr
    nowhere = served.submit(job("a"), flags=("--job-queue", "none"))
    assert nowhere.returncode == 2 and "there is no job queue none" in nowhere.stderr
    folder = served.submit(job("a"), flags=("--workdir", "."))
    assert folder.returncode == 2 and "--workdir" in folder.stderr
    secret = served.submit(job("a"), flags=("--bundle", "/etc/hostname"))
    assert secret.returncode == 2 and "a daemon takes no file" in secret.stderr
    lonely = world.call("submit", world.document(job("a")), "--job-queue", "queue")
    assert lonely.returncode == 2 and "--target batch" in lonely.stderr
    assert world.data("queues") == []
    world.call("submit", world.document(job("a", "sleep 600")))
    twice = served.submit(job("a", "sleep 600"))
    assert twice.returncode == 2 and "on this machine" in twice.stderr
    world.call("cancel", "--all")


@pytest.mark.share
def test_what_batch_waits_for_is_explained(served: Served) -> None:
    """A job that AWS Batch can't place would only be `running`, for hours."""
    served.account.server.set_placing(served.account.environment, False)
    served.submit(job("a", timeout="1h"), job("b", depends_on=["a"]))
    served.world.until(lambda: served.submitted() == 1)
    (there,) = served.account.server.jobs()
    served.account.wait(there.id, "RUNNABLE")
    told = served.world.data("explain", "--queue", "q")
    a, b = told["jobs"]
    assert (a["job_id"], a["status"], b["reasons"][0]["holders"]) == ("a", "running", ["a"])
    assert a["reasons"][0]["code"].startswith("batch.")
    assert there.id in a["reasons"][0]["text"]
    shown = served.world.call("explain", "a", "--queue", "q").stdout
    assert "a is running" in shown and "[batch." in shown
    served.world.call("cancel", "--all", "--queue", "q")
    assert served.account.wait(there.id)["status"] == "FAILED"
