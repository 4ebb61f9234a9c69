"""What the requests of an Executor mean: it opens a queue, adds jobs, and asks what became of them.

Each may be made again when its answer was lost: a queue that is open stays so, ids of jobs are
unique, and a piece of a file replaces itself.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runner.control.protocol import Peer
from runner.core import events as ev
from runner.core.states import PENDING, JobState, QueueState
from runner.errors import ConflictError, NotFoundError, StateError, UsageError
from runner.model.fields import ID_PATTERN
from runner.model.messages import quoted
from runner.service import request_fields as given
from runner.service import requests
from runner.service.call_files import CallFiles
from runner.service.open_queue import Opener, database_of, was_opened
from runner.service.queries import Answer, queue_name
from runner.service.request_fields import Fields
from runner.service.session import Session
from runner.store.database import Database
from runner.store.projection import job_view

if TYPE_CHECKING:
    from runner.model.document import JobSpec, QueueSpec
    from runner.service.open_queues import OpenQueues

EVENTS = 1_000
"""Lines of a story that one answer goes through."""


async def open_queue(host: requests.Host, fields: Fields, peer: Peer) -> Answer:
    """Have an open queue of the id ``queue``; ``session``: the Executor's own token; ``most`` of
    its jobs run at once."""
    opener = Opener.of(_token(fields), peer.pid)
    most = given.number(fields, "most", None, least=1)
    return await _open_queues(host).open(given.word(fields, "queue"), opener, most)


async def add_jobs(host: requests.Host, fields: Fields, peer: Peer) -> Answer:
    """Add ``jobs``: the text of ``{"jobs": […]}``, as a document has them. One that is there as it
    is given is not added again."""
    name = queue_name(host, fields)
    opener = Opener.of(_token(fields), peer.pid)
    return {"added": await _open_queues(host).add(name, opener, given.word(fields, "jobs"))}


async def close(host: requests.Host, fields: Fields) -> Answer:
    """Have an open queue take no more jobs: it ends once those that it has have ended."""
    name = requests.changeable(host, fields)
    snapshot = await requests.snapshot_of(host, name)
    if snapshot.queue.accepts_jobs:
        await requests.apply_to(host, name, fields, lambda now: ev.IntakeChanged(now, False))
    elif not was_opened(host.repository.find(name).meta):
        raise ConflictError(f"queue '{name}' is not open: it was made from a document")
    if "session" in fields and host.open_queues is not None:
        host.open_queues.release(name)
    return {"queue": (await requests.snapshot_of(host, name)).summary()}


async def end_jobs(host: requests.Host, fields: Fields) -> Answer:
    """End ``jobs``, or, with ``waiting``, those of them that have not started; what has ended, or
    isn't there, stays as it is. The answer's ``jobs`` say how each stands then."""
    name = requests.changeable(host, fields)
    names = given.words(fields, "jobs") or []
    waiting = given.flag(fields, "waiting")
    session = host.session_of(name)
    if session is None:
        raise ConflictError(f"queue '{name}' is not worked on: it has ended, or nobody has it yet")

    def standing() -> dict[str, int]:
        index = session.scheduler.graph.index
        return {each: index[each] for each in names if each in index}

    found = await session.look(standing)
    chosen = tuple(sorted(found.values()))
    if chosen:
        await session.request(lambda now: ev.CancelRequested(now, chosen, waiting_only=waiting))
    jobs = session.scheduler.jobs
    return {"jobs": {job_id: jobs[number].status.value for job_id, number in found.items()}}


async def store_call(host: requests.Host, fields: Fields) -> Answer:
    """Write ``data`` (base64) at ``offset`` of the payload of the call that is ``job``; with
    ``last`` it is whole, and durable."""
    files, job_id = _files(host, fields), _job(fields)
    offset, last = given.number(fields, "offset", 0), given.flag(fields, "last")
    try:
        data = base64.b64decode(given.word(fields, "data"), validate=True)
    except ValueError:
        raise UsageError('"data" is base64') from None
    await asyncio.to_thread(files.store, job_id, data, offset, last=last)
    return {"size": offset + len(data)}


async def forget_calls(host: requests.Host, fields: Fields) -> Answer:
    """Remove the payloads of ``jobs`` whose results were taken."""
    files, names = _files(host, fields), given.words(fields, "jobs") or []
    for each in names:
        _check_job(each)
    await asyncio.to_thread(files.forget, names)
    return {"forgotten": len(names)}


async def read_result(host: requests.Host, fields: Fields) -> Answer:
    """A piece, from ``offset`` on, of what ``attempt`` of the call ``job`` has left: its ``kind``
    is `result`, `refused` (a message) or `none`."""
    files, job_id = _files(host, fields), _job(fields)
    attempt = given.number(fields, "attempt", 1)
    offset = given.number(fields, "offset", 0)
    found = await asyncio.to_thread(files.read, job_id, attempt, offset)
    if found is None:
        return {"kind": "none", "data": "", "offset": 0, "size": 0}
    kind, data, size = found
    told = base64.b64encode(data).decode()
    return {"kind": kind, "data": told, "offset": offset + len(data), "size": size}


async def result_files(host: requests.Host, fields: Fields) -> Answer:
    """The files that match the ``result_paths`` of ``job``, from the folder it ran in."""
    name, job_id = queue_name(host, fields), _job(fields)
    files = _files(host, fields)
    work = str(host.repository.queue_paths(name).work)

    session = host.session_of(name)
    if session is not None:
        document = session.scheduler.given
        found = await requests.at_session(session, lambda: _job_of(document, job_id))
    else:
        document = await asyncio.to_thread(host.repository.stored_document, name)
        found = _job_of(document, job_id)
    if found is None:
        raise NotFoundError(f"there is no job {quoted(job_id)} in queue '{name}'")
    patterns = [each.path for each in found.result_paths]
    folder = found.working_directory or work
    return {"files": await asyncio.to_thread(files.matching, folder, patterns)}


def _job_of(document: QueueSpec, job_id: str) -> JobSpec | None:
    return next((each for each in document.jobs if each.job_id == job_id), None)


# -- what became of jobs ---------------------------------------------------------------------


async def changes(host: requests.Host, fields: Fields) -> Answer:
    """How the jobs stand of which something was told since the line ``after`` of the queue's story;
    held for up to ``timeout`` seconds until there is something. With ``jobs``: these, at once.

    The answer's ``after`` is for the next request; ``run_id`` tells whether it is still that story.
    """
    name = queue_name(host, fields)
    names = given.words(fields, "jobs")
    after = given.number(fields, "after", 0)
    deadline = time.monotonic() + min(given.seconds(fields, "timeout", 0.0), requests.MAX_WAIT)
    while True:
        news = host.news_of(name)
        answer = await _changes(host, name, after, names)
        left = deadline - time.monotonic()
        if names is not None or answer["after"] != after or left <= 0:
            return answer
        await asyncio.wait([news], timeout=left)


async def _changes(
    host: requests.Host, name: str, after: int, names: Sequence[str] | None
) -> Answer:
    if (session := host.session_of(name)) is not None:
        with suppress(StateError):  # it was just left: the disk has it
            return await session.look(lambda: _live(session, after, names))
    return await requests.read_apart(
        host, {"queue": name}, lambda: _stored(host, name, after, names)
    )


def _live(session: Session, after: int, names: Sequence[str] | None) -> Answer:
    scheduler = session.scheduler
    events = [] if names is not None else database_of(session).events_after(after, EVENTS)
    index, jobs, units = scheduler.graph.index, scheduler.jobs, scheduler.document.jobs
    told = dict.fromkeys(names if names is not None else _told_of(events))
    found = [index[each] for each in told if each in index]
    views = [_view(units[number], jobs[number]) for number in found]
    return _answer(scheduler.queue, views, events, after)


def _stored(host: requests.Host, name: str, after: int, names: Sequence[str] | None) -> Answer:
    opened = Database(host.repository.queue_paths(name).database, read_only=True)
    try:
        with opened.one_moment():
            events = [] if names is not None else opened.events_after(after, EVENTS)
            told = names if names is not None else _told_of(events)
            queue = opened.queue()
            if not told:
                return _answer(queue, [], events, after)
            document = opened.read_document()
            states = opened.load(len(document.jobs)).jobs
    finally:
        opened.close()
    wanted = set(told)
    views = [
        _view(job, states.get(at, PENDING))
        for at, job in enumerate(document.jobs)
        if job.job_id in wanted
    ]
    return _answer(queue, views, events, after)


def _told_of(events: Iterable[dict[str, Any]]) -> list[str]:
    return [*dict.fromkeys(each["job"] for each in events if each["job"] is not None)]


def _answer(
    queue: QueueState, views: list[dict[str, Any]], events: Sequence[dict[str, Any]], after: int
) -> Answer:
    return {
        "changes": views,
        "after": events[-1]["seq"] if events else after,
        "run_id": queue.run_id,
        "status": queue.status.value,
    }


def _view(job: JobSpec, state: JobState) -> dict[str, Any]:
    shell = job.placement.shell
    more = {"shell": list(shell)} if shell is not None else {}
    return {
        **job_view(job.job_id, state),
        "result_paths": [each.path for each in job.result_paths],
        **more,
    }


# -- fields ----------------------------------------------------------------------------------


def _open_queues(host: requests.Host) -> OpenQueues:
    if host.open_queues is None:
        raise ConflictError("only a daemon has queues that jobs are added to over its socket")
    return host.open_queues


def _files(host: requests.Host, fields: Fields) -> CallFiles:
    return _open_queues(host).files_of(queue_name(host, fields))


def _token(fields: Fields) -> str:
    token = given.word(fields, "session")
    if not re.fullmatch(r"[A-Za-z0-9-]{8,64}", token):
        raise UsageError('"session" is 8 to 64 letters, digits and "-"')
    return token


def _job(fields: Fields) -> str:
    return _check_job(given.word(fields, "job"))


def _check_job(job_id: str) -> str:
    if not re.fullmatch(ID_PATTERN, job_id):
        raise UsageError(f"{quoted(job_id)} is not the id of a job")
    return job_id
