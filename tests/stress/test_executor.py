"""The Executor on this machine: what travels, what survives, and how it ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path
from typing import Any

import pytest

from runner import Executor, JobError, PayloadError
from runner.errors import ConflictError, LockedError, NotFoundError

PATIENCE = 60


def until(condition: Callable[[], object]) -> None:
    """Wait for it, for a minute at most."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to it in time"
        time.sleep(0.02)


def script(text: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program of its own to its end."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **options,
    )


@pytest.fixture(scope="module")
def ex() -> Iterator[Executor]:
    with Executor(max_workers=4) as made:
        yield made


# -- what travels ------------------------------------------------------------------------------


class CustomError(Exception):
    """Can be pickled, but not unpickled: its constructor takes two arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def test_classes_of_the_script_come_back_as_themselves() -> None:
    """A result's class would be another one than the script's: isinstance fails."""
    ended = script("""
        from runner import Executor
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: int

        def move(point, by=[1, 2]):
            return Point(point.x + sum(by))

        with Executor(1) as ex:
            moved = ex.submit(move, Point(1)).result()
            assert type(moved) is Point and moved == Point(4), moved
    """)
    assert ended.returncode == 0, ended.stderr


def test_an_exception_that_can_not_be_unpickled_says_what_it_said(ex: Executor) -> None:
    """The parent would fail in the constructor, and the message be lost."""

    def fail() -> None:
        raise CustomError("salt", "water")

    with pytest.raises(JobError, match="CustomError: salt and water") as caught:
        ex.submit(fail).result(PATIENCE)
    assert "in fail" in str(caught.value.__cause__)


def test_a_result_that_can_not_be_pickled_is_named(ex: Executor) -> None:
    """The call would seem to have vanished."""

    def locks() -> dict[str, list[object]]:
        import threading

        return {"locks": [1, threading.Lock()]}

    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(PayloadError, match=r"\['locks'\]: \[1\] \(a _thread.lock\)"):
        ex.submit(locks).result(PATIENCE)
    with pytest.raises(PayloadError, match="generator"):
        ex.submit(numbers).result(PATIENCE)


def test_large_arguments_and_results_travel(ex: Executor) -> None:
    """100 MB would not fit into a request, a pipe or a command line."""
    data = bytes(100_000_000)
    assert ex.submit(lambda given: given + b"!", data).result(PATIENCE) == data + b"!"


def test_an_interpreter_of_another_version_is_an_error_and_no_crash(ex: Executor) -> None:
    """It would end with a segmentation fault, or worse, not."""
    target = ex._session.targets[0]

    def store(job_id: str, body: bytes, path: list[str]) -> Any:
        reference = type(target).store_call(target, job_id, body, path)
        where = Path(reference.where)
        where.write_bytes(where.read_bytes().replace(b'"cpython-', b'"cpython-0', 1))
        return reference

    target.store_call = store  # type: ignore[method-assign]
    try:
        call = ex.submit(int)
    finally:
        del target.store_call  # type: ignore[method-assign]
    with pytest.raises(PayloadError, match=r"Python 3\.[0-9.]+ \(cpython-0[0-9]+\)"):
        call.result(PATIENCE)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("os._exit(7)", "without a result: command execution failed: exit status 7"),
        ("os.kill(os.getpid(), 9)", "killed by signal SIGKILL"),
        ("os.abort()", "killed by signal SIGABRT"),
    ],
)
def test_a_process_that_dies_fails_its_own_call_only(ex: Executor, end: str, told: str) -> None:
    """All other calls would fail with it, as those of a broken pool do."""
    dying = ex.submit(eval, end, {"os": os})
    with pytest.raises(JobError, match=told):
        dying.result(PATIENCE)
    assert ex.submit(pow, 2, 5).result(PATIENCE) == 32


def test_a_package_travels(tmp_path: Path) -> None:
    """A function of a module that only this machine has could not be called."""
    package = tmp_path / "mypackage"
    package.mkdir()
    (package / "__init__.py").write_text("from mypackage.inner import VALUE\n")
    (package / "inner.py").write_text("VALUE = 42\n")

    def value() -> int:
        import mypackage

        return mypackage.VALUE

    with Executor(1, code=package) as ex:
        (package / "inner.py").write_text("VALUE = 0\n")  # a copy was made
        assert ex.submit(value).result(PATIENCE) == 42
    with pytest.raises(ValueError, match="is not a folder"):
        Executor(1, code=tmp_path / "nothing")


# -- options -----------------------------------------------------------------------------------


def test_what_is_asked_for_is_done_or_refused(ex: Executor, tmp_path: Path) -> None:
    """A timeout, a retry or a variable would be dropped in silence."""
    with pytest.raises(JobError, match="timed out") as caught:
        ex.options(timeout=0.5).submit(time.sleep, 60).result(PATIENCE)
    assert caught.value.status == "timed_out"
    tries = tmp_path / "tries"

    def third_time() -> int:
        with open(tries, "a") as file:
            file.write(".")
        if tries.stat().st_size < 3:
            raise ValueError("not yet")
        return tries.stat().st_size

    retry = {"max_attempts": 5, "backoff": "fixed", "base_delay": "10ms"}
    assert ex.options(retry=retry).submit(third_time).result(PATIENCE) == 3
    both = ex.options(env={"A": "1", "B": "1"}).options(env={"B": "2"})
    assert both.submit(lambda: os.environ["A"] + os.environ["B"]).result(PATIENCE) == "12"
    slow = ex.submit_command("sleep 60", timeout="300ms").result(PATIENCE)
    assert (slow.status, slow["status"], slow.exit_code) == ("timed_out", "TIMEOUT", None)
    for wrong in ({"queue": "q"}, {"image": "x"}, {"region": "us-east-1"}, {"cpus": 4096}):
        with pytest.raises(ValueError, match=f'"{next(iter(wrong))}"'):
            ex.submit_command("true", wrong)
    for command in ("", [], ["a\0b"], 3, [1]):
        with pytest.raises(ValueError, match="command"):
            ex.submit_command(command)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='did you mean "memory"'):
        ex.options(memroy="1GiB")
    for limit in ({"max_jobs": 0}, {"max_jobs": True}, {"when_full": "drop"}):
        with pytest.raises(ValueError, match=next(iter(limit))):
            Executor(1, **limit)
    with pytest.raises(ValueError, match="target"):
        Executor(target="lokal")


def test_files_that_a_command_made_are_in_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`result_paths` would be taken and forgotten."""
    monkeypatch.chdir(tmp_path)
    with Executor(1) as ex:
        made = ex.submit_command(
            "mkdir -p out/a; touch out/1.txt out/a/2.txt out/.3.txt",
            result_paths=["out/**/*.txt", f"{tmp_path}/out/1.*"],
        )
        names = ["out/.3.txt", "out/1.txt", "out/a/2.txt"]
        assert made.result(PATIENCE).results == tuple(f"{tmp_path}/{name}" for name in names)
        failed = ex.submit_command("touch x.txt; false", result_paths=["*.txt"])
        assert failed.result(PATIENCE).results == ()
        with pytest.raises(ValueError, match=r"result_paths\[0\]"):
            ex.submit_command("true", result_paths=["~/x"])
        with pytest.raises(ValueError, match="must be a list of globs"):
            ex.submit_command("true", result_paths="x")


# -- cancel ------------------------------------------------------------------------------------


def test_cancel_at_every_state() -> None:
    """A call that was cancelled would run, or one that runs would be lost."""
    with Executor(1) as ex:
        running = ex.submit_command("sleep 60")
        waiting = [ex.submit(print) for _ in range(20)]
        fresh = ex.submit(print)
        assert fresh.cancel() and fresh.cancel()
        with pytest.raises(CancelledError):
            fresh.result(0)
        until(running.running)
        assert not running.cancel()
        told = threading.Event()
        waiting[7].add_done_callback(lambda _: told.set())
        assert waiting[7].cancel() and told.wait(PATIENCE)
        waiting[8].terminate()
        running.terminate()
        assert running.result(PATIENCE).status == "cancelled" and not running.cancel()
        assert [each.exception(PATIENCE) for each in waiting[9:]] == [None] * 11
        assert not waiting[9].cancel()
    assert waiting[8].cancelled()


def test_thousands_of_futures_need_no_threads_of_their_own(scaled: Callable[[int], int]) -> None:
    """A thread, a timer or a poll for each would end a session of 100,000."""
    import asyncio

    with Executor(1) as ex:
        before = threading.active_count()
        running = ex.submit_command("sleep 600")
        many = [ex.submit_command("sleep 600") for _ in range(scaled(20_000))]
        until(running.running)
        assert threading.active_count() <= before + 2
        ex.shutdown(wait=False, cancel_futures=True)
        running.terminate()
        assert not wait(many, PATIENCE).not_done and all(each.cancelled() for each in many)

    async def through_asyncio() -> int:
        with Executor(1) as ex:
            return await asyncio.get_running_loop().run_in_executor(ex, pow, 2, 5)

    assert asyncio.run(through_asyncio()) == 32


# -- how it ends -------------------------------------------------------------------------------

MARKS = """
    import sys, time
    from runner import Executor
    where, on_exit = sys.argv[1:]

    def mark(seconds, name):
        time.sleep(seconds)
        open(f"{where}/{name}", "w").close()

    ex = Executor(1, on_exit=on_exit, state_dir=f"{where}/state")
    first = ex.submit(mark, 1, "first")
    second = ex.submit(mark, 0, "second")
    while first.status() != "running":
        time.sleep(0.01)
"""


def marks(where: Path) -> set[str]:
    return {each.name for each in where.iterdir() if each.is_file()}


def test_the_interpreters_end_waits(tmp_path: Path) -> None:
    """Work would be cut off at the end of a script without `with`."""
    ended = script(MARKS, str(tmp_path), "wait")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert marks(tmp_path) == {"first", "second"}


def test_the_interpreters_end_cancels(tmp_path: Path) -> None:
    """Jobs that nobody wants any more would hold up the end of a script."""
    ended = script(MARKS, str(tmp_path), "cancel")
    assert (ended.returncode, ended.stderr) == (0, "")
    time.sleep(1.2)
    assert marks(tmp_path) == set()


def test_the_interpreters_end_detaches_and_another_session_attaches(tmp_path: Path) -> None:
    """A notebook that is restarted would lose what it had submitted."""
    ended = script(MARKS + "    print(first.job_id, second.job_id)\n", str(tmp_path), "detach")
    assert (ended.returncode, ended.stderr) == (0, "")
    first, second = ended.stdout.split()
    with Executor(1, state_dir=tmp_path / "state") as ex:
        with pytest.raises(NotFoundError, match="no job"):
            ex.attach("nothing-1")
        attached = ex.attach(first)
        assert ex.attach(first) is attached
        assert attached.result(PATIENCE) is None and ex.attach(second).result(PATIENCE) is None
        assert marks(tmp_path) == {"first", "second"}
        third = ex.submit(int)
        assert third.job_id == "int-3" and third.result(PATIENCE) == 0


def test_a_session_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    """kill -9 would take away the jobs that run, or run them twice."""
    program = textwrap.dedent(MARKS) + textwrap.dedent("""
        def count():
            with open(f"{where}/count", "a") as file:
                file.write(".")
            time.sleep(1)
            return 7
        print(ex.submit(count).job_id, flush=True)
        time.sleep(60)
    """)
    arguments = [sys.executable, "-c", program, str(tmp_path), "wait"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        job_id = process.stdout.readline().strip()
        until(lambda: (tmp_path / "count").exists())
        process.kill()
    with Executor(1, state_dir=tmp_path / "state") as ex:
        assert ex.attach(job_id).result(PATIENCE) == 7
    assert (tmp_path / "count").read_text() == "."
    with Executor(1, state_dir=tmp_path / "state") as ex:  # the queue has ended: it opens again
        assert ex.attach(job_id).result(PATIENCE) == 7
        assert ex.submit(int, "8").result(PATIENCE) == 8


def test_two_executors_on_one_queue_are_refused(tmp_path: Path) -> None:
    """Both would run its jobs."""
    with Executor(1, state_dir=tmp_path), pytest.raises(LockedError, match="an Executor"):
        Executor(1, state_dir=tmp_path)
    with pytest.raises(ValueError, match="needs a state_dir"):
        Executor(1, on_exit="detach")


def test_a_queue_of_a_document_is_no_executors(tmp_path: Path) -> None:
    """Jobs would be added to a queue whose document says otherwise."""
    (tmp_path / "queue.json").write_text(
        '{"queue_id": "executor", "queue_name": "x", "on_failure": "stop", "global_timeout": "1h",'
        '"jobs": [{"job_id": "a", "command": "true", "timeout": "1m"}]}'
    )
    state = tmp_path / "state"
    run = [sys.executable, "-m", "runner", "run", "queue.json", "--state-dir", str(state)]
    subprocess.run(run, cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)
    with pytest.raises(ConflictError, match="made from a document"):
        Executor(1, state_dir=state)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Each script would leave a folder in /tmp, and processes."""
    program = """
        import os
        from runner import Executor
        ex = Executor(1)
        ex.submit(int).result()
        del ex
    """
    ended = script(program, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_an_executor_that_is_let_go_of_ends_after_its_work() -> None:
    """Its thread and its files would stay as long as the process."""
    ex = Executor(1)
    view, session = ex.options(timeout=60), ex._session
    call = view.submit(time.sleep, 0.5)
    del ex
    gc.collect()
    assert not session.closed
    del view
    gc.collect()
    assert session.closed and call.result(PATIENCE) is None
    session.join()


def test_a_fork_takes_no_part() -> None:
    """The child would wait for threads that it doesn't have, or end the parent's queue."""
    with Executor(1) as ex:
        call = ex.submit(time.sleep, 0.5)
        pid = os.fork()
        if pid == 0:
            try:
                ex.submit(int)
            except RuntimeError as error:
                ex.shutdown()
                os._exit(0 if "fork" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert call.result(PATIENCE) is None


def test_ctrl_c_in_result_leaves_the_job_alone() -> None:
    """A person who stops waiting would lose the work."""
    with Executor(1) as ex:
        call = ex.submit(time.sleep, 1)
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            call.result(PATIENCE)
        assert call.result(PATIENCE) is None
