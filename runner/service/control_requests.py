"""The driver's side of the control channel: requests that lie in the result store are answered.

By the same handlers as a socket's. A request that acts is carried out once, also if its driver is
lost before the answer is stored: its id is stored with what came of it. Owns how often the store is
asked, which requests may come this way, and how long answers stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from runner.control.protocol import Peer, decode_request, encode_answer, encode_error
from runner.errors import ConflictError, RunnerError, UsageError
from runner.model.messages import did_you_mean, quoted
from runner.results.control_channel import MOST_BYTES, ControlChannel, WaitingRequest
from runner.results.store import StoreError
from runner.service import request_table, requests
from runner.service.session import Session

ANSWERS_STAY = 600.0
"""Seconds that an answer is left for its client, which removes it when it has read it."""

_ONLY_SOCKETS = frozenset(
    {"submit", "upload", "open_queue", "add_jobs", "end_jobs", "store_call", "forget_calls"}
)
LOOKING = frozenset({"ping", "status", "job"})
CHANNEL_REQUESTS = LOOKING | (request_table.ACTING - _ONLY_SOCKETS)
"""What may be asked here: what is held open, and whole documents, are not for a store."""

_PEER = Peer(0, 0, may_act=True)
"""Who may write to the channel may act: the store's own permissions say who that is."""

_T = TypeVar("_T")


class ControlRequests:
    """Of one session. ``every``: seconds between two looks; ``say`` takes what acts, for people."""

    def __init__(
        self,
        host: requests.Host,
        session: Session,
        channel: ControlChannel,
        every: float,
        say: Callable[[str], None],
    ) -> None:
        self._host = host
        self._session = session
        self._channel = channel
        self._every = every
        self._say = say
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._answers: dict[str, bytes] = {}
        self._remove_at: dict[str, float] = {}
        self._stop = asyncio.Event()
        self._over: str | None = None

    async def run(self) -> None:
        """Answer what is asked, until ``finish`` is called."""
        while not self._stop.is_set():
            await self.poll()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._every)

    async def finish(self, why: str) -> None:
        """Answer what is asked now for the last time: what acts is refused, for the reason."""
        self._over = why
        self._stop.set()
        await self.poll()

    def close(self) -> None:
        """Give the thread back; a call that hangs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def poll(self) -> None:
        """Look once. A store that doesn't answer is asked again the next time."""
        if not self._session.scheduler.queue.epoch:
            return  # the run isn't in the store yet: another driver would begin without it
        try:
            found = await self._call(self._channel.look)
            for request in found.waiting:
                await self._serve(request)
            await self._clean(found.answered)
        except StoreError:
            pass

    async def _serve(self, request: WaitingRequest) -> None:
        """Raises StoreError: what was carried out is answered the next time."""
        if (line := self._answers.get(request.id)) is None:
            line = self._answers[request.id] = await self._answer(request)
        await self._call(partial(self._channel.answer, request.id, line))
        del self._answers[request.id]

    async def _answer(self, request: WaitingRequest) -> bytes:
        try:
            if request.size > MOST_BYTES:
                raise UsageError(f"the request has {request.size:,} bytes: at most 64 KiB")
            raw = await self._call(partial(self._channel.read, request.id))
            message = decode_request((raw or b"").strip())
            return encode_answer(await self._carry_out(message, request.id))
        except StoreError:
            raise
        except RunnerError as error:
            return encode_error(error)
        except Exception as error:
            # A bug, and no reason to leave the client waiting or the queue alone.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a request failed", "exception": error}
            )
            return encode_error(RunnerError(f"internal error: {type(error).__name__}"))

    async def _carry_out(self, message: dict[str, Any], request_id: str) -> dict[str, Any]:
        name = message["request"]
        if name not in CHANNEL_REQUESTS:
            hint = did_you_mean(name, CHANNEL_REQUESTS)
            raise UsageError(f"{quoted(name)} can't be asked by way of a result store{hint}")
        if "queue" in request_table.FIELDS[name]:
            message.setdefault("queue", self._session.name)
        if name in LOOKING:
            return await request_table.answer(self._host, message, _PEER)
        if self._session.carried_out(request_id):
            about = {"request": "status", "queue": self._session.name, "limit": 0}
            return await request_table.answer(self._host, about, _PEER)
        if self._over is not None:
            raise ConflictError(self._over)
        self._say(f"{name} asked for by request {request_id}")
        return await request_table.answer(self._host, {**message, "id": request_id}, _PEER)

    async def _clean(self, answered: frozenset[str]) -> None:
        now = asyncio.get_running_loop().time()
        kept = {each: self._remove_at.get(each, now + ANSWERS_STAY) for each in answered}
        for request_id in [each for each, due in kept.items() if due <= now]:
            await self._call(partial(self._channel.forget, request_id))
            del kept[request_id]
        self._remove_at = kept

    async def _call(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
