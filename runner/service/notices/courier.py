"""Who sends the notices of a process: each until its target was told, or a day is over.

Owns when a try is due and how many there are at once. A target that hangs holds up nobody: each try
is a thread of its own, which is left behind when its time is over and keeps no process from its
end. What is known of tries is lost with the process; the outbox is not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from runner.aws.errors import AwsError
from runner.aws.timeouts import within
from runner.core.notice_forms import Message
from runner.core.states import QueueStatus
from runner.engine.courier import Courier, Tried
from runner.model.notify import EXEC
from runner.service.notices.delivery import TRY, Attempt, Sender

FIRST_RETRY = 1.0
LAST_RETRY = 300.0
"""Seconds between two tries: first, and at most."""

LASTS = 24 * 3600.0
"""Seconds after the event in which it is tried."""

AT_ONCE = 16
"""Tries under way at most."""

SPARE = 0.5
"""Seconds beside TRY for who knows better why there was no answer."""

Key = tuple[str, str, str]

Late = Callable[[str, str, str, str | None, bool], None]
"""Told of what was delivered, or given up, when its session was over: the queue's folder, the
notice's id, the target as it may be shown, why it failed, and whether for good. In any thread."""


@dataclass(slots=True)
class _Parcel:
    queue: str
    target: str = field(repr=False)
    message: Message
    tried: Tried | None
    due: float = 0.0
    tries: int = 0
    under_way: bool = False
    hopeless: bool = False


def retry_after(tries: int, wanted: float | None = None) -> float:
    """Seconds from the end of the n-th try to the next; ``wanted``: what the receiver asks for."""
    seconds = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(tries - 1, 16))
    return seconds if wanted is None else min(LAST_RETRY, max(seconds, wanted))


class RetryingCourier(Courier):
    """``waits``: how long a session that ends so waits, where that isn't not at all; ``late``: None
    where a process ends with its session. Close it."""

    def __init__(
        self, sender: Sender, waits: Mapping[QueueStatus, float], late: Late | None = None
    ) -> None:
        self._sender = sender
        self._waits = waits
        self._late = late
        self._parcels: dict[Key, _Parcel] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._ended: dict[str, str] = {}

    def wait(self, status: QueueStatus) -> float:
        """See engine.courier.Courier."""
        return self._waits.get(status, 0.0)

    def send(self, queue: str, target: str, message: Message, tried: Tried | None) -> None:
        """See engine.courier.Courier. ``tried`` None: ``late`` is told."""
        key = (queue, message.notice.id, message.notice.to)
        with self._changed:
            if self._closed:
                return
            if (known := self._parcels.get(key)) is not None:
                known.tried, known.target = tried or known.tried, target
            else:
                self._parcels[key] = _Parcel(queue, target, message, tried)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="notices", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def ended(self, queue: str, results: str) -> None:
        """See engine.courier.Courier."""
        if self._sender.lost_notice:
            with self._changed:
                self._ended[queue] = results
            self._withdraw_if_told(queue)

    def _withdraw_if_told(self, queue: str) -> None:
        """Once an ended queue has told all whom its loss would be told to, that isn't told."""
        with self._changed:
            waiting = any(
                parcel.queue == queue and not parcel.target.startswith((EXEC, "http"))
                for parcel in self._parcels.values()
            )
            results = None if waiting or self._closed else self._ended.pop(queue, None)
        if results is not None:
            withdraw = partial(self._sender.withdraw, results)
            threading.Thread(target=withdraw, name="lost-notice", daemon=True).start()

    def waits(self, seconds: float) -> bool:
        """Whether there are events no older than this, whose targets may still answer."""
        since = time.time() - seconds
        with self._changed:
            return any(
                parcel.message.notice.at >= since and not parcel.hopeless
                for parcel in self._parcels.values()
            )

    def close(self) -> None:
        """Try nothing more; what is under way is not waited for."""
        with self._changed:
            self._closed = True
            self._parcels.clear()
            self._changed.notify_all()

    # -- in its thread -----------------------------------------------------------------------

    def _work(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                idle = [parcel for parcel in self._parcels.values() if not parcel.under_way]
                free = AT_ONCE - (len(self._parcels) - len(idle))
                due = sorted((p for p in idle if p.due <= now), key=lambda p: p.due)[:free]
                for parcel in due:
                    self._begin(parcel)
                later = [parcel.due for parcel in idle if parcel.due > now]
                self._changed.wait(max(0.0, min(later) - now) if later else None)

    def _begin(self, parcel: _Parcel) -> None:
        parcel.under_way = True
        try:
            threading.Thread(target=self._try, args=(parcel,), daemon=True).start()
        except RuntimeError:  # the system gives no thread
            parcel.under_way = False
            parcel.due = time.monotonic() + LAST_RETRY

    # -- in a thread a try -------------------------------------------------------------------

    def _try(self, parcel: _Parcel) -> None:
        target, message = parcel.target, parcel.message
        try:
            attempt = within(TRY + SPARE, lambda: self._sender.deliver(target, message))
        except AwsError as error:  # silent
            attempt = Attempt(error=str(error))
        except Exception as error:
            # A bug; its words may hold a URL.
            attempt = Attempt(error=f"an error of runner's own: {type(error).__name__}")
        notice = message.notice
        final = attempt.error is not None and time.time() >= notice.at + LASTS
        why = f"not told within 24 h: {attempt.error}" if final else attempt.error
        done = why is None or final
        with self._changed:
            parcel.under_way = False
            parcel.tries += 1
            parcel.hopeless = attempt.hopeless
            wait = LAST_RETRY if attempt.hopeless else retry_after(parcel.tries, attempt.after)
            parcel.due = time.monotonic() + wait
            tried = parcel.tried
        noted = tried is not None and tried(why, final, attempt.hopeless)
        if done and not noted and self._late is not None:
            self._late(parcel.queue, notice.id, notice.to, why, final)
        with self._changed:
            if done:
                self._parcels.pop((parcel.queue, notice.id, notice.to), None)
            self._changed.notify_all()
        if done:
            self._withdraw_if_told(parcel.queue)
