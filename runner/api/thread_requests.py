"""What other threads ask of the one thread that owns a connection."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


class ThreadRequests:
    """``ask`` and ``have`` are for other threads, the rest for the owner. ``wake``: set after each
    request."""

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._questions: deque[Callable[[], None]] = deque()
        self._intents: deque[Callable[[], None]] = deque()
        self._over = False

    def ask(self, call: Callable[[], _T], otherwise: _T) -> _T:
        """What it returns, or raises, called in the owner's thread; ``otherwise`` if that ended."""
        answer: Future[_T] = Future()

        def ask() -> None:
            if self._over:
                answer.set_result(otherwise)
                return
            try:
                answer.set_result(call())
            except BaseException as error:
                answer.set_exception(error)

        with self._lock:
            if self._over:
                return otherwise
            self._questions.append(ask)
        self._wake.set()
        return answer.result()

    def have(self, intent: Callable[[], None]) -> None:
        """Have it done in the owner's thread, in order, as often as it takes until it succeeds."""
        with self._lock:
            if self._over:
                return
            self._intents.append(intent)
        self._wake.set()

    @property
    def intended(self) -> bool:
        """Whether anything is still to be done."""
        return bool(self._intents)

    def answer(self) -> None:
        """Answer what was asked."""
        while self._questions:
            self._questions.popleft()()

    def carry_out(self) -> None:
        """Do what is intended; what raises stays, and so does all behind it."""
        while self._intents:
            self._intents[0]()
            self._intents.popleft()

    def end(self) -> None:
        """Take nothing any more, and answer the rest with what stands for nothing."""
        with self._lock:
            self._over = True
        self.answer()
