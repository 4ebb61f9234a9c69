"""The courier of a process that drives queues: as whom it sends, and how long an end waits."""

from __future__ import annotations

from runner.core.states import QUEUE_ENDED, QueueStatus
from runner.model.settings import Settings
from runner.service.notices.courier import Late, RetryingCourier
from runner.service.notices.delivery import TRY, Sender
from runner.service.session import RunContext


def courier_for(settings: Settings, context: RunContext) -> RetryingCourier:
    """Of a process that ends with its queue."""
    sender = Sender(context.environment, lambda: context.rights)
    ends = (*QUEUE_ENDED, QueueStatus.INTERRUPTED)
    return RetryingCourier(sender, dict.fromkeys(ends, settings.notify_wait))


def daemons_courier(settings: Settings, context: RunContext, late: Late) -> RetryingCourier:
    """Of a service: what isn't told when a queue has ended is told later, with ``late``."""
    sender = Sender(context.environment, lambda: context.rights, settings.lost_notice)
    waits = dict.fromkeys(QUEUE_ENDED, min(LINGER, settings.notify_wait))
    # The service or the machine ends: what isn't told now is told by the next one.
    waits[QueueStatus.INTERRUPTED] = min(TRY, settings.notify_wait)
    return RetryingCourier(sender, waits, late)


LINGER = 1.0
"""Seconds that a service's queue waits for receivers at its end: most answer at once, and then its
last state says so. The next queue waits as long."""
