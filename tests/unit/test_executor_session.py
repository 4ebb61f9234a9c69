"""Futures, routing and counters of an Executor, with targets that do what the test says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from typing import Any

import pytest

from runner import Executor
from runner.api.capabilities import Capabilities, parse_capabilities
from runner.api.executor_metrics import BUCKETS, ExecutorMetrics
from runner.api.executor_session import ExecutorSession
from runner.api.job_errors import JobError, JobLimitError, TargetAwayError
from runner.api.job_target import CommandOutput, JobEnd
from runner.api.limits import ExecutorLimits
from runner.api.target_registry import check_targets
from runner.api.tasks import CommandTask, PayloadReference, Task
from runner.errors import NotFoundError


class StubTarget:
    """A target without jobs: the test tells what becomes of them. It is rude: it may tell things
    twice, of jobs it never had, and in any order."""

    region = None
    id_prefix = ""

    def __init__(self, name: str, refuses: str | None = None) -> None:
        self.name = name
        self.refuses = refuses
        self.tasks: list[Task] = []
        self.calls: list[str] = []
        self.cancels = True
        self.is_away: str | None = None

    def refusal(self, capabilities: Capabilities, *, function: bool) -> str | None:
        return self.refuses

    def away(self, capabilities: Capabilities, *, function: bool) -> str | None:
        return self.is_away

    def region_of(self, job_id: str) -> str | None:
        return self.region

    def first_number(self) -> int:
        return 5

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        return PayloadReference("x", "0", 0)

    def add(self, task: Task) -> None:
        self.tasks.append(task)

    def follow(self, job_id: str) -> None:
        if job_id != "old-1":
            raise NotFoundError("no such job")

    def cancel(self, job_id: str) -> bool:
        return self.cancels

    def status(self, job_id: str) -> str:
        return "pending"

    def output(self, end: JobEnd) -> CommandOutput:
        return CommandOutput("out", "err", truncated=False)

    def result(self, end: JobEnd) -> None:
        return None

    def join(self, timeout: float | None = None) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.calls.append(name)


Make = Callable[..., ExecutorSession]


@pytest.fixture
def session_of() -> Iterator[Make]:
    """Makes sessions, and ends them: at its end the interpreter would wait for one that is open."""
    made: list[ExecutorSession] = []

    def make(*targets: StubTarget, limits: ExecutorLimits | None = None) -> ExecutorSession:
        made.append(ExecutorSession(lambda _: list(targets), "wait", None, limits))
        return made[-1]

    yield make
    for session in made:
        session.failed(OSError("the test is over"))
        session.shutdown(wait=True, cancel_futures=False)


def submitted(session: ExecutorSession, **wanted: Any) -> Any:
    capabilities = parse_capabilities(wanted)
    target = session.route(capabilities, function=False)
    task = CommandTask(session.next_id("true"), "test", script="true", capabilities=capabilities)
    return session.submit(target, task)


def test_a_call_goes_to_the_first_target_that_it_fits(session_of: Make) -> None:
    """It would run on the wrong machines, or nowhere, without a word."""
    here, there = StubTarget("here", "too large for here"), StubTarget("there")
    session = session_of(here, there)
    first = submitted(session)
    assert first.job_id == "true-5" and [len(each.tasks) for each in (here, there)] == [0, 1]
    with pytest.raises(ValueError, match="too large for here"):
        submitted(session, target="here")
    with pytest.raises(ValueError, match='no "nowhere" in this Executor, only here, there'):
        submitted(session, target="nowhere")
    there.is_away = "it doesn't answer"
    with pytest.raises(TargetAwayError, match="doesn't answer"):
        submitted(session)
    there.refuses = "nor for there"
    with pytest.raises(ValueError, match="too large for here\nnor for there"):
        submitted(session)


def test_a_future_goes_through_its_states_once(session_of: Make) -> None:
    """Callbacks would run twice, or a state that is over would come back."""
    target = StubTarget("x")
    session = session_of(target)
    future, told = submitted(session), []
    future.add_done_callback(told.append)
    session.started("unknown-1")
    session.ended(JobEnd("unknown-1", "failed"))
    for _ in range(2):
        session.started(future.job_id)
    for code in (0, 1):
        session.ended(JobEnd(future.job_id, "completed", 1, code))
    session.started(future.job_id)
    assert future.result(10).exit_code == 0
    session.shutdown(wait=True, cancel_futures=False)
    assert told == [future] and target.calls == ["forget", "close"]
    with pytest.raises(RuntimeError, match="after shutdown"):
        submitted(session)


def test_cancelled_is_what_never_ran(session_of: Make) -> None:
    """A job that ran would be told as one that didn't, or the other way round."""
    target = StubTarget("x")
    session = session_of(target)
    waiting, running, stopped, elsewhere = (submitted(session) for _ in range(4))
    assert waiting.cancel() and waiting.cancel()
    session.ended(JobEnd(waiting.job_id, "cancelled"))
    session.ended(JobEnd(elsewhere.job_id, "cancelled"))  # by another session
    session.started(running.job_id)
    session.started(stopped.job_id)
    session.ended(JobEnd(stopped.job_id, "cancelled", 0))  # so early that it counts as no attempt
    assert stopped.result(10).status == "cancelled"
    assert not wait([waiting, elsewhere], 10).not_done
    assert waiting.cancelled() and elsewhere.cancelled() and not running.cancel()
    target.cancels = False
    late = submitted(session)
    assert not late.cancel() and not late.cancelled()
    session.refused(late.job_id, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        late.result(10)
    session.failed(OSError("the disk is gone"))
    with pytest.raises(JobError, match="the disk is gone"):
        running.result(10)
    with pytest.raises(JobError, match="the disk is gone"):
        submitted(session)
    with pytest.raises(CancelledError):
        waiting.result(0)


def test_no_more_jobs_than_the_limit(session_of: Make) -> None:
    """A loop that submits faster than jobs end would fill the memory."""
    refusing = session_of(StubTarget("x"), limits=ExecutorLimits(2, waits=False))
    first, _ = submitted(refusing), submitted(refusing)
    with pytest.raises(JobLimitError, match="2 jobs have not ended: max_jobs is 2"):
        submitted(refusing)
    refusing.ended(JobEnd(first.job_id, "completed", 1, 0))
    wait([first], 10)
    while refusing._held.keys() >= {first.job_id}:
        time.sleep(0.001)
    assert submitted(refusing)

    waiting = session_of(target := StubTarget("x"), limits=ExecutorLimits(1))
    one = submitted(waiting)
    with ThreadPoolExecutor(1) as pool:
        two = pool.submit(submitted, waiting)
        one.add_done_callback(lambda _: submitted(waiting))  # in the thread that makes room
        assert not wait([two], 0.05).done
        waiting.ended(JobEnd(one.job_id, "completed", 1, 0))
        while len(target.tasks) < 2:
            time.sleep(0.001)
        waiting.ended(JobEnd(target.tasks[1].id, "completed", 1, 0))
        assert two.result(10).job_id == target.tasks[2].id
        three = pool.submit(submitted, waiting)
        assert not wait([three], 0.05).done
        waiting.shutdown(wait=False, cancel_futures=False)
        with pytest.raises(RuntimeError, match="after shutdown"):
            three.result(10)


def test_attach_asks_every_target(session_of: Make) -> None:
    """A job of the second target could not be found again."""
    session = session_of(StubTarget("x"))
    future = session.attach("old-1")
    assert session.attach("old-1") is future
    with pytest.raises(NotFoundError):
        session.attach("new-1")
    assert set(session._held) == {"old-1"}


def test_metrics_count_each_job_once() -> None:
    """A dashboard would show more jobs than there were."""
    metrics = ExecutorMetrics()
    for number, outcome in enumerate(["completed", "exit", "exit", "cancelled", "timeout"]):
        metrics.submitted(str(number), "command", 10.0)
        if outcome != "cancelled":
            metrics.started(str(number), 10.5)
            metrics.started(str(number), 11.0)
        metrics.ended(str(number), outcome, 12.5)
    metrics.submitted("w", "function", 0.0)
    metrics.submitted("r", "function", 0.0)
    metrics.started("r", 100_000.0)
    figures = metrics.figures()
    assert figures.submitted == {"function": 2, "command": 5}
    assert (figures.waiting, figures.running, figures.completed, figures.cancelled) == (1, 1, 1, 1)
    assert figures.failed["exit"] == 2 and figures.failed["timeout"] == 1
    assert (figures.wait.count, figures.wait.longest, figures.run.mean) == (5, 100_000.0, 2.0)
    assert figures.wait.buckets == (0, 4, 4, 4, 4, 4, 4) and len(BUCKETS) == 7
    text = figures.openmetrics()
    assert 'runner_executor_jobs_submitted_total{kind="command"} 5\n' in text
    assert 'runner_executor_jobs_wait_seconds_bucket{le="+Inf"} 5\n' in text
    assert text.endswith("# EOF\n") and "\n\n" not in text


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        ({}, "at least one"),
        ({"lokal": {}}, 'did you mean "local"'),
        ({"daemon": {"max_workers": 0}}, "greater than 0"),
        ({"daemon": {"reconnect_timeout": "soon"}}, "reconnect_timeout"),
        ({"local": {"max_worker": 1}}, 'did you mean "max_workers"'),
        ({"local": {"max_workers": True}}, "must be a whole number"),
        ({"local": 3}, "must be a dict"),
    ],
)
def test_wrong_targets_are_refused_before_anything_is_opened(targets: Any, told: str) -> None:
    """Half of an executor would be there."""
    with pytest.raises((ValueError, TypeError), match=told):
        check_targets(targets)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_worker": 2}, '"max_worker" is not an option of target "local"; did you mean "max_w'),
        ({"on_exti": "wait"}, 'did you mean "on_exit"'),
        ({"zzz": 1}, 'there is "max_workers"'),
        ({"targets": {"local": {}}, "job_queue": "q"}, "give no job_queue beside it"),
        ({"targets": {"local": {}}, "target": "batch"}, "give no target beside it"),
    ],
)
def test_keywords_of_an_executor_are_options_of_its_target(given: Any, told: str) -> None:
    """A misspelt option would be dropped, or its error would name nothing near."""
    with pytest.raises((ValueError, TypeError), match=told):
        Executor(**given)
