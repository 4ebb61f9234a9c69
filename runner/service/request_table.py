"""Every request by its name: who may make it, what it may carry, and which function answers it.

The one way from a decoded message to an answer, for a socket as for a control channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from runner.control.protocol import Peer
from runner.errors import RunnerError, UsageError
from runner.model.messages import did_you_mean, quoted
from runner.service import open_queue_requests, requests
from runner.service.queries import Answer
from runner.service.request_fields import Fields


async def answer(host: requests.Host, message: dict[str, Any], peer: Peer) -> Answer:
    """Answer one decoded request of this peer."""
    name = message["request"]
    if name not in FIELDS:
        raise UsageError(f"unknown request {quoted(name)}{did_you_mean(name, FIELDS)}")
    if name in ACTING | PRIVATE and not peer.may_act:
        raise RunnerError(
            f"permission denied: '{name}' is for root and the members of the group 'runner'; "
            "everybody else may look"
        )
    allowed = FIELDS[name] | {"v", "request"} | ({"id"} if name in ACTING else set())
    for field in message:
        if field not in allowed:
            raise UsageError(
                f"'{name}' knows no {quoted(field)}{did_you_mean(field, FIELDS[name])}"
            )
    if name in OPENING:
        return await _to_its_end(OPENING[name](host, message, peer))
    if name in ACTING:
        return await _to_its_end(REQUESTS[name](host, message))
    if name in REQUESTS:
        return await REQUESTS[name](host, message)
    return await requests.look(host, name, message)


async def _to_its_end(acting: Awaitable[Answer]) -> Answer:
    """Half an action is worse than an answer that nobody reads."""
    task = asyncio.ensure_future(acting)
    # Whoever asked may have gone: then nobody else looks at how it ended.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


REQUESTS: dict[str, Callable[[requests.Host, Fields], Awaitable[Answer]]] = {
    "logs": requests.logs,
    "wait": requests.wait,
    "submit": requests.submit,
    "cancel": requests.cancel,
    "retry": requests.retry,
    "pause": requests.pause,
    "release": requests.release,
    "unpause": requests.unpause,
    "upload": requests.upload,
    "stop": requests.stop,
    "close": open_queue_requests.close,
    "end_jobs": open_queue_requests.end_jobs,
    "store_call": open_queue_requests.store_call,
    "forget_calls": open_queue_requests.forget_calls,
    "read_result": open_queue_requests.read_result,
    "result_files": open_queue_requests.result_files,
    "changes": open_queue_requests.changes,
}

OPENING: dict[str, Callable[[requests.Host, Fields, Peer], Awaitable[Answer]]] = {
    "open_queue": open_queue_requests.open_queue,
    "add_jobs": open_queue_requests.add_jobs,
}
"""Those for which it matters which process asks."""

PRIVATE = frozenset({"read_result", "result_files", "changes"})
"""The requests that change nothing, and aren't for the looking socket: what a function returned is
its caller's."""

ACTING = frozenset({*REQUESTS, *OPENING}) - {"logs", "wait"} - PRIVATE
"""The requests that change something: not for the looking socket."""

TOLD = ACTING - {"store_call", "forget_calls"}
"""Those that are logged with who asked: a call of a function is told of when its job is added."""

FIELDS: dict[str, set[str]] = {
    "ping": set(),
    "queues": set(),
    "status": {"queue", "after", "limit", "status", "jobs"},
    "job": {"queue", "job"},
    "plan": {"queue", "after", "limit"},
    "logs": {
        "queue",
        "job",
        "attempt",
        "stream",
        "offset",
        "offsets",
        "lines",
        "since",
        "follow",
        "to_come",
    },
    "wait": {"queue", "timeout"},
    "submit": {"document", "again", "batch"},
    "cancel": {"queue", "jobs"},
    "retry": {"queue", "jobs", "completed", "dependants"},
    "pause": {"queue"},
    "release": {"queue", "jobs"},
    "unpause": {"queue"},
    "upload": {"queue"},
    "stop": {"detach"},
    "open_queue": {"queue", "session", "most"},
    "add_jobs": {"jobs", "queue", "session"},
    "close": {"queue", "session"},
    "end_jobs": {"queue", "jobs", "waiting"},
    "store_call": {"queue", "job", "data", "offset", "last"},
    "forget_calls": {"queue", "jobs"},
    "read_result": {"queue", "job", "attempt", "offset"},
    "result_files": {"queue", "job"},
    "changes": {"queue", "after", "jobs", "timeout"},
}
"""What each request may carry; ``logs``, ``status`` and their like are in ``queries``.
One that acts may also carry an ``id``: it is remembered with what came of it."""
