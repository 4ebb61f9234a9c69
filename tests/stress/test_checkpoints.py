"""The real daemon on a machine that is taken away: on the same disk, on one that came back empty,
and on another machine, the queue goes on from where it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest
from imds import Imds
from namespaces import needs_namespaces
from s3_endpoint import Endpoint
from world import World

QUICK = (
    "import runner.host.spot as spot; spot.POLL_EVERY = 0.2;"
    "import runner.service.candidates as candidates; candidates.ASK_FOR = 1e9;"
    "from runner.cli.main import main; raise SystemExit(main())"
)
BOOT = 'mount --bind "$BOOT_ID" /proc/sys/kernel/random/boot_id && exec "$@"'

# What it saves is its attempts; the sum of it is the result. Builtins only in the trap.
TRAINS = """
read -r step < ckpt/step 2> /dev/null || step=0
echo "$JOB_ATTEMPT from $step" >> {seen}
trap 'echo $((step + 10)) > ckpt/step; echo saved; exit 0' TERM
mkdir -p ckpt model
[ "$step" -ge 10 ] && {{ echo "done at $step" > model/m; exit 0; }}
touch {began}
while :; do sleep 0.02; done
"""


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    needs_namespaces()


class Ec2:
    """Boots of one machine after the other, with a queue whose results are in ``bucket``."""

    def __init__(
        self, world: World, imds: Imds, endpoint: Endpoint, patch: pytest.MonkeyPatch
    ) -> None:
        self.world, self.imds, self.endpoint = world, imds, endpoint
        self.bucket = endpoint.bucket()
        self.seen, self.began = world.home / "seen", world.home / "began"
        self.work = world.state / "queues/q/work"
        self.daemon: subprocess.Popen[bytes] | None = None
        self._patch = patch

    def boot(self, **more: str) -> None:
        """The daemon starts, under a boot id of its own; any notice is history."""
        self.imds.data.clear()
        boot_id = self.world.home / f"boot-{uuid.uuid4()}"
        boot_id.write_text(f"{uuid.uuid4()}\n")
        words = ["unshare", "--mount", "sh", "-c", BOOT, "sh", sys.executable, "-c", QUICK]
        with self._patch.context() as patch:
            patch.setattr("world.RUNNER", words)
            env = {**self.endpoint.env, **self.imds.env, "BOOT_ID": str(boot_id), **more}
            self.daemon = self.world.daemon(env=env)

    def cut(self) -> None:
        """The machine is gone."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def jobs(self) -> list[dict[str, Any]]:
        trains = TRAINS.format(seen=self.seen, began=self.began)
        count = f"echo x >> {self.world.home}/prepared; mkdir -p data; echo d > data/d"
        return [
            {"job_id": "prepare", "command": count, "timeout": "1m", "result_paths": ["data/**"]},
            {
                "job_id": "train",
                "command": f"cat data/d && {trains}",
                "timeout": "1m",
                "depends_on": ["prepare"],
                "checkpoint_paths": ["ckpt/**"],
                "result_paths": ["model/*"],
            },
        ]

    def submit(self, *flags: str) -> None:
        document = self.world.document(*self.jobs(), result_s3_bucket=self.bucket)
        done = self.world.call("submit", document, *flags)
        assert done.returncode == 0, done.stderr

    def until_trained(self) -> None:
        """The first attempt is under way, and the store knows."""
        self.world.until(self.began.exists)
        self.world.until(lambda: (self.stored("train") or {}).get("status") == "running")
        self.world.until(lambda: self.keys("queues/q/queue.json"))

    def taken_away(self) -> None:
        """A spot notice, and its end."""
        self.imds.announce_spot(120)
        self.world.until(self._left)
        self.cut()

    def _left(self) -> bool:
        now = self.world.ask("status", queue="q", limit=0)["queue"]
        return now["status"] == "interrupted" and "worker" not in now

    def lose_disk(self) -> None:
        shutil.rmtree(self.world.state)
        shutil.rmtree(self.world.logs)

    def completes(self) -> None:
        def completed() -> bool:
            now = self.world.ask("status", queue="q", limit=0)["queue"]
            return now["status"] == "completed" and "worker" not in now

        self.world.until(completed)

    def stored(self, job_id: str) -> dict[str, Any] | None:
        """The job's part of the state in the store."""
        if "queues/q/queue-state.json" not in self.keys(""):
            return None
        state = json.loads(self.endpoint.read(self.bucket, "queues/q/queue-state.json"))
        return next(job for job in state["jobs"] if job["job_id"] == job_id)

    def keys(self, prefix: str = "queues/q/jobs/train/") -> list[str]:
        found = self.endpoint.keys(self.bucket, prefix)
        return [key.removeprefix(prefix) for key in found]

    def story(self) -> list[str]:
        return [entry["event"] for entry in self.world.ask("job", queue="q", job="train")["story"]]


@pytest.fixture
def ec2(world: World, imds: Imds, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Ec2:
    return Ec2(world, imds, endpoint, monkeypatch)


def test_a_spot_notice_saves_and_an_empty_disk_goes_on(ec2: Ec2) -> None:
    """A machine that is terminated would cost the work of days, and not minutes."""
    ec2.boot()
    ec2.submit()
    ec2.until_trained()
    ec2.taken_away()
    told = ec2.stored("train")
    assert told is not None and (told["status"], told["attempt"]) == ("interrupted", 1)
    assert {"checkpoint/1-1/step", "checkpoint/manifest.json"} <= set(ec2.keys())
    run_id = json.loads((ec2.world.state / "queues/q/queue-state.json").read_text())["run_id"]

    ec2.lose_disk()
    ec2.boot()
    ec2.submit()
    ec2.completes()
    assert ec2.seen.read_text().splitlines() == ["1 from 0", "2 from 10"]
    assert (ec2.world.home / "prepared").read_text() == "x\n", "what had completed ran again"
    state = json.loads((ec2.world.state / "queues/q/queue-state.json").read_text())
    assert state["run_id"] == run_id
    assert "spot interruption" in state["resumed"] and "result store" in state["resumed"]
    assert "checkpoint_restored" in ec2.story()
    keys = ec2.keys()
    assert not [key for key in keys if key.startswith("checkpoint/")], "nobody needs it any more"
    assert {"m", "stdout.log", "attempts/1/stdout.log"} <= set(keys)
    assert b"saved" in ec2.endpoint.read(ec2.bucket, "queues/q/jobs/train/attempts/1/stdout.log"), (
        "the log of the machine before is kept"
    )


def test_it_is_the_jobs_user_who_saves_and_finds_it_again(
    imds: Imds, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root would read what the job may not, or leave it files that it can't write to."""
    folder = Path(tempfile.mkdtemp(prefix="checkpoints-"))
    folder.chmod(0o755)
    world = World(folder, job_user="nobody")
    world.home.chmod(0o777)
    try:
        ec2 = Ec2(world, imds, endpoint, monkeypatch)
        ec2.boot()
        ec2.submit()
        ec2.until_trained()
        secret = folder / "secret"
        secret.write_text("root's alone")
        secret.chmod(0o600)
        (ec2.work / "ckpt/link").symlink_to(secret)
        ec2.taken_away()
        assert "checkpoint/1-1/step" in ec2.keys("queues/q/jobs/train/")
        ec2.lose_disk()
        ec2.boot()
        ec2.submit()
        ec2.completes()
        assert ec2.seen.read_text().splitlines() == ["1 from 0", "2 from 10"]
        assert (ec2.work / "ckpt/step").owner() == "nobody"
    finally:
        world.close()
        shutil.rmtree(folder)


def test_on_the_same_disk_what_is_there_stays(ec2: Ec2) -> None:
    """A file that was written since the upload would be replaced by an older one."""
    ec2.boot()
    ec2.submit()
    ec2.until_trained()
    ec2.taken_away()
    (ec2.work / "ckpt/step").write_text("99\n")
    ec2.boot()
    ec2.completes()
    assert ec2.seen.read_text().splitlines() == ["1 from 0", "2 from 99"]
    assert "checkpoint_restored" not in ec2.story()


def test_a_folder_that_no_boot_keeps_is_filled_again(ec2: Ec2) -> None:
    """A checkpoint on an instance store would be lost though it was uploaded."""
    ec2.boot()
    ec2.submit()
    ec2.until_trained()
    ec2.taken_away()
    shutil.rmtree(ec2.work)
    ec2.boot()
    ec2.completes()
    assert ec2.seen.read_text().splitlines() == ["1 from 0", "2 from 10"]
    assert (ec2.work / "data/d").exists(), "the declared results of the job before"


def test_a_machine_that_went_without_notice_costs_what_was_not_saved(ec2: Ec2) -> None:
    """The job would be taken to be running for ever, or the completed one run again."""
    ec2.boot()
    ec2.submit()
    ec2.until_trained()
    ec2.cut()
    ec2.world.close()
    ec2.lose_disk()
    ec2.began.unlink()
    ec2.boot()
    ec2.submit()
    ec2.world.until(ec2.began.exists)
    assert ec2.seen.read_text().splitlines() == ["1 from 0", "2 from 0"], ec2.world.stderr
    assert (ec2.world.home / "prepared").read_text() == "x\n"
    job = ec2.world.ask("status", queue="q")["jobs"][1]
    assert (job["attempt"], job["interruptions"]) == (2, 1)


@pytest.mark.parametrize("how", ["fresh", "other"])
def test_another_run_is_begun_anew(ec2: Ec2, how: str) -> None:
    """--fresh, or another document, would go on with what it was to replace."""
    ec2.boot()
    ec2.submit()
    ec2.until_trained()
    ec2.taken_away()
    ec2.lose_disk()
    ec2.began.unlink()
    ec2.boot()
    if how == "fresh":
        ec2.submit("--fresh")
    else:
        jobs = [{**job, "timeout": "2m"} for job in ec2.jobs()]
        document = ec2.world.document(*jobs, result_s3_bucket=ec2.bucket)
        assert ec2.world.call("submit", document).returncode == 0
    ec2.world.until(ec2.began.exists)
    assert ec2.seen.read_text().splitlines() == ["1 from 0", "1 from 0"]
    assert (ec2.world.home / "prepared").read_text() == "x\nx\n"
    if how == "other":
        assert "another document" in ec2.world.stderr


def test_a_store_that_is_away_at_boot_is_waited_for(ec2: Ec2) -> None:
    """A network that comes up late would cost the work of days."""
    ec2.boot()
    ec2.submit()
    ec2.until_trained()
    ec2.taken_away()
    ec2.lose_disk()
    ec2.boot(AWS_ENDPOINT_URL="http://127.0.0.1:1")
    ec2.submit()
    ec2.world.until(
        lambda: "begun elsewhere" in ec2.world.ask("status", queue="q")["queue"].get("blocked", "")
    )
    ec2.cut()
    ec2.boot()
    ec2.completes()
    assert ec2.seen.read_text().splitlines() == ["1 from 0", "2 from 10"]


def test_runner_stop_saves_to_a_folder_too(world: World) -> None:
    """What is stopped by hand, and whose disk is then exchanged, would begin anew."""
    began, seen, out = world.home / "began", world.home / "seen", world.home / "results"
    command = TRAINS.format(seen=seen, began=began)
    job = {"job_id": "train", "command": command, "timeout": "1m", "checkpoint_paths": ["ckpt/**"]}
    document = world.document(job)
    run = world.start("run", document, "--results", str(out))
    world.until(began.exists)
    assert world.call("stop", "--queue", "q").returncode == 0
    assert run.wait(20) == 104
    assert (out / "jobs/train/checkpoint/1-1/step").read_text() == "10\n"
    shutil.rmtree(world.state)
    shutil.rmtree(world.home / "ckpt")
    done = world.call("run", document, "--results", str(out))
    assert done.returncode == 0, done.stderr
    assert "resumes the run in" in done.stderr
    assert seen.read_text().splitlines() == ["1 from 0", "2 from 10"]
    assert not Path(out / "jobs/train/checkpoint").exists()
