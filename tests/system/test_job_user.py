"""A daemon that is root, and jobs that aren't: the ordinary way through everything."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from s3_endpoint import Endpoint
from world import World, attempts_alive

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root starts jobs as another user"),
    pytest.mark.long,
]

NOBODY = pwd.getpwnam("nobody")
SECRET = b"root's alone"
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def world() -> Iterator[World]:
    """A world whose daemon runs jobs as ``nobody``, where every user can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="job-user-"))
    folder.chmod(0o755)
    made = World(folder, job_user="nobody")
    made.home.chmod(0o755)
    yield made
    made.close()
    shutil.rmtree(folder)


def job(name: str, command: str, **more: Any) -> dict[str, Any]:
    return {"job_id": name, "command": command, "timeout": "1m", **more}


def submit(world: World, *jobs: dict[str, Any], **queue: Any) -> None:
    done = world.call("submit", world.document(*jobs, **queue))
    assert done.returncode == 0, done.stderr


def log(world: World, name: str, queue: str = "q") -> str:
    return (world.logs / f"queues/{queue}/jobs/{name}-stdout.log").read_text()


def test_jobs_run_as_the_user_in_a_folder_of_its_own(world: World) -> None:
    """A job would have root's rights or HOME, or nowhere to write to."""
    world.daemon()
    submit(
        world,
        job("who", "id -un; pwd; stat -c %U .; env"),
        job("writes", "mkdir a && echo x > a/b && stat -c '%U %a' a/b"),
    )
    assert world.call("wait").returncode == 0
    name, where, owner, *environment = log(world, "who").splitlines()
    assert (name, owner) == ("nobody", "nobody")
    assert where == str(world.state / "queues/q/work")
    wanted = {"HOME": NOBODY.pw_dir, "USER": "nobody", "LOGNAME": "nobody"}
    assert wanted.items() <= dict(line.split("=", 1) for line in environment).items()
    assert log(world, "writes") == "nobody 644\n"


def test_the_quickstart_runs_as_the_user(world: World) -> None:
    """The first thing that anybody tries would fail for want of a right."""
    world.daemon()
    assert world.call("submit", str(EXAMPLES / "quickstart.json")).returncode == 0
    assert world.call("wait").returncode == 0
    made = world.state / "queues/my-first-queue/work/work/quickstart/output.txt"
    assert made.read_text().endswith("Item 10\nDone!\n")
    assert made.stat().st_uid == made.parent.stat().st_uid == NOBODY.pw_uid


def test_a_killed_daemon_finds_its_users_jobs_again(world: World) -> None:
    """A restart would run a job twice, or lose the exit code of another user's process."""
    daemon = world.daemon()
    submit(world, job("a", "echo $$ > pid; until [ -e go ]; do sleep 0.02; done; exit 7"))
    work = world.state / "queues/q/work"
    world.until(lambda: (work / "pid").exists() and (work / "pid").read_text())
    daemon.kill()
    daemon.wait()
    world.daemon()
    world.until(lambda: "attempt_adopted" in world.stderr)
    (work / "go").touch()
    assert world.call("wait").returncode == 100
    told = world.jobs()["a"]
    assert (told["attempt"], told["exit_code"]) == (1, 7)


def test_a_timeout_ends_all_that_the_user_has_begun(world: World) -> None:
    """What a job moved out of its session would go on without it."""
    world.daemon()
    begin = "setsid bash -c 'trap \"\" TERM; while :; do sleep 1; done' & disown; sleep 60"
    submit(world, job("a", begin, timeout="500ms", term_grace="300ms"))
    assert world.call("wait").returncode == 100
    assert world.jobs()["a"]["timed_out"] is True
    assert attempts_alive(world.state) == []


class Cloud:
    """A bucket for the queues of a world."""

    def __init__(self, world: World, endpoint: Endpoint) -> None:
        self.bucket = endpoint.bucket()
        self._endpoint = endpoint
        world.env.update(endpoint.env)

    def put(self, key: str, data: bytes) -> str:
        self._endpoint.client().put_object(Bucket=self.bucket, Key=key, Body=data)
        return f"s3://{self.bucket}/{key}"

    def objects(self) -> dict[str, bytes]:
        """All that is stored, by key below the queue's prefix; none may hold what is root's."""
        prefix = "queues/q/"
        keys = self._endpoint.keys(self.bucket, prefix)
        found = {key.removeprefix(prefix): self._endpoint.read(self.bucket, key) for key in keys}
        assert not any(SECRET in data for data in found.values())
        return found

    def results(self) -> dict[str, bytes]:
        """The result files."""
        ours = ("manifest.json", ".log", "queue.json", "queue-state.json", ".jsonl")
        return {key: data for key, data in self.objects().items() if not key.endswith(ours)}


@pytest.fixture
def cloud(world: World, endpoint: Endpoint) -> Cloud:
    return Cloud(world, endpoint)


def test_inputs_results_and_what_a_reboot_took(world: World, cloud: Cloud) -> None:
    """A job could not read its inputs, or would find root's files where its own have been."""
    daemon = world.daemon()
    given = cloud.put("in/data", b"hello\n")
    submit(
        world,
        job(
            "a",
            "umask 077; stat -c %U in/data; mkdir out; cat in/data > out/x; echo >> in/data",
            input_paths=[{"s3": given, "path": "in/"}],
            result_paths=["out/*"],
        ),
        job(
            "b",
            f"touch began; until [ -e {world.home}/go ]; do sleep 0.02; done; "
            "cat out/x; stat -c '%U %a' out/x out; echo more >> out/x",
            depends_on=["a"],
        ),
        result_s3_bucket=cloud.bucket,
    )
    work = world.state / "queues/q/work"
    world.until((work / "began").exists)
    assert log(world, "a") == "nobody\n"
    assert cloud.results() == {"jobs/a/x": b"hello\n"}
    daemon.kill()
    daemon.wait()
    for pid in attempts_alive(world.state):
        with suppress(ProcessLookupError):  # a `sleep` of the job's, which is over
            os.kill(pid, signal.SIGKILL)
    in_another_boot(world)
    shutil.rmtree(work / "out")
    (world.home / "go").touch()
    world.daemon()
    assert world.call("wait").returncode == 0
    assert log(world, "b") == "hello\nnobody 600\nnobody 755\n"
    assert world.jobs()["b"]["attempt"] == 2


def in_another_boot(world: World) -> None:
    """What the state would say had the machine been switched off and on."""
    database = sqlite3.connect(world.state / "queues/q/state.db", isolation_level=None)
    with closing(database):
        database.execute("UPDATE queue SET record = json_set(record, '$.boot_id', 'before')")


def test_a_job_reaches_nothing_of_the_daemons(world: World) -> None:
    """It could read other jobs' secrets, forge how it ended, or stop what is to end it."""
    daemon = world.daemon()
    queue, logs = world.state / "queues/q", world.logs / "queues/q/jobs"
    tries = [
        f"ls {world.state}",
        f"ls {world.state}/queues",
        f"ls {world.state}/locks",
        f"ls {queue}",
        f"cat {queue}/state.db",
        f"cat {queue}/state.db-wal",
        f"cat {queue}/attempts",
        f"echo claim >> {queue}/attempts",
        f"echo > {queue}/spot-notice",
        f"mv {queue}/work {queue}/other",
        f"mv {queue}/attempts .",
        f"ln -s /etc/passwd {logs}/next-stdout.log",
        f"mv {logs} {logs}-2",
        f"rm {logs}/attack-stderr.log",
        f"rm {world.run_dir}/runner.sock",
        f"kill -0 {daemon.pid}",
        "kill -KILL $PPID",
        "kill -STOP $PPID",
        "cat /proc/$PPID/environ",
        "ls /proc/$PPID/fd",
        f"cat /proc/{daemon.pid}/environ",
        "echo 0 > /proc/$PPID/oom_score_adj",
    ]
    each = "\n".join(f"if ( {each} ) >/dev/null 2>&1; then echo '{each}'; fi" for each in tries)
    submit(
        world,
        job("attack", f"{each}\necho over; exit 3"),
        job("next", "echo fine"),
        on_failure="continue",
    )
    assert world.call("wait").returncode == 100
    assert log(world, "attack") == "over\n", "what it could do"
    assert world.jobs()["attack"]["exit_code"] == 3
    assert log(world, "next") == "fine\n"
    assert stat.S_IMODE(world.state.stat().st_mode) == 0o711


def test_a_log_is_never_opened_through_a_link(world: World) -> None:
    """Whoever has the log folder's rights once would have root write where he wants."""
    world.logs.mkdir()
    target = world.home / "target"
    world.daemon()
    (world.logs / "queues/q/jobs").mkdir(parents=True)
    (world.logs / "queues/q/jobs/a-stdout.log").symlink_to(target)
    submit(world, job("a", "echo fine"))
    assert world.call("wait").returncode == 0
    assert not target.exists() and log(world, "a") == "fine\n"


def test_results_that_are_not_the_users_are_recorded_and_left_out(
    world: World, cloud: Cloud
) -> None:
    """A job would have root's files stored for it; or an odd file fail the queue or hang it."""
    (world.home / "secret").write_bytes(SECRET)
    (world.home / "secret").chmod(0o600)
    world.daemon()
    submit(
        world,
        job(
            "a",
            f"echo fine > fine; echo mine > closed; chmod 0 closed; mkfifo fifo; mkdir -m 0 shut;"
            f"ln -s {world.home}/secret soft; ln {world.home}/secret hard; true",
            result_paths=["*", "soft", f"{world.home}/secret", "shut/*", "hard"],
        ),
        result_s3_bucket=cloud.bucket,
    )
    assert world.call("wait").returncode == 105
    assert cloud.results() == {"jobs/a/fine": b"fine\n"}
    told = world.jobs()["a"]
    assert told["status"] == "completed" and told["results_uploaded"] is False
    for words in ("closed' can't be read", "secret' can't be read", "fifo' is a fifo"):
        assert words in told["result_error"]


def test_a_folder_swapped_during_collection_leads_nowhere(world: World, cloud: Cloud) -> None:
    """A job that wins a race against the daemon would have root's files stored."""
    vault = world.home / "vault"
    vault.mkdir()
    (vault / "f").write_bytes(SECRET)
    (vault / "f").chmod(0o600)
    world.daemon()
    swap = f"while :; do mv d e; ln -s {vault} d; rm d; mv -T e d; done 2>/dev/null"
    racers = [f"r{number}" for number in range(8)]
    submit(
        world,
        job("swap", f"mkdir d; echo fine > d/f; ({swap}) & echo on", keep_background=True),
        *(job(name, "true", result_paths=["d/f", "d/*"]) for name in racers),
        result_s3_bucket=cloud.bucket,
    )
    assert world.call("wait").returncode in (0, 105)
    assert set(cloud.results().values()) <= {b"fine\n"}
    assert {world.jobs()[name]["status"] for name in racers} == {"completed"}
    assert os.listdir(vault) == ["f"]


def test_root_acts_for_the_user_also_without_a_daemon(world: World, cloud: Cloud) -> None:
    """`runner upload` by hand would read with root's rights what the daemon did not."""
    (world.home / "secret").write_bytes(SECRET)
    (world.home / "secret").chmod(0o600)
    with world.config.open("a") as config:
        config.write('upload_timeout = "500ms"\n')
    daemon = world.daemon(env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    ends = f"ln -s {world.home}/secret soft; echo fine > fine"
    submit(
        world,
        job("a", ends, result_paths=["soft", "fine"]),
        result_s3_bucket=cloud.bucket,
    )
    assert world.call("wait").returncode == 105
    submit(world, job("b", "echo $$ > pid; sleep 300"), name="r")
    pid = world.state / "queues/r/work/pid"
    world.until(lambda: pid.exists() and pid.read_text())
    daemon.kill()
    daemon.wait()
    done = world.call("cancel", "--all", "--queue", "r")
    assert done.returncode == 0 and "cancelled" in done.stdout, done.stderr
    assert attempts_alive(world.state) == []
    done = world.call("upload", "--queue", "q")
    assert done.returncode in (0, 105), done.stderr
    assert cloud.results() == {"jobs/a/fine": b"fine\n"}
    assert "secret' can't be read: Permission denied" in world.jobs()["a"]["result_error"]


def test_prune_ends_with_whatever_a_job_has_left(world: World) -> None:
    """A tree too deep for a recursion would end the daemon, each day anew; a link lead it out."""
    keep = world.home / "keep"
    keep.mkdir()
    (keep / "f").touch()
    world.daemon()
    deep = "mkdir -p $(printf 'd/%.0s' {1..1500})"
    submit(world, job("a", f"ln -s {keep} link; mkdir -m 0 shut; {deep}"))
    assert world.call("wait").returncode == 0
    done = world.call("prune", "--older-than", "1ms")
    assert (done.returncode, done.stdout) == (0, "removed q\n")
    assert os.listdir(world.state / "queues") == [] and os.listdir(keep) == ["f"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no-such-user", "this machine has no such user; make one (useradd"),
        ("nobody", "may be written to by nobody, the job_user"),
    ],
)
def test_a_user_that_cannot_be_is_told_before_anything_is_written(
    world: World, name: str, why: str
) -> None:
    """The daemon would fail at the first job, or trust a folder that jobs can replace."""
    world.config.write_text(world.config.read_text().replace('"nobody"', f'"{name}"'))
    elsewhere = world.home / "elsewhere"
    (elsewhere / "state").mkdir(parents=True)
    os.chown(elsewhere, NOBODY.pw_uid, 0)
    world.state.symlink_to(elsewhere / "state")
    refused = world.call("daemon")
    assert refused.returncode == 2 and why in refused.stderr
    assert os.listdir(world.state) == [] and not world.run_dir.exists()


def test_a_user_that_cannot_pass_is_told(world: World) -> None:
    """Every job would fail, with a folder that is there."""
    world.home.parent.chmod(0o700)
    refused = world.call("daemon")
    assert refused.returncode == 2 and "nobody can't pass through" in refused.stderr
    assert not world.state.exists()


def test_another_user_can_be_chosen_while_a_queue_is_open(world: World) -> None:
    """Its next job could not write to the folder of the one before."""
    daemon = world.daemon()
    submit(
        world,
        job("a", "echo > a; chmod 700 ."),
        job("wait", f"until [ -e {world.home}/go ]; do sleep 0.02; done"),
        job("b", "id -un; echo > b; stat -c %U a b"),
    )
    world.until(lambda: world.jobs().get("wait", {}).get("status") == "running")
    daemon.terminate()
    assert daemon.wait(20) == 0
    world.config.write_text(world.config.read_text().replace('"nobody"', '"daemon"'))
    world.daemon()
    (world.home / "go").touch()
    assert world.call("wait").returncode == 0
    assert log(world, "b") == "daemon\nnobody\ndaemon\n"
