"""AWS Batch in one region, as all sessions of a process use it together.

Owns what must not be had twice: the client with its connections, the poller, the definitions that
are known to be there, and the rate of submissions.
"""

from __future__ import annotations

from collections.abc import Callable

from runner.aws.batch import Batch
from runner.batch.poller import EVERY, PER_SECOND, Poller
from runner.batch.submission import PER_SECOND as SUBMITS_PER_SECOND
from runner.batch.submission import DefinitionRegistry, SharedRate

JOIN = 2.0
"""Seconds that a call under way is waited for at the end: it may hang."""


class BatchRegion:
    """``name`` None: that of the environment. ``say`` takes words for people, in any thread.
    ``every``: see Poller; the rates are in calls a second."""

    def __init__(
        self,
        name: str | None,
        say: Callable[[str], None],
        *,
        every: float = EVERY,
        looks_per_second: float = PER_SECOND,
        submits_per_second: float = SUBMITS_PER_SECOND,
    ) -> None:
        self.batch = Batch(name)
        self.poller = Poller(self.batch.describe, say, every=every, per_second=looks_per_second)
        self.definitions = DefinitionRegistry(self.batch)
        self.submits = SharedRate(submits_per_second, burst=max(1.0, submits_per_second / 2))

    def close(self) -> None:
        """Ask nothing more. Blocks, a moment."""
        self.poller.close()
        self.poller.join(JOIN)
