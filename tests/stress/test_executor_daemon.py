"""An Executor's queue on a daemon: what survives whom, and whom it keeps from what."""

from __future__ import annotations

import asyncio
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scale import SEED
from world import World

from runner import Executor, JobError, JobFuture
from runner.control.protocol import Peer
from runner.control.server import Server
from runner.errors import ConflictError, LockedError, UnreachableError, UsageError

PATIENCE = 60


def on(world: World, workers: int = 2, **more: Any) -> Executor:
    """An Executor on this world's daemon."""
    socket = str(world.run_dir / "runner.sock")
    return Executor(workers, target="daemon", socket=socket, **more)


def until(condition: Callable[[], object]) -> None:
    """Wait for it, for a minute at most."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to it in time"
        time.sleep(0.02)


def kill(daemon: subprocess.Popen[bytes]) -> None:
    daemon.kill()
    daemon.wait()


def gate(world: World, name: str) -> str:
    """A command that counts its starts, and ends once there is a file."""
    began, go = world.home / f"began.{name}", world.home / f"go.{name}"
    return f"echo >> {began}; until [ -e {go} ]; do sleep 0.02; done; echo $JOB_ATTEMPT"


def release(world: World, name: str) -> None:
    (world.home / f"go.{name}").touch()


def _more_than_a_third(calls: list[JobFuture]) -> bool:
    return sum(each.done() for each in calls) > len(calls) / 3


def starts(world: World, name: str) -> int:
    path = world.home / f"began.{name}"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_the_guides_program_prints_what_it_says(world: World) -> None:
    """The first thing that people copy would not run."""
    world.daemon()
    guide = (Path(__file__).parents[2] / "docs/guides/executor.md").read_text()
    start = guide.index("# needs a daemon")
    program = guide[start : guide.index("```", start)]
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, env=world.env, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == ("1024 42 3\n", "") and "# prints: 1024 42 3\n" in program


def test_the_example_runs_on_a_daemon(world: World) -> None:
    """A program would have to be written for the place where it runs."""
    world.daemon()
    program = Path(__file__).parents[2] / "examples/executor/anywhere.py"
    words = [sys.executable, str(program), "target=daemon"]
    done = subprocess.run(words, env=world.env, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == ("3 hello 285\n", "")


# -- the daemon goes away ----------------------------------------------------------------------


def test_a_killed_daemon_costs_no_job_and_no_future(world: World) -> None:
    """A restart or an upgrade of the service would fail what a program waits for."""
    daemon = world.daemon()
    with on(world, 2) as ex:
        running = ex.submit_command(gate(world, "a"))
        ends_alone = ex.submit_command(gate(world, "b"))
        waiting = ex.submit(pow, 2, 10)
        until(lambda: starts(world, "a") and starts(world, "b"))
        kill(daemon)
        meanwhile = ex.submit_command("echo meanwhile")
        assert not running.done() and not running.cancel()
        release(world, "b")
        world.daemon()
        late = ex.submit(lambda: "late")
        assert ends_alone.result(PATIENCE).stdout == "1\n"
        assert waiting.result(PATIENCE) == 1024 and late.result(PATIENCE) == "late"
        assert meanwhile.result(PATIENCE).stdout == "meanwhile\n"
        release(world, "a")
        assert running.result(PATIENCE).stdout == "1\n"
        assert (starts(world, "a"), starts(world, "b")) == (1, 1)


def test_a_daemon_that_dies_again_and_again_runs_each_job_once(world: World) -> None:
    """A request that is made again would add its jobs twice, or one be lost between two daemons."""
    daemon = world.daemon()
    marks = world.home / "marks"
    with on(world, 4) as ex:
        calls: list[JobFuture] = []
        for round_ in range(4):
            calls += [
                ex.submit_command(f"echo {round_}.{each} >> {marks}; sleep 0.2")
                for each in range(15)
            ]
            until(partial(_more_than_a_third, calls))
            kill(daemon)
            daemon = world.daemon()
        assert all(each.result(2 * PATIENCE).ok for each in calls)
    told = marks.read_text().split()
    assert sorted(told) == sorted(f"{a}.{b}" for a in range(4) for b in range(15))


def test_a_daemon_that_stays_away_fails_the_futures_and_not_the_jobs(world: World) -> None:
    """A program would wait for ever; or what it had submitted be ended with it."""
    daemon = world.daemon()
    ex = on(world, 1, name="away", reconnect_timeout=1)
    call = ex.submit_command(gate(world, "a"))
    until(lambda: starts(world, "a"))
    kill(daemon)
    with pytest.raises(JobError, match="the daemon isn't running: start it with `runner daemon`"):
        call.result(PATIENCE)
    with pytest.raises(JobError, match="not worked on any more"):
        ex.submit(int)
    ex.shutdown()
    release(world, "a")
    world.daemon()
    with on(world, 1, name="away") as again:
        assert again.attach(call.job_id).result(PATIENCE).stdout == "1\n"


def test_without_a_daemon_it_is_said_how_to_start_one(world: World) -> None:
    """People would get a refused connection, and look for the fault in their program."""
    with pytest.raises(UnreachableError, match="isn't running: start it with `runner daemon`"):
        on(world)
    with pytest.raises(TypeError, match='did you mean "socket"'):
        Executor(target="daemon", soket="x")
    with pytest.raises(ValueError, match="needs a name"):
        Executor(target="daemon", on_exit="detach")
    with pytest.raises(ValueError, match="names the daemon"):
        Executor(targets={"daemon": {"socket": "x", "state_dir": "y"}})


def test_an_older_daemon_is_told_of_as_such(tmp_path: Path) -> None:
    """People would look for a mistake in their program."""

    async def answer(message: dict[str, Any], peer: Peer) -> dict[str, Any]:
        if message["request"] != "ping":
            raise UsageError(f'unknown request "{message["request"]}"')
        return {"version": "0.0.9", "pid": os.getpid(), "state_dir": str(tmp_path)}

    async def open_one() -> None:
        server = Server(answer, tmp_path / "runner.sock", mode=0o600, may_act=True)
        await server.start()
        try:
            socket = str(tmp_path / "runner.sock")
            await asyncio.to_thread(Executor, target="daemon", socket=socket)
        finally:
            await server.close()

    with pytest.raises(UnreachableError, match=r"is of an older version.* restart it"):
        asyncio.run(open_one())


# -- the Executor goes away --------------------------------------------------------------------


def test_an_executor_that_is_killed_leaves_its_queue_to_the_next(world: World) -> None:
    """What it had submitted would be lost, or its name be taken for ever."""
    world.daemon()
    program = f"""
        from runner import Executor
        ex = Executor(1, target="daemon", socket="{world.run_dir}/runner.sock", name="mine")
        calls = ex.submit_command({gate(world, "a")!r}), ex.submit(pow, 2, 5)
        print(*[each.job_id for each in calls], flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline().split()
        until(lambda: starts(world, "a"))
        with pytest.raises(LockedError, match=rf"in use by an Executor \(pid {process.pid}\)"):
            on(world, name="mine")
        process.kill()
    release(world, "a")
    world.until(lambda: world.jobs("mine").get(second, {}).get("status") == "completed")
    with on(world, 1, name="mine") as ex:
        assert ex.attach(first).result(PATIENCE).stdout == "1\n"
        assert ex.attach(second).result(PATIENCE) == 32
        assert ex.submit(int, "7").result(PATIENCE) == 7
    with Executor(1, state_dir=world.home / "local", name="mine") as local:
        assert local.submit(int).result(PATIENCE) == 0
    with pytest.raises(ConflictError, match="is the daemon's"):
        Executor(1, state_dir=world.state, name="mine")


PROGRAM = """
import sys, time
from runner import Executor

def mark(path, word):
    with open(path, "a") as file:
        file.write(word + "\\n")
    time.sleep(0.3)

socket, name, marks = sys.argv[1:]
ex = Executor(3, target="daemon", socket=socket, name="mine", on_exit="detach")
for number in range(20):
    word = f"{name}.{number}"
    if number % 2:
        ex.submit_command(f"echo {word} >> {marks}; sleep 0.1")
    else:
        ex.submit(mark, marks, word)
    time.sleep(0.02)
time.sleep(600)
"""


def test_whoever_is_killed_when_each_job_that_is_there_runs_once(
    world: World, scaled: Callable[[int], int]
) -> None:
    """Between a program and a daemon that both may die a job would be lost, or run twice."""
    draw = random.Random(f"{SEED}/executor-and-daemon")
    daemon = world.daemon()
    socket, marks = str(world.run_dir / "runner.sock"), world.home / "marks"
    for number in range(scaled(8)):
        words = [sys.executable, "-c", PROGRAM, socket, str(number), str(marks)]
        with subprocess.Popen(words) as program:
            time.sleep(draw.uniform(0.5, 3))  # reason: the moment is what is drawn
            if draw.random() < 0.5:
                kill(daemon)
                daemon = world.daemon()
                time.sleep(draw.uniform(0, 0.5))  # reason: the same
            program.kill()
            program.wait()
        if draw.random() < 0.5:
            kill(daemon)
            daemon = world.daemon()
    with on(world, 3, name="mine") as ex:
        answer = world.ask("status", queue="mine", limit=500)
        jobs = [each["job_id"] for each in answer.get("jobs", ())]
        for each in jobs:
            ex.attach(each).result(PATIENCE)
    told = marks.read_text().split() if marks.exists() else []
    assert len(told) == len(set(told)) == len(jobs)


def test_an_idle_queue_is_closed_and_opened_by_the_next_job(world: World) -> None:
    """A forgotten notebook would hold its queue, and a machine, for ever."""
    env = {"RUNNER_OPEN_QUEUE_IDLE": "500ms", "RUNNER_ON_COMPLETE": "stop"}
    daemon = world.daemon(env=env)
    with on(world, name="idle") as ex:
        assert ex.submit(pow, 2, 3).result(PATIENCE) == 8
        busy = ex.submit_command("sleep 2")
        assert busy.result(PATIENCE).ok and "open_queue_closed" not in world.stderr
        world.until(lambda: world.ask("status", queue="idle")["queue"]["status"] == "completed")
        world.until(lambda: 'why="nothing to do for 500ms"' in world.stderr)
        world.until(lambda: "machine_end_planned" in world.stderr)
        assert ex.submit(pow, 2, 4).result(PATIENCE) == 16
        assert "machine_end_called_off" in world.stderr
        world.until(lambda: world.ask("status", queue="idle")["queue"]["status"] == "completed")
        kill(daemon)
        world.daemon(env=env)
        assert ex.submit(pow, 2, 5).result(PATIENCE) == 32


# -- beside others -----------------------------------------------------------------------------


def test_an_open_queue_holds_up_no_other_and_is_held_up_by_none(world: World) -> None:
    """A notebook that is open over night would stop all that was submitted, or wait for it."""
    world.daemon()
    document = world.document({"job_id": "x", "command": gate(world, "x"), "timeout": "5m"})
    with on(world) as ex, on(world) as other:
        assert ex.submit(int).result(PATIENCE) == 0
        assert world.call("submit", document).returncode == 0
        world.until(lambda: starts(world, "x"))
        assert ex.submit(int).result(PATIENCE) == other.submit(int).result(PATIENCE) == 0
        release(world, "x")
        assert world.call("wait", "--queue", "q").returncode == 0


def test_a_broken_open_queue_is_its_own_trouble(world: World) -> None:
    """One damaged file would take the others' jobs with it."""
    daemon = world.daemon()
    with on(world, name="good") as good:
        broken = on(world, name="broken", reconnect_timeout=5)
        assert broken.submit(int).result(PATIENCE) == 0
        kill(daemon)
        database = world.state / "queues/broken/state.db"
        database.write_bytes(b"rubbish" * 1000)
        for more in ("-wal", "-shm"):
            database.with_name(f"state.db{more}").unlink(missing_ok=True)
        world.daemon()
        with pytest.raises((JobError, ConflictError), match=r"state\.db"):
            broken.submit_command("true").result(PATIENCE)
        broken.shutdown()
        assert good.submit(pow, 2, 3).result(PATIENCE) == 8


def test_a_thousand_futures_need_no_thread_of_their_own(
    world: World, scaled: Callable[[int], int]
) -> None:
    """A thread or a connection for each would end a session of thousands."""
    world.daemon()
    count = scaled(1_000)
    with on(world, 4) as ex:
        assert ex.submit(int).result(PATIENCE) == 0
        before = threading.active_count()
        held = len(os.listdir("/proc/self/fd"))
        many = [ex.submit_command("true") for _ in range(count)]
        assert threading.active_count() == before
        assert not wait(many, 5 * PATIENCE).not_done and all(each.result().ok for each in many)
        assert len(os.listdir("/proc/self/fd")) <= held + 2
        blocked = ex.submit_command("sleep 600")
        waiting = [ex.submit_command("sleep 600") for _ in range(count)]
        until(blocked.running)
        ex.shutdown(wait=False, cancel_futures=True)
        ex._session._end_all()
        assert not wait([blocked, *waiting], PATIENCE).not_done
    assert {each.cancelled() or each.result().status for each in waiting} <= {True, "cancelled"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts jobs as another user")
def test_calls_run_as_the_jobs_user_who_alone_reads_them() -> None:
    """They would have root's rights, or fail because they can't read their own arguments."""
    nobody = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(prefix="job-user-"))
    folder.chmod(0o755)
    world = World(folder, job_user="nobody")
    world.home.chmod(0o755)
    try:
        world.daemon()
        with on(world, 1, name="theirs") as ex:
            script = "id -un; echo x > x.csv; ln -s /etc/shadow y.csv"
            made = ex.submit_command(script, result_paths=["*", "/etc/shadow"]).result(PATIENCE)
            assert made.stdout == "nobody\n"
            assert [Path(each).name for each in made.results] == ["shadow", "x.csv", "y.csv"]
            running = ex.submit_command("sleep 600")
            until(running.running)
            call = ex.submit(os.geteuid)
            payloads = world.state / "queues/theirs/payloads"
            found = [payloads, payloads / f"{call.job_id}.call"]
            assert {each.stat().st_uid for each in found} == {nobody.pw_uid}
            assert {each.stat().st_mode & 0o077 for each in found} == {0}
            running.terminate()
            # Root's own interpreter may be where that user can't run it: that is told then.
            assert call.exception(PATIENCE) is None or "Permission denied" in str(call.exception())
    finally:
        world.close()
        shutil.rmtree(folder)


def test_ctrl_c_at_exit_ends_the_jobs(world: World) -> None:
    """A script that waits at its end could not be stopped, or its jobs go on unwanted."""
    world.daemon()
    program = f"""
        from runner import Executor
        ex = Executor(1, target="daemon", socket="{world.run_dir}/runner.sock", name="mine")
        f = ex.submit_command("sleep 600")
        while not f.running():
            pass
        print(f.job_id, flush=True)
    """
    words = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        job_id = process.stdout.readline().strip()
        time.sleep(0.5)  # reason: it is to be waiting in its exit handler
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert world.ask("job", queue="mine", job=job_id)["job"]["status"] == "cancelled"
