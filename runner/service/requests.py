"""What the requests that act, or wait, mean. One function per request; see ``request_table``.

A request that acts answers only when what came of it is durable, and goes on to its end also when
its client has gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from runner.core import events as ev
from runner.core.consequences import HELD
from runner.core.run_mode import RESUME, RunMode, parse_run_mode
from runner.core.states import QUEUE_ENDED, JobStatus
from runner.errors import ConflictError, RunnerError, StateError, UsageError
from runner.model.messages import quoted
from runner.service import request_fields as given
from runner.service.queries import (
    Answer,
    QueryContext,
    has_news,
    live_snapshot,
    queue_name,
    stored_snapshot,
)
from runner.service.query_table import QUERIES
from runner.service.queue_entry import QueueEntry
from runner.service.read_throttle import ReadThrottle
from runner.service.request_fields import Fields
from runner.service.session import Session
from runner.service.views import Snapshot

if TYPE_CHECKING:
    from runner.service.open_queues import OpenQueues

MAX_WAIT = 60.0
"""Seconds that one request is held at most; its client asks again."""

LOOK_AGAIN = 0.1
"""Seconds between two looks at a log that is followed."""

LOOK_ELSEWHERE = 1.0
"""Seconds between two looks at a queue that another process works on: it doesn't tell us."""

FORGET_AFTER = 5.0
"""Seconds that a queue read from the disk is kept for the next page."""

_T = TypeVar("_T")


class Host(QueryContext, Protocol):
    """Where queues are worked on: a daemon, or a foreground run."""

    throttle: ReadThrottle

    async def submit(self, raw: bytes, again: RunMode, batch: Any = None) -> Answer:
        """Accept a document. ``batch``: its attempts run on AWS Batch, see BatchRequest."""

    async def act_on_resting(self, entry: QueueEntry, make: Callable[[ev.Now], ev.Event]) -> None:
        """Apply a request to a queue that no process works on."""

    async def finish_uploads(self, entry: QueueEntry) -> None:
        """Try to store what is missing of an ended queue; returns when that is over."""

    async def stop(self, *, interrupt: bool) -> None:
        """End the service."""

    def changed(self) -> asyncio.Future[None]:
        """Done at the next change of any queue's own state; a job's is none."""

    open_queues: OpenQueues | None = None
    """Those that are added to over the socket; None: nothing is opened here."""

    def news_of(self, name: str) -> asyncio.Future[None]:
        """Done at the next change of this queue, or of any of its jobs."""
        return self.changed()


async def look(host: Host, name: str, fields: Fields) -> Answer:
    def ask() -> Answer | Callable[[], Answer]:
        return QUERIES[name](host, fields)

    session = _asked_for(host, name, fields)
    if name == "ping" or fields.get("limit") == 0:
        # Microseconds, if it is about a queue that runs here.
        found = await at_session(session, ask)
    else:
        async with host.throttle.turn(session.name if session is not None else ""):
            found = await at_session(session, ask)
    return await read_apart(host, fields, found) if callable(found) else found


def _asked_for(host: Host, name: str, fields: Fields) -> Session | None:
    """The session that a look is about, if there is one."""
    if name in ("ping", "queues"):
        return None
    asked = fields.get("queue", host.repository.current())
    return host.session_of(asked) if isinstance(asked, str) else None


async def at_session(session: Session | None, look: Callable[[], _T]) -> _T:
    """Look where the session is, between two of its steps; at what it left, if it has just gone."""
    if session is None:
        return look()
    try:
        return await session.look(look)
    except StateError:
        return look()


async def read_apart(host: Host, fields: Fields, read: Callable[[], _T]) -> _T:
    try:
        return await host.throttle.read(str(fields.get("queue", "")), read)
    finally:
        asyncio.get_running_loop().call_later(FORGET_AFTER, host.stored.forget)


async def logs(host: Host, fields: Fields) -> Answer:
    """See queries. With ``follow`` seconds it is held until there is more to say.

    That is output, the attempt's end, and where both streams are asked for the beginning of the
    next attempt or the end of its job.
    """
    deadline = time.monotonic() + min(given.seconds(fields, "follow", 0.0), MAX_WAIT)
    while True:
        found = await look(host, "logs", fields)
        if has_news(found) or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(LOOK_AGAIN)


async def wait(host: Host, fields: Fields) -> Answer:
    """The summary, as soon as the queue has ended and is left, or after ``timeout`` seconds.

    At once, if no process works on it and nobody is about to.
    """
    deadline = time.monotonic() + min(given.seconds(fields, "timeout", MAX_WAIT), MAX_WAIT)
    name = queue_name(host, fields)
    while True:
        changed = host.changed()
        snapshot = await snapshot_of(host, name)
        left = deadline - time.monotonic()
        attended = snapshot.worker or "queued" in snapshot.extra
        # What has ended is waited for until its last files are stored as well.
        over = snapshot.queue.status in QUEUE_ENDED and host.session_of(name) is None
        if over or left <= 0 or not attended:
            return {"queue": snapshot.summary()}
        elsewhere = snapshot.worker not in (None, host.who)
        await asyncio.wait([changed], timeout=min(left, LOOK_ELSEWHERE) if elsewhere else left)


async def snapshot_of(host: Host, name: str) -> Snapshot:
    session = host.session_of(name)
    if session is not None:
        return await at_session(session, lambda: live_snapshot(host.who, session))
    return await read_apart(host, {"queue": name}, lambda: stored_snapshot(host, name))


async def submit(host: Host, fields: Fields) -> Answer:
    """Accept ``document`` (its text); ``again`` says what an existing queue is to become, and
    ``batch`` that it runs on AWS Batch, and how."""
    raw = given.word(fields, "document")
    again = parse_run_mode(fields.get("again", RESUME))
    batch = fields.get("batch")
    return await host.submit(raw.encode("utf-8", "surrogatepass"), again, batch)


async def cancel(host: Host, fields: Fields) -> Answer:
    """End the queue, or only ``jobs``."""
    return await _act(host, fields, ev.CancelRequested, _CANCELLABLE, "has ended already")


async def retry(host: Host, fields: Fields) -> Answer:
    """Run what failed, was skipped or cancelled again; or only ``jobs``.

    ``completed``: also what has completed; ``dependants``: with all that depends on them.
    """
    completed, dependants = given.flag(fields, "completed"), given.flag(fields, "dependants")
    fitting, otherwise = _RETRYABLE, "has nothing to retry"
    if completed:
        fitting, otherwise = fitting | {JobStatus.COMPLETED}, "has not ended"

    def event(now: ev.Now, jobs: tuple[int, ...] | None) -> ev.Event:
        return ev.RetryRequested(now, jobs, completed, dependants)

    return await _act(host, fields, event, fitting, otherwise, _RETRY_HINTS)


_CANCELLABLE = {JobStatus.PENDING, JobStatus.RUNNING, JobStatus.INTERRUPTED}
_RETRYABLE = {JobStatus.FAILED, JobStatus.SKIPPED, JobStatus.CANCELLED}
_RETRY_HINTS = {JobStatus.COMPLETED: "--completed runs it again"}


async def _act(
    host: Host,
    fields: Fields,
    event: Callable[[ev.Now, tuple[int, ...] | None], ev.Event],
    fitting: set[JobStatus],
    otherwise: str,
    hints: Mapping[JobStatus, str] = MappingProxyType({}),
) -> Answer:
    names = given.words(fields, "jobs")
    if names is not None and not names:
        raise UsageError('"jobs" is empty: leave it out for the whole queue')
    name = changeable(host, fields)
    snapshot = await snapshot_of(host, name)

    def fits(unit: int) -> bool:
        return snapshot.jobs[unit].status in fitting

    chosen = None
    if names is not None:
        found: set[int] = set()
        for job_id, numbers in zip(names, snapshot.matching(names), strict=True):
            units = [unit for each in numbers for unit in snapshot.units_of(each) if fits(unit)]
            if not units and len(numbers) > 1:
                raise ConflictError(f"each of the {len(numbers)} jobs that match {otherwise}")
            if not units:
                status = snapshot.status_of(numbers[0])
                raise ConflictError(
                    f"job '{job_id}' {otherwise}: it is {status.value}"
                    + (f"; {hint}" if (hint := hints.get(status)) else "")
                )
            found.update(units)
        chosen = tuple(sorted(found))
    if chosen is None and not any(snapshot.counts[status] for status in fitting):
        raise ConflictError(f"queue '{name}' {otherwise}: it is {snapshot.queue.status.value}")
    await apply_to(host, name, fields, lambda now: event(now, chosen))
    return {"queue": (await snapshot_of(host, name)).summary()}


async def release(host: Host, fields: Fields) -> Answer:
    """Let ``jobs`` start that the document holds, and whose turn it is."""
    names = given.words(fields, "jobs")
    if not names:
        raise UsageError('"jobs" says which are to be released')
    name = changeable(host, fields)
    snapshot = await snapshot_of(host, name)
    chosen: set[int] = set()
    for job_id, numbers in zip(names, snapshot.matching(names), strict=True):
        units = [unit for each in numbers for unit in snapshot.units_of(each)]
        held = [unit for unit in units if snapshot.jobs[unit].reason == HELD]
        if not held:
            status = snapshot.status_of(numbers[0]).value
            raise ConflictError(f"{quoted(job_id)} does not wait for a release: it is {status}")
        chosen.update(held)
    jobs = tuple(sorted(chosen))
    await apply_to(host, name, fields, lambda now: ev.ReleaseRequested(now, jobs))
    return {"queue": (await snapshot_of(host, name)).summary()}


async def pause(host: Host, fields: Fields) -> Answer:
    """Start nothing new; what runs goes on."""
    return await _set_paused(host, fields, True)


async def unpause(host: Host, fields: Fields) -> Answer:
    """Go on."""
    return await _set_paused(host, fields, False)


async def _set_paused(host: Host, fields: Fields, paused: bool) -> Answer:
    name = changeable(host, fields)
    snapshot = await snapshot_of(host, name)
    if snapshot.queue.status in QUEUE_ENDED:
        raise ConflictError(f"queue '{name}' has ended: it is {snapshot.queue.status.value}")
    await apply_to(host, name, fields, lambda now: ev.PauseRequested(now, paused))
    return {"queue": (await snapshot_of(host, name)).summary()}


async def upload(host: Host, fields: Fields) -> Answer:
    """Store what an ended queue's uploads have left undone; answers when that has been tried."""
    name = changeable(host, fields)
    snapshot = await snapshot_of(host, name)
    if snapshot.worker is not None:
        raise ConflictError(
            f"queue '{name}' is being worked on by {snapshot.worker}: uploads that fail are tried "
            "again all the time"
        )
    if snapshot.queue.status not in QUEUE_ENDED:
        raise ConflictError(
            f"queue '{name}' has not ended, it is {snapshot.queue.status.value}: its next start "
            "uploads what is missing"
        )
    await host.finish_uploads(host.repository.find(name))
    return {"queue": (await snapshot_of(host, name)).summary()}


async def stop(host: Host, fields: Fields) -> Answer:
    """End the service: its jobs are interrupted first, or (``detach``) left to the next start."""
    await host.stop(interrupt=not given.flag(fields, "detach"))
    return {"stopping": True}


def changeable(host: Host, fields: Fields) -> str:
    name = queue_name(host, fields)
    if host.session_of(name) is None:
        entry = host.repository.find(name)
        if entry.error:
            raise RunnerError(entry.error)
        if entry.aside:
            raise ConflictError(f"queue '{name}' was set aside by --fresh: it can't be changed")
    return name


async def apply_to(
    host: Host, name: str, fields: Fields, make: Callable[[ev.Now], ev.Event]
) -> None:
    request_id = given.word(fields, "id") if "id" in fields else None
    session = host.session_of(name)
    if session is not None:
        await session.request(make, request_id)
    else:
        await host.act_on_resting(host.repository.find(name), make)
