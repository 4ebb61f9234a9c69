"""What every target of an Executor does with many jobs, and how jobs and sessions end.

See test_executor_on_targets.py.
"""

from __future__ import annotations

import inspect
import time
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    CancelledError,
    TimeoutError,
    as_completed,
    wait,
)
from pathlib import Path
from typing import Any

import pytest
import test_executor_on_targets
from executor_targets import ExecutorTarget, until

from runner import Executor, JobError
from runner.errors import NotFoundError

pytestmark = pytest.mark.share


# -- ending jobs -------------------------------------------------------------------------------


def test_cancel_at_every_state(target: ExecutorTarget, patience: float) -> None:
    """A call that was cancelled would run, or one that runs would be lost."""
    with target.make(1) as ex:
        running = ex.submit_command("sleep 600")
        until(running.running, patience)
        waiting = [ex.submit(int) for _ in range(4)]
        told: list[object] = []
        waiting[0].add_done_callback(told.append)
        assert waiting[0].cancel() and waiting[0].cancel() and waiting[0].cancelled()
        with pytest.raises(CancelledError):
            waiting[0].result(0)
        until(lambda: told == [waiting[0]], patience)
        waiting[1].terminate()
        assert not running.cancel() and running.status() == "running"
        running.terminate()
        assert running.result(patience).status == "cancelled" and not running.cancel()
        assert [each.result(patience) for each in waiting[2:]] == [0, 0]
        assert not waiting[2].cancel() and not waiting[2].cancelled()
        until(waiting[1].cancelled, patience)


def test_a_call_that_runs_can_be_terminated(target: ExecutorTarget, patience: float) -> None:
    """It would hold its machine until it ends by itself."""
    with target.make(2) as ex:
        call = ex.submit(time.sleep, 600)
        until(call.running, patience)
        call.terminate()
        with pytest.raises(JobError, match="cancelled") as caught:
            call.result(patience)
        assert caught.value.status == "cancelled" and not call.cancelled()


def test_shutdown_cancels_what_waits_and_waits_for_what_runs(
    target: ExecutorTarget, patience: float
) -> None:
    """Work would be cut off, or go on where it isn't wanted."""
    ex = target.make(1)
    running = ex.submit_command("sleep 2; echo done")
    until(running.running, patience)
    waiting = [ex.submit(int) for _ in range(5)]
    ex.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="after shutdown"):
        ex.submit(int)
    ex.shutdown(wait=True)
    assert running.result(0).stdout == "done\n" and all(each.cancelled() for each in waiting)


def test_shutdown_without_waiting_runs_all(target: ExecutorTarget, patience: float) -> None:
    """What was submitted before would be dropped."""
    ex = target.make(2)
    calls = [ex.submit(pow, each, 2) for each in range(4)]
    ex.shutdown(wait=False)
    assert [each.result(patience) for each in calls] == [0, 1, 4, 9]
    ex.shutdown()


# -- several at once ---------------------------------------------------------------------------


def test_those_that_end_first_come_first(target: ExecutorTarget, patience: float) -> None:
    """`as_completed` and `wait` would hold quick ones back until the slowest is done."""
    with target.make(3) as ex:
        slow, other = ex.submit_command("sleep 600"), ex.submit(time.sleep, 600)
        quick = [ex.submit(pow, 2, 3), ex.submit_command("true")]
        order = as_completed([slow, *quick, other], timeout=patience)
        assert {next(order), next(order)} == {*quick}
        first = wait([slow, *quick], timeout=patience, return_when=FIRST_COMPLETED)
        assert first.done == {*quick} and first.not_done == {slow}
        slow.terminate()
        other.terminate()
        assert not wait([slow, other], timeout=patience, return_when=ALL_COMPLETED).not_done


def test_jobs_run_in_the_order_of_submission(target: ExecutorTarget, patience: float) -> None:
    """A small call would overtake a large one. A command may overtake calls: it has no inputs."""
    with target.make(1) as ex:
        order: list[str] = []
        calls = [ex.submit(len, bytes(size)) for size in (5_000_000, 0, 1_000_000, 0)]
        commands = [ex.submit_command("true") for _ in range(3)]
        for each in (*calls, *commands):
            each.add_done_callback(lambda done: order.append(done.job_id))
        assert not wait([*calls, *commands], timeout=patience).not_done
        until(lambda: len(order) == 7, patience)
        for some in (calls, commands):
            ids = [each.job_id for each in some]
            assert [each for each in order if each in ids] == ids


def test_map_keeps_the_order_of_its_arguments(ex: Executor, patience: float) -> None:
    """Results would belong to other arguments than they stand for."""
    assert list(ex.map(pow, range(6), range(6), timeout=patience)) == [n**n for n in range(6)]
    chunked = ex.map(lambda n: n * n, range(10), chunksize=4, timeout=patience)
    assert list(chunked) == [n * n for n in range(10)]
    with pytest.raises(ZeroDivisionError):
        list(ex.map(divmod, [1, 2], [1, 0], timeout=patience))
    with pytest.raises(ValueError, match="chunksize"):
        ex.map(int, [1], chunksize=0)


def test_map_gives_up_after_its_timeout(target: ExecutorTarget, patience: float) -> None:
    """A loop over results would wait without an end; what it gives up must not run."""
    with target.make(1) as ex:
        results = ex.map(time.sleep, [600, 0, 0], timeout=1)
        with pytest.raises(TimeoutError):
            list(results)
        ex._session._end_all()


def test_fifty_calls_at_once(ex: Executor, patience: float) -> None:
    """Some of many would be lost, or be mixed up; or `submit` would wait for the service."""
    begun, longest = time.monotonic(), 0.0
    calls: dict[Any, int] = {}
    commands: dict[Any, int] = {}
    for each in range(25):
        calls[ex.submit(lambda x: x * x, each)] = each
        commands[ex.submit_command(f"echo {each}")] = each
        longest, begun = max(longest, time.monotonic() - begun), time.monotonic()
    assert longest < 2, "seconds of a call and a command"
    for done in as_completed([*calls, *commands], timeout=5 * patience):
        if done in calls:
            assert done.result() == calls[done] ** 2
        else:
            assert done.result().stdout == f"{commands[done]}\n"
    assert len({each.job_id for each in [*calls, *commands]}) == 50


def test_functions_and_commands_share_a_session(target: ExecutorTarget, patience: float) -> None:
    """Metrics, ids and order of one kind would be unknown to the other."""
    with target.make(2) as ex:
        done: list[Any] = [ex.submit(pow, 2, 3), ex.submit_command("echo 8"), ex.submit(int)]
        failed = [
            ex.submit(divmod, 1, 0),
            ex.submit_command("exit 9"),
            ex.submit_command("sleep 600", timeout=1),
        ]
        assert not wait([*done, *failed], timeout=patience).not_done
        numbers = [int(each.job_id.rpartition("-")[2]) for each in [*done, *failed]]
        assert numbers == list(range(numbers[0], numbers[0] + 6))
        until(lambda: ex.metrics().run.count == 6, patience)
        figures = ex.metrics()
        assert figures.submitted == {"function": 3, "command": 3}
        assert (figures.completed, figures.waiting, figures.running) == (3, 0, 0)
        kinds = {kind: count for kind, count in figures.failed.items() if count}
        assert kinds == {"exception": 1, "exit": 1, "timeout": 1}
        assert figures.wait.count == 6
        assert 'runner_executor_jobs_ended_total{outcome="timeout"} 1\n' in figures.openmetrics()


# -- sessions that end -------------------------------------------------------------------------

SESSION = """
    ex = executor(on_exit=sys.argv[2])

    def later(seconds, value):
        time.sleep(seconds)
        return value

    calls = [ex.submit(later, 2, "first"), ex.submit(later, 0, "second")]
    while calls[0].status() != "running":
        time.sleep(0.01)
    print(*(each.job_id for each in calls), flush=True)
"""


KILLED = """
    ex = executor()

    def later(seconds):
        time.sleep(seconds)
        return "attempt " + os.environ["JOB_ATTEMPT"]

    calls = [ex.submit(later, 2), ex.submit(later, 0)]
    while calls[0].status() != "running":
        time.sleep(0.01)
    print(*(each.job_id for each in calls), flush=True)
    time.sleep(600)
"""


def test_another_session_attaches(target: ExecutorTarget, patience: float, tmp_path: Path) -> None:
    """What was submitted by a program that has ended could not be fetched."""
    with target.make(2, folder=tmp_path) as ex:
        first = ex.submit(pow, 2, 10)
        assert ex.attach(first.job_id) is first or first.done()
        assert first.result(patience) == 1024
        said = ex.submit_command("echo kept")
        said.result(patience)
    with target.make(2, folder=tmp_path) as ex:
        with pytest.raises(NotFoundError, match="no job"):
            ex.attach("nothing-1")
        assert ex.attach(first.job_id).result(patience) == 1024
        assert ex.attach(said.job_id).result(patience).stdout == "kept\n"
        fresh = ex.submit(int)
        assert fresh.result(patience) == 0
        assert fresh.job_id not in (first.job_id, said.job_id)


def test_the_interpreters_end_waits(target: ExecutorTarget, tmp_path: Path) -> None:
    """Work would be cut off at the end of a script without `with`."""
    first, second = target.run(SESSION, "wait", workers=1, folder=tmp_path).split()
    with target.make(1, folder=tmp_path) as ex:
        assert ex.attach(first).result(5) == "first" and ex.attach(second).result(5) == "second"


def test_the_interpreters_end_cancels(
    target: ExecutorTarget, patience: float, tmp_path: Path
) -> None:
    """Jobs that are not wanted any more would hold up the end of a script."""
    first, second = target.run(SESSION, "cancel", workers=1, folder=tmp_path).split()
    with target.make(1, folder=tmp_path) as ex:
        ended = [ex.attach(each) for each in (first, second)]
        # The first one may not have come as far as to have had an attempt.
        with pytest.raises((JobError, CancelledError), match=r"cancelled|^$"):
            ended[0].result(patience)
        with pytest.raises(CancelledError):
            ended[1].result(patience)
        assert [each.status() for each in ended] == ["cancelled", "cancelled"]


def test_the_interpreters_end_detaches(
    target: ExecutorTarget, patience: float, tmp_path: Path
) -> None:
    """A notebook that is restarted would lose what it had submitted."""
    first, second = target.run(SESSION, "detach", workers=1, folder=tmp_path).split()
    with target.make(1, folder=tmp_path) as ex:
        assert ex.attach(first).result(patience) == "first"
        assert ex.attach(second).result(patience) == "second"


def test_a_session_that_is_killed_loses_nothing(
    target: ExecutorTarget, patience: float, tmp_path: Path
) -> None:
    """kill -9 would take away the jobs that run, or run them twice."""
    with target.program(KILLED, workers=1, folder=tmp_path) as process:
        assert process.stdout is not None
        try:
            first, second = process.stdout.readline().split()
        finally:
            process.kill()
    with target.make(1, folder=tmp_path) as ex:
        assert ex.attach(first).result(patience) == "attempt 1"
        assert ex.attach(second).result(patience) == "attempt 1"


def test_what_does_not_apply_is_a_test_that_there_is(opened_target: ExecutorTarget) -> None:
    """A test would be left out for a kind though its name has changed, or without a reason."""
    tests = {**globals(), **vars(test_executor_on_targets)}
    here = {name for name, value in tests.items() if inspect.isfunction(value)}
    assert {*opened_target.absent} <= here and all(opened_target.absent.values())
