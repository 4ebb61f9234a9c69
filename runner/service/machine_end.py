"""What the daemon does about the end of its machine: it plans it when all queues have ended.

Owns when that is. The machine is ended by the lifetime guard, so that
there is one way only, with a daemon or without.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import structlog

from runner.core.machine_lifetime import (
    MachineLifetime,
    Moment,
    QueueEnd,
    live_on,
    outlived,
    plan_end,
)
from runner.core.states import QUEUE_ENDED, QueueState, QueueStatus
from runner.errors import ConflictError
from runner.host.machine_file import MachineFile, this_moment
from runner.model.settings import Settings
from runner.service.machine_view import limits_of
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.store.database import TAKEN_OVER
from runner.store.locks import holder_of
from runner.store.paths import StatePaths
from runner.timestamps import rfc3339

log = structlog.get_logger()


class MachineEnd:
    """The plans of one daemon. Its calls cost a small file, read or written."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = MachineFile(StatePaths(settings.state_dir).machine)
        self._machine = MachineLifetime()

    def start(self, instance: str | None) -> None:
        """Begin, or go on with, the machine's life. Raises StateError."""
        limit, what = limits_of(self._settings)()
        with self._file.changing() as change:
            change.machine = live_on(change.machine, this_moment(), instance, limit, what)
        self._machine = change.machine

    @property
    def over(self) -> str | None:
        """Why nothing is started any more."""
        return outlived(self._machine, this_moment())

    @property
    def watches(self) -> bool:
        """Whether there is anything to plan at all."""
        return self._settings.on_complete != "none"

    def call_off(self) -> None:
        """There is work. Raises ConflictError once the end has begun, StateError."""
        if not self.watches and self._machine.plan is None:
            return
        with self._file.changing() as change:
            machine = change.machine
            if machine.is_ending(this_moment()) and machine.ending is not None:
                why = machine.ending.why
                raise ConflictError(f"nothing is accepted any more, this machine ends: {why}")
            change.machine = replace(machine, plan=None)
        if machine.plan is not None:
            log.info("machine_end_called_off", why=machine.plan.why)
        self._machine = change.machine

    def consider(self, ends: list[QueueEnd] | None) -> None:
        """Nothing is to be done just now: plan the end, if that is for good (see ``all_ended``).

        Raises StateError, DiskError.
        """
        settings = self._settings
        if not self.watches:
            return
        if ends is None:
            self.call_off()
            return
        with self._file.changing() as change:
            machine, now = change.machine, this_moment()
            if machine.is_ending(now) or (machine.plan and machine.plan.boot_id == now.boot_id):
                self._machine = machine
                return
            keep = settings.keep_on_failure or settings.on_complete_delay
            delay = settings.on_complete_delay
            plan = plan_end(ends, settings.on_complete, delay, keep, now)
            change.machine = replace(machine, plan=plan)
        self._machine = change.machine
        say = log.warning if any(end.only_copy for end in ends) else log.info
        say("machine_end_planned", what=plan.what, why=plan.why, at=rfc3339(plan.at))


def all_ended(entries: Iterable[QueueEntry], repository: QueueRepository) -> list[QueueEnd] | None:
    """How all queues have ended; None while there is none, or work is left of any. In any thread.

    One that another machine has taken over is no work of this one any more. What was begun in the
    foreground and is left alone is nobody's work. A queue that can't be read
    is one that failed: somebody should have a look at it. Whoever set one aside with ``--fresh``
    has had it.
    """
    ends, now = [], this_moment()
    for entry in entries:
        queue = entry.queue
        if queue is None:
            ends.append(QueueEnd(entry.name, "failed", now.wall))
        elif queue.status in QUEUE_ENDED:
            status = "set aside" if entry.aside else queue.status.value
            ends.append(QueueEnd(entry.name, status, _age(queue, now), entry.unstored))
        elif entry.meta.get(TAKEN_OVER) and queue.status is QueueStatus.INTERRUPTED:
            ends.append(QueueEnd(entry.name, "taken over", _age(queue, now)))
        elif entry.meta.get("owner") == "daemon" and not entry.aside:
            return None
        if not entry.aside and holder_of(repository.paths.queue_lock(entry.queue_id)) is not None:
            return None
    return ends or None


def _age(queue: QueueState, now: Moment) -> float:
    """Seconds since it ended: by the boot's clock if that was in this boot, else the wall clock's
    word."""
    if queue.boot_id == now.boot_id:
        return max(0.0, time.monotonic() - queue.mono)
    return max(0.0, now.wall - (queue.completed_at or queue.updated_at or 0.0))
