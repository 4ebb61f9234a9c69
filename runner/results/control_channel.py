"""Requests to the driver of a queue that no socket leads to, and its answers: objects in its store.

``control/<id>.json`` is a request, a line as a socket has it, ``control/<id>.answer.json`` the
answer. Owns the keys, what is taken for a request, and what is removed. It knows no request.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass

from runner.results.layout import Layout
from runner.results.store import ResultStore

MOST_BYTES = 64 * 1024
"""Of a request; an answer may be longer."""

_ID = r"[A-Za-z0-9][A-Za-z0-9-]{0,63}"
_KEY = re.compile(rf"({_ID})(\.answer)?\.json")


def new_request_id() -> str:
    """An id that no other request has; they sort by the time of their clients' clocks."""
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
    return f"{stamp}{int(now * 1000) % 1000:03}-{os.urandom(6).hex()}"


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """A request without an answer; ``size`` in bytes."""

    id: str
    size: int


@dataclass(frozen=True, slots=True)
class ChannelContent:
    """What lies in the channel: requests without an answer, by their ids, and answered ids.

    What has another name than requests and answers have is left alone.
    """

    waiting: tuple[WaitingRequest, ...]
    answered: frozenset[str]


class ControlChannel:
    """The channel of the queue in a store. All calls block, and raise StoreError."""

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._layout = Layout()

    # -- the client --------------------------------------------------------------------------

    def ask(self, line: bytes) -> str:
        """Put a request; its id."""
        request_id = new_request_id()
        self._store.swap_bytes(self._layout.control_request_key(request_id), line, None)
        return request_id

    def answer_to(self, request_id: str) -> bytes | None:
        """The answer to a request, None as long as there is none."""
        return self._store.get_bytes(self._layout.control_answer_key(request_id))

    def forget(self, request_id: str) -> None:
        """Remove a request that was answered, and its answer. The request goes first: alone it
        would be carried out."""
        self._store.delete(self._layout.control_request_key(request_id))
        self._store.delete(self._layout.control_answer_key(request_id))

    # -- the driver --------------------------------------------------------------------------

    def look(self) -> ChannelContent:
        """What lies there, as one listing tells it."""
        prefix = self._layout.control_prefix
        requests: dict[str, int] = {}
        answered: set[str] = set()
        for entry in self._store.list(prefix):
            if (found := _KEY.fullmatch(entry.key.removeprefix(prefix))) is None:
                continue
            if found[2]:
                answered.add(found[1])
            else:
                requests[found[1]] = entry.size
        waiting = (
            WaitingRequest(request_id, requests[request_id])
            for request_id in sorted(requests.keys() - answered)
        )
        return ChannelContent(tuple(waiting), frozenset(answered))

    def read(self, request_id: str) -> bytes | None:
        """A request's line; None if it is gone."""
        return self._store.get_bytes(self._layout.control_request_key(request_id))

    def answer(self, request_id: str, line: bytes) -> None:
        """Put the answer to a request."""
        self._store.put_bytes(self._layout.control_answer_key(request_id), line)
