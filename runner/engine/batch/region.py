"""AWS Batch in one region, as all sessions of a process use it together.

Owns what must not be had twice: the client with its connections, the poller, the definitions that
are known to be there, the rate of submissions, and whether there are answers at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from runner.aws.batch import Batch
from runner.aws.sqs import Sqs
from runner.batch.circuit_breaker import CircuitBreaker
from runner.batch.doorbell import Doorbell
from runner.batch.poller import EVERY, PER_SECOND, Poller
from runner.batch.submission import PER_SECOND as SUBMITS_PER_SECOND
from runner.batch.submission import DefinitionRegistry, RegionHealth, SharedRate

JOIN = 2.0
"""Seconds that a call under way is waited for at the end: it may hang."""


class BatchRegion:
    """``name`` None: that of the environment. ``say`` takes words for people, in any thread.
    ``every``: see Poller; the rates are in calls a second. ``events``: the URL of a queue of SQS
    into which EventBridge puts what becomes of jobs."""

    def __init__(
        self,
        name: str | None,
        say: Callable[[str], None],
        *,
        every: float = EVERY,
        looks_per_second: float = PER_SECOND,
        submits_per_second: float = SUBMITS_PER_SECOND,
        events: str | None = None,
    ) -> None:
        self.health = RegionHealth(CircuitBreaker())
        self.batch = Batch(name, self.health.silent)
        self.poller = Poller(self.batch.describe, say, every=every, per_second=looks_per_second)
        self.definitions = DefinitionRegistry(self.batch)
        self.submits = SharedRate(submits_per_second, burst=max(1.0, submits_per_second / 2))
        self._doorbell: Doorbell | None = None
        if events is not None:
            sqs, poller = Sqs(region_of_queue(events) or name), self.poller
            self._doorbell = Doorbell(sqs, events, poller.ring, poller.hears, say)

    def close(self) -> None:
        """Ask nothing more. Blocks, a moment."""
        if self._doorbell is not None:
            self._doorbell.close()
        self.poller.close()
        self.poller.join(JOIN)


def region_of_queue(url: str) -> str | None:
    """The region that the URL of a queue of SQS names; None for one that names none."""
    found = re.match(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.com", url)
    return found[1] if found else None
