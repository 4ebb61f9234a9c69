"""The outbox: which events are told to whom, under which id, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core_driver import Driver, document, job

from runner.core import events as ev
from runner.core.actions import SendNotice
from runner.core.notices import KEPT, notice_id
from runner.core.resume_from_store import from_stored
from runner.core.state_file import read_state
from runner.core.states import NoticeState
from runner.model.notify import EVENTS, NotifySpec
from runner.store.projection import job_view, queue_view

TOPIC = "arn:aws:sns:eu-central-1:123456789012:nightly"
ALL = NotifySpec(TOPIC, EVENTS, 60.0)


def driven(*jobs: Any, targets: tuple[NotifySpec, ...] = (ALL,), **more: Any) -> Driver:
    q = Driver(document(*jobs, **more))
    q.core.targets = targets
    return q.open()


def again(q: Driver, *requests: Callable[[ev.Now], ev.Event]) -> None:
    """Another session, and only what is sent in it."""
    q.crash()
    q.all.clear()
    q.core.targets = (ALL,)
    q.open(*requests)


def told(q: Driver) -> list[tuple[str, str | None]]:
    return [(notice.event, notice.job) for notice in q.core.queue.notices]


def sent(q: Driver) -> list[NoticeState]:
    return [action.notice for action in q.all if isinstance(action, SendNotice)]


def tried(q: Driver, notice: NoticeState, error: str | None = None, *, final: bool = False) -> None:
    q.send(ev.NoticeTried(q.now(), notice.id, notice.to, error, final))


def test_the_end_is_told_in_the_step_that_makes_it() -> None:
    """A crash between the end and its notice would leave everybody waiting."""
    q = driven(job("a"))
    q.ok("a")
    (notice,) = sent(q)
    assert (notice.event, notice.status, notice.counts) == (
        "completed",
        "completed",
        {"completed": 1},
    )
    assert q.core.queue.notices == (notice,)
    assert notice.id == notice_id(q.core.queue.run_id, "completed", None, 0)


def test_the_first_failure_is_told_once() -> None:
    """A thousand failing jobs would ring a telephone a thousand times."""
    q = driven(job("no", allow_failure=True), job("a", retry=2), job("b"))
    q.fail("no")
    q.fail("a")
    assert told(q) == []
    q.fail("b")
    assert told(q) == [("first_failure", "b")]
    assert "job 'b' failed: " in str(q.core.queue.notices[0].reason)
    q.tick(5.0)
    q.fail("a")
    assert told(q) == [("first_failure", "b"), ("failed", None)]


def test_only_those_who_want_to_know_are_told() -> None:
    """A channel for failures would fill with successes."""
    failures = NotifySpec("eventbridge:b", ("failed",))
    q = driven(job("a"), targets=(ALL, failures))
    q.fail("a")
    assert [(n.event, n.to) for n in q.core.queue.notices] == [
        ("first_failure", TOPIC),
        ("failed", TOPIC),
        ("failed", "eventbridge:b"),
    ]
    assert len({n.id for n in q.core.queue.notices}) == 2


def test_nobody_tells_where_there_is_no_courier() -> None:
    """A simulation would ring telephones."""
    q = driven(job("a"))
    q.core.targets = None
    q.ok("a")
    assert q.core.queue.notices == ()


def test_another_end_of_the_run_has_another_id() -> None:
    """Who drops doubles would drop the second failure."""
    q = driven(job("a"))
    q.fail("a")
    again(q, ev.RetryRequested)
    q.fail("a")
    ends = [n for n in q.core.queue.notices if n.event == "failed"]
    assert [n.nth for n in ends] == [0, 1]
    assert ends[0].id != ends[1].id


def test_what_was_not_told_is_told_again() -> None:
    """A crash between the commit and the first try would lose the notice."""
    q = driven(job("a"))
    q.ok("a")
    before = sent(q)
    again(q)
    assert sent(q) == before
    tried(q, before[0])
    again(q)
    assert q.core.queue.notices[0].told_at is not None
    assert sent(q) == []


def test_what_came_of_tries_is_remembered() -> None:
    """Nobody could see that a receiver refuses."""
    q = driven(job("a"))
    q.ok("a")
    (notice,) = sent(q)
    tried(q, notice, "HTTP 502")
    tried(q, notice, "HTTP 503")
    assert q.core.queue.notices[0].error == "HTTP 502"
    tried(q, notice, "HTTP 503", final=True)
    assert (q.core.queue.notices[0].given_up, q.core.queue.notices[0].waits) == (True, False)
    tried(q, notice)
    tried(q, notice, "too late")
    last = q.core.queue.notices[0]
    assert (last.told_at, last.error, last.given_up) == (q.wall, None, False)
    tried(q, NoticeState("f" * 32, "failed", "nobody", 1.0))


def test_an_interruption_is_told_unless_it_is_none() -> None:
    """The person who takes a queue over would be told that it was interrupted."""
    for more, expected in (({}, ["interrupted"]), ({"taken_over": True}, [])):
        q = driven(job("a"))
        q.send(ev.InterruptRequested(q.now(), "the machine goes", **more))
        q.started("a")
        q.ends("a", ev.Signalled("SIGTERM"))
        assert [event for event, _ in told(q)] == expected


def test_no_progress_is_told_to_who_waits_so_long() -> None:
    """Who wants to know after a day would be told after an hour."""
    day = NotifySpec("eventbridge:b", ("stuck",), 86_400.0)
    q = driven(job("a"), targets=(ALL, day))
    q.send(ev.NoProgress(q.now(), 60.0))
    (notice,) = q.core.queue.notices
    assert (notice.to, notice.reason) == (TOPIC, "no progress for 1m0s: job 'a' is running")
    assert q.core.targets == (ALL, day)
    q.send(ev.PauseRequested(q.now(), True))
    q.send(ev.NoProgress(q.now(), 60.0))
    assert len(q.core.queue.notices) == 1


def test_the_outbox_stays_small() -> None:
    """A queue on spot machines that is interrupted each hour would grow for ever."""
    q = driven(job("a"))
    for _ in range(3 * KEPT):
        q.send(ev.NoProgress(q.now(), 60.0))
        tried(q, q.core.queue.notices[-1])
    assert len(q.core.queue.notices) == KEPT
    assert q.core.queue.notices[-1].nth == 3 * KEPT - 1


def test_another_machine_knows_what_was_told() -> None:
    """Each replacement of a spot machine would tell again what everybody knows."""
    spec = document(job("a"), job("b"))
    q = Driver(spec)
    q.core.targets = (ALL,)
    q.open()
    q.fail("a")
    tried(q, q.core.queue.notices[0])
    view = queue_view("q", "n", q.core.queue)
    view["jobs"] = [job_view(u.job_id, s) for u, s in zip(spec.jobs, q.core.jobs, strict=True)]
    stored = read_state(view, "it")
    queue, _ = from_stored(spec, stored)
    (known,) = queue.notices
    assert known == q.core.queue.notices[0]
    assert not known.waits
