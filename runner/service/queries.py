"""What may be looked at: the same answers from a daemon, a foreground run, or the bare disk.

One function per request. They change nothing and wait for nothing. What costs more than a few
milliseconds, because it reads files, is left to the function that they return instead of an
answer: a host calls that in a thread, so that lookers never hold up a queue.
"""

from __future__ import annotations

import base64
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from runner import __version__
from runner.core.states import ENDED, QUEUE_ENDED, JobState, JobStatus
from runner.errors import NotFoundError, RunnerError, UsageError
from runner.model.elements import which_element
from runner.model.messages import did_you_mean, quoted
from runner.service import request_fields as given
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.service.request_fields import Fields
from runner.service.views import PAGE, Snapshot, StoredViews, alive
from runner.store.database import Database
from runner.store.paths import StatePaths
from runner.timestamps import rfc3339

if TYPE_CHECKING:
    from runner.results.download.log_range import Range
    from runner.service.session import Session

LOG_PIECE = 256 * 1024
"""Bytes of a log in one answer at most."""

Answer = dict[str, Any]
Query = Callable[["QueryContext", Fields], Answer | Callable[[], Answer]]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
"""A queue's id, or that of one set aside with its date."""


class QueryContext(Protocol):
    """Where queues are looked at. ``who`` names it to people."""

    repository: QueueRepository
    who: str
    stored: StoredViews

    def session_of(self, name: str) -> Session | None:
        """The session that works on this queue in this process, if there is one."""

    def pending_action(self, name: str, owner: str | None) -> Mapping[str, str]:
        """What is to become of an unfinished queue that rests: ``queued``, ``blocked``."""


def ping(context: QueryContext, fields: Fields) -> Answer:
    """Who answers, and for which state folder."""
    state_dir = os.path.realpath(context.repository.paths.root)
    return {"version": __version__, "pid": os.getpid(), "who": context.who, "state_dir": state_dir}


def queues(context: QueryContext, fields: Fields) -> Callable[[], Answer]:
    """Every queue that is kept, in the order they came in, and what holds up which."""

    def describe(entry: QueueEntry) -> dict[str, Any]:
        view = describe_entry(entry)
        if entry.queue is not None and entry.queue.accepts_jobs:
            # Only who works on it knows without reading all its jobs.
            session = context.session_of(entry.name)
            if session is not None:
                counts = session.scheduler.counts
                view["counts"] = {status.value: counts[status] for status in JobStatus}
        if not entry.ended and not entry.error:
            ahead = context.pending_action(entry.name, entry.meta.get("owner"))
            if "blocked" in ahead:
                view["blocked"] = ahead["blocked"]
        return view

    return lambda: {"queues": [describe(entry) for entry in context.repository.entries()]}


def describe_entry(entry: QueueEntry) -> dict[str, Any]:
    """A queue in a list of queues. One that ``--fresh`` has set aside goes by ``kept_as``."""
    view: dict[str, Any] = {"queue_id": entry.queue_id or entry.name}
    if entry.queue_id and entry.aside:
        view["kept_as"] = entry.name
    if entry.error:
        view["error"] = entry.error
    if entry.queue is not None:
        view["status"] = entry.queue.status.value
        view["reason"] = entry.queue.reason
        view["started_at"] = rfc3339(entry.queue.started_at)
        view["completed_at"] = rfc3339(entry.queue.completed_at)
        view["paused"] = entry.queue.paused or None
        view["accepts_jobs"] = entry.queue.accepts_jobs or None
    view["owner"] = entry.meta.get("owner")
    return {name: value for name, value in view.items() if value is not None}


def status(context: QueryContext, fields: Fields) -> Answer | Callable[[], Answer]:
    """The summary, and a page of jobs: ``after``, ``limit``, ``status``, ``jobs`` choose it."""
    limit = min(given.number(fields, "limit", PAGE), PAGE)
    after = given.number(fields, "after", 0)
    states = given.statuses(fields, "status")
    names = given.words(fields, "jobs")

    def page(snapshot: Snapshot) -> Answer:
        answer: Answer = {"queue": snapshot.summary()}
        if limit:
            only = None if names is None else [*chain(*snapshot.matching(names))]
            answer["jobs"], following = snapshot.page(after, limit, states, only)
            if following is not None:
                answer["after"] = following
        return answer

    return _on_snapshot(context, fields, page, going_on=after > 0)


def job(context: QueryContext, fields: Fields) -> Callable[[], Answer]:
    """One job with its story."""
    name = queue_name(context, fields)
    job_id = given.word(fields, "job")
    session = context.session_of(name)

    def view(snapshot: Snapshot) -> dict[str, Any]:
        return snapshot.job(snapshot.find([job_id])[0])

    live = view(live_snapshot(context.who, session)) if session is not None else None

    def read() -> Answer:
        found = view(stored_snapshot(context, name)) if live is None else live
        opened = Database(context.repository.queue_paths(name).database, read_only=True)
        try:
            return {"job": found, "story": opened.story(job_id, of_array="array" in found)}
        finally:
            opened.close()

    return read


def logs(context: QueryContext, fields: Fields) -> Callable[[], Answer]:
    """Pieces of one attempt's logs: of some streams from ``offsets``, or of one from ``offset``.

    With ``to_come`` it also answers for the attempt after the newest, which may never come.
    """
    name = queue_name(context, fields)
    job_id = given.word(fields, "job")
    attempt = given.number(fields, "attempt", None, least=1)
    wanted = given.offsets(fields, "offsets", STREAMS)
    if wanted is None:
        stream = given.choice(fields, "stream", STREAMS)
        wanted = {stream: given.number(fields, "offset", 0, least=-(2**62))}
    to_come = given.flag(fields, "to_come")
    from runner.results.download.log_range import Range

    part = Range(given.number(fields, "lines", None), None, given.since(fields, "since"))
    session = context.session_of(name)

    def locate(snapshot: Snapshot) -> _Log:
        return _locate(context, name, snapshot, job_id, attempt, to_come=to_come)

    live = locate(live_snapshot(context.who, session)) if session is not None else None

    def read() -> Answer:
        log, tries = live, _TRIES
        while True:
            tries -= 1
            log = log or locate(_snapshot(context, name, session))
            if session is not None and log.paths:
                session.engine.files.bring_log(log.index, log.attempt)
            try:
                pieces = {each: _read_piece(log, each, at, part) for each, at in wanted.items()}
            except NotFoundError:
                if not tries:
                    raise
                # Its place is made after the step that starts the next attempt is stored.
                time.sleep(_MOVING)
            else:
                known = session is None or session.scheduler.jobs[log.index].attempt == log.newest
                if known or not tries:
                    break
            # A new attempt has made way for itself: the logs are elsewhere now.
            log = None
        about = {"job": job_id, "attempt": log.attempt, "running": log.running}
        if fields.get("offsets") is None:
            return {**about, **pieces[stream]}
        return {**about, **log.standing, "streams": pieces}

    return read


_TRIES = 10
_MOVING = 0.02
"""Looks at logs that are being moved, and seconds between two."""


def _snapshot(context: QueryContext, name: str, session: Session | None) -> Snapshot:
    return (
        stored_snapshot(context, name) if session is None else live_snapshot(context.who, session)
    )


def has_news(answer: Mapping[str, Any]) -> bool:
    """Whether pieces of logs are worth to be told of to who follows them.

    That is output, or the end of what there may be; of an attempt that is to come, its beginning.
    """
    if "streams" not in answer:
        return bool(answer["data"]) or not answer["running"]
    if any(piece["data"] for piece in answer["streams"].values()):
        return True
    if answer["running"]:
        return False
    over = 0 < answer["attempt"] <= answer["newest"]
    return over or answer["ended"] or not answer["attended"]


STREAMS = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class _Log:
    """Where an attempt's logs are. ``running`` was true, or not, before they are read.

    ``paths`` is empty for an attempt that is to come. ``standing``: how its job stands.
    """

    index: int
    attempt: int
    newest: int
    running: bool
    paths: Mapping[str, str]
    standing: Mapping[str, Any]


def _locate(
    context: QueryContext,
    name: str,
    snapshot: Snapshot,
    job_id: str,
    asked: int | None,
    *,
    to_come: bool,
) -> _Log:
    (index,) = snapshot.find([job_id])
    if (array := snapshot.arrays.at(index)) is not None:
        raise UsageError(which_element(job_id, array.spec.size))
    state = snapshot.jobs[index]
    attempt = asked or state.attempt
    to_come = to_come and attempt in (0, state.attempt + 1)
    if not to_come:
        _check_attempt(job_id, state, attempt)
    log_paths = context.repository.log_paths(name)
    paths = {
        stream: log_paths.of_attempt(job_id, attempt, state.attempt, stream) for stream in STREAMS
    }
    running = attempt == state.attempt and state.status is JobStatus.RUNNING
    attended = snapshot.worker is not None or "queued" in snapshot.extra
    if running and snapshot.worker is None:
        # Nobody will say when it ends.
        running = alive(snapshot.queue, state)
    standing: dict[str, Any] = {
        "newest": state.attempt,
        "status": state.status.value,
        "ended": state.status in ENDED,
        "attended": attended,
    }
    why = "; ".join(word for word in (state.error_message, state.reason) if word)
    if why:
        standing["why"] = why
    return _Log(index, attempt, state.attempt, running, {} if to_come else paths, standing)


def _check_attempt(job_id: str, state: JobState, attempt: int) -> None:
    if state.status is JobStatus.COMPLETED and not state.attempt:
        where = "the log of its last run is with its results: --from results"
        raise NotFoundError(f"job '{job_id}' did not run, for nothing had changed: {where}")
    if not state.attempt:
        why = f" ({state.reason})" if state.reason else ""
        raise NotFoundError(f"job '{job_id}' has not started: it is {state.status.value}{why}")
    if attempt > state.attempt:
        raise NotFoundError(
            f"job '{job_id}' has no attempt {attempt}: the newest is {state.attempt}"
        )


def _read_piece(log: _Log, stream: str, offset: int, part: Range) -> Answer:
    """The bytes, where they end, and how many there are in all."""
    data, begin, size = _read(log, stream, offset, part)
    return {
        "data": base64.b64encode(data).decode(),
        "offset": begin + len(data),
        "size": size,
    }


def _read(log: _Log, stream: str, offset: int, part: Range) -> tuple[bytes, int, int]:
    nothing = b"", max(0, offset), 0
    if not log.paths:
        return nothing
    path = log.paths[stream]
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        if log.running:
            return nothing
        raise NotFoundError(f"the log of attempt {log.attempt} is gone: {path}") from None
    except OSError as error:
        raise RunnerError(f"{path}: {error.strerror}") from None
    try:
        described = os.fstat(fd)
        if not stat.S_ISREG(described.st_mode):
            raise RunnerError(f"{path}: is not a file")
        size = described.st_size
        if offset < 0:
            offset = max(0, size + offset)
        offset = max(offset, part.begin(fd, described.st_mtime))
        return os.pread(fd, LOG_PIECE, min(offset, size)), offset, size
    except OSError as error:
        raise RunnerError(f"{path}: {error.strerror}") from None
    finally:
        os.close(fd)


# -- what requests share ---------------------------------------------------------------------


def queue_name(context: QueryContext, fields: Fields) -> str:
    """The name of the queue a request speaks of. Raises NotFoundError with the nearest name."""
    asked = fields.get("queue")
    if asked is None:
        return context.repository.current() or context.repository.find(None).name
    queue_id = given.word(fields, "queue")
    if context.session_of(queue_id) is not None:
        return queue_id
    if not _NAME.fullmatch(queue_id) or not context.repository.exists(queue_id):
        hint = did_you_mean(queue_id, context.repository.names())
        where = context.repository.paths.root
        raise NotFoundError(f"there is no queue {quoted(queue_id)} in {where}{hint}")
    return queue_id


def _on_snapshot(
    context: QueryContext, fields: Fields, view: Callable[[Snapshot], Answer], *, going_on: bool
) -> Answer | Callable[[], Answer]:
    """The view of a queue that runs here, now; of one that rests, when its disk is read."""
    name = queue_name(context, fields)
    session = context.session_of(name)
    if session is not None:
        return view(live_snapshot(context.who, session))
    return lambda: view(stored_snapshot(context, name, going_on=going_on))


def live_snapshot(who: str, session: Session) -> Snapshot:
    """The queue as its engine knows it, between two steps: see Session.look."""
    scheduler = session.scheduler
    blocked = scheduler.interrupting or scheduler.blocked or session.engine.trouble
    return Snapshot(
        queue_id=session.queue_id,
        queue_name=scheduler.document.queue_name,
        queue=scheduler.queue,
        # Copies, as of the jobs: a queue may get more.
        names=list(session.names),
        timeouts=list(session.timeouts),
        jobs=list(scheduler.jobs),
        counts=scheduler.counts.copy(),
        worker=who,
        extra={"blocked": blocked} if blocked else {},
        arrays=scheduler.arrays,
    )


def stored_snapshot(context: QueryContext, name: str, *, going_on: bool = False) -> Snapshot:
    """The queue as the disk has it. Raises StateError if it can't be read."""
    snapshot = context.stored.snapshot(name, going_on=going_on)
    end = _end_of_machine(context.repository.paths)
    more = {"machine": end} if end else {}
    if "blocked" not in snapshot.extra:
        ahead = dict(context.pending_action(name, snapshot.extra.get("owner")))
        if snapshot.queue.status in QUEUE_ENDED:
            # Only its uploads may still be to be done, and nobody waits for those in a line.
            ahead.pop("queued", None)
        more = {**ahead, **more}
    return snapshot.with_more(more)


def _end_of_machine(paths: StatePaths) -> str | None:
    """What becomes of the machine, in a line; None on most, where no file says anything of it."""
    if not os.path.lexists(paths.machine):
        return None
    from runner.service.machine_view import pending_action

    return pending_action(paths)
