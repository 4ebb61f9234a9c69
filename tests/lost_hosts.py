"""Hosts of the tests' Batch that are lost at random instants, with all that runs on them."""

from __future__ import annotations

import random
import threading

from batch_server import BatchServer, State

RUNS = (State.STARTING, State.RUNNING)


class LosesHosts:
    """While it is entered up to ``most`` are lost, each at most ``pause`` seconds after something
    was seen to run. ``count``: how many were."""

    def __init__(self, server: BatchServer, dice: random.Random, most: int, pause: float) -> None:
        self.count = 0
        self._server = server
        self._instants = [dice.uniform(0.0, pause) for _ in range(most)]
        self._dice = random.Random(dice.random())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._lose, name="loses-hosts", daemon=True)

    def __enter__(self) -> LosesHosts:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _lose(self) -> None:
        for pause in self._instants:
            while not self._running():
                if self._over.wait(0.02):
                    return
            if self._over.wait(pause):
                return
            self.lose_one()

    def _running(self) -> list[str]:
        return [job.id for job in self._server.jobs() if job.state in RUNS and not job.children]

    def lose_one(self) -> None:
        """The host of some job that runs now; nothing where none does."""
        if not (running := self._running()):
            return
        try:
            self._server.lose_host_of(self._dice.choice(running))
        except KeyError:
            return  # it has ended since
        self.count += 1
