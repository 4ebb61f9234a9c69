"""Watches for what EC2 announces: spot interruptions, rebalance recommendations, maintenance.

Owns the thread that asks, and how often. A service that hangs, fails or comes late has no effect
but that a notice is seen once it answers. On a machine that gives no sign of being EC2's it asks
once a minute until it is answered for the first time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import structlog

from runner.host import ec2_notices
from runner.host.ec2_notices import Notice
from runner.host.metadata import InstanceMetadata, MetadataError

POLL_EVERY = 5.0
"""Seconds; what AWS recommends, of the two minutes that a notice gives."""

PROBE_EVERY = 60.0
"""Seconds between calls where nothing has ever answered."""

log = structlog.get_logger()


class SpotWatcher:
    """Calls ``tell`` on ``loop`` once for each distinct notice, from ``start`` to ``stop``.

    ``looked`` is called there once, when the first look is over, whatever came of it, and what it
    found has been told.
    """

    def __init__(
        self,
        metadata: InstanceMetadata,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[Notice], None],
        *,
        expected: bool,
        looked: Callable[[], None] | None = None,
        every: float = POLL_EVERY,
        probe_every: float = PROBE_EVERY,
    ) -> None:
        self._metadata = metadata
        self._loop = loop
        self._tell = tell
        self._looked = looked
        self._answers = expected
        self._every = every
        self._probe_every = probe_every
        self._told: set[Notice] = set()
        self._trouble = False
        self._stop = threading.Event()
        # A daemon thread: nobody waits at the end for a service that hangs.
        self._thread = threading.Thread(target=self._watch, name="spot-watcher", daemon=True)

    def start(self) -> None:
        """Begin, unless metadata was switched off."""
        if not self._metadata.disabled:
            self._thread.start()

    def stop(self) -> None:
        """Ask nothing more; a call under way may still end, and is not heard."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._poll()
                self._note(None)
            except MetadataError as error:
                self._note(error)
            except Exception:
                # A bug, met by one answer: the next may be the notice.
                log.exception("spot_watcher_broken")
            self._say_looked()
            every = self._every if self._answers else self._probe_every
            self._stop.wait(max(0.0, began + every - time.monotonic()))

    def _poll(self) -> None:
        """Raises MetadataError. The spot notice first: it is what there is least time for."""
        if not self._answers:
            self._metadata.probe()
            self._answers = True
        for notice in self._announced():
            if notice in self._told or self._stop.is_set():
                continue
            if not self._on_loop(self._hear, notice):
                return
            self._told.add(notice)

    def _say_looked(self) -> None:
        looked, self._looked = self._looked, None
        if looked is not None:
            self._on_loop(looked)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            # The loop is closed: whoever started us forgot to say so.
            self._stop.set()
            return False
        return True

    def _hear(self, notice: Notice) -> None:
        if not self._stop.is_set():
            self._tell(notice)

    def _announced(self) -> Iterator[Notice]:
        get = self._metadata.get
        if (text := get(ec2_notices.SPOT_PATH)) and (spot := ec2_notices.spot_notice(text)):
            now = self._metadata.now
            yield spot if now is None else replace(spot, left=spot.time - now)
        if (text := get(ec2_notices.REBALANCE_PATH)) and (
            less := ec2_notices.rebalance_notice(text)
        ):
            yield less
        if text := get(ec2_notices.MAINTENANCE_PATH):
            yield from ec2_notices.maintenance_notices(text)

    def _note(self, trouble: MetadataError | None) -> None:
        if self._answers and bool(trouble) is not self._trouble:
            self._trouble = bool(trouble)
            if trouble:
                log.warning("metadata_unreachable", error=str(trouble))
            else:
                log.info("metadata_answers")
