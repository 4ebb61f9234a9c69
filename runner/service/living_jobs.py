"""The queues that can't be opened and whose jobs still live: they take a place all the same.

Owns for how long that is believed.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

import structlog

from runner.engine.recorded_attempts import any_alive
from runner.service.queue_repository import QueueRepository

LIVES_AT_MOST = 24 * 3600.0
"""Seconds for which the jobs of a queue that can't be opened keep others from being begun: as long
as they live, but a job that nobody can end any more must not stop all work for ever."""

log = structlog.get_logger()


class LivingJobs:
    """Of one state folder."""

    def __init__(self, repository: QueueRepository) -> None:
        self._repository = repository
        self._since: dict[str, float] = {}

    def among(self, troubled: Iterable[str], attended: Collection[str]) -> set[str]:
        """The queues in trouble whose jobs still live; those that are ``attended`` are in none.

        On the daemon's loop: between this look and what follows from it none of them is taken up or
        left, and a session has its record of attempts for itself. It is a small file.
        """
        found, since = set(), self._since
        for name in troubled:
            if name in attended or not self._lives(name):
                since.pop(name, None)
            elif time.monotonic() - since.setdefault(name, time.monotonic()) < LIVES_AT_MOST:
                found.add(name)
        return found

    def _lives(self, name: str) -> bool:
        try:
            return any_alive(self._repository.queue_paths(name).shim_records)
        except OSError as error:
            # Nobody can tell: what may live is taken to live.
            log.error("attempts_unreadable", queue=name, error=str(error))
            return True
