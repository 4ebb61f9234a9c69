"""Scenarios of a queue whose driver loses its host each time: only the result store is left.

What runs outlives every host, as jobs of AWS Batch do; each host has a clock of its own.
"""

from __future__ import annotations

import json
from pathlib import Path

from simulation import Scenario

from runner.core.run_mode import RunMode
from runner.core.states import QUEUE_ENDED, QueueStatus
from runner.engine.clock import now
from runner.engine.virtual_time import VirtualLoop
from runner.model.document import dump_document
from runner.results.folder import FolderStore
from runner.results.journal import read_journal
from runner.results.layout import Layout
from runner.service import resume_from_store
from runner.service.coordinator import left_for_good, stored_queue
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext, Session


class Elsewhere(FolderStore):
    """A store that is not on this host, as far as anybody can tell."""

    local_folder = None  # type: ignore[assignment]


class HostlessScenario(Scenario):
    """One seed's."""

    always_stores = True
    epoch_is_told = False  # a driver that is lost may not have come to it: the next one counts on

    def __init__(self, seed: int, folder: Path) -> None:
        super().__init__(seed, folder)
        self.heartbeat = 30.0
        self._folder = folder
        self._hosts = 0
        self._same_host = False
        # As a launch does, before anything runs.
        document = dump_document(self.queue).encode()
        FolderStore(folder / "store").put_bytes(Layout.document_key, document)

    def _between(self) -> None:
        """Another host drives the queue, some time later; what runs there goes on."""
        self.mono += self.random.choice((0.0, 0.5, 5.0, 100.0))
        before, wall = self.mono, self.epoch + self.mono
        self.mono = self.random.choice((5.0, 50.0, 1e6))
        self.epoch = wall - self.mono
        for tree in self.machine.trees.values():
            tree.ends += self.mono - before
            if tree.claimed is not None:
                tree.claimed += self.mono - before

    def _session(self, peace: bool) -> QueueStatus | None:
        ended = self._ended_for_good()
        if ended is not None:
            return ended
        status = super()._session(peace)
        # A request that came with the end: the coordinator goes on.
        while status in QUEUE_ENDED and self.repository.find("q").queue.status not in QUEUE_ENDED:
            self._same_host = True
            status = super()._session(peace)
        return status

    def _check_end(self) -> None:
        # What the last host knew beyond the store went with it: a request that came while nothing
        # could be stored was never answered, and is no part of the queue.
        ended = self._ended_for_good()
        if ended is not None and self.repository.find("q").queue.status is not ended:
            loop = VirtualLoop(self.epoch, self.mono, lambda: 0.0)
            loop.run_until_complete(self._take_over())
            loop.close()
        super()._check_end()

    async def _take_over(self) -> None:
        self._move()
        stored = json.loads(FolderStore(self._folder / "store").get_bytes(Layout.state_key) or b"")
        unsigned = {name: stored[name] for name in stored.keys() - {"epoch", "holder", "claim"}}
        self.repository.queue_paths("q").projection.write_text(json.dumps(unsigned))

    def _ended_for_good(self) -> QueueStatus | None:
        """The queue's status, where a coordinator would find nothing more to do."""
        store = Elsewhere(self._folder / "store")
        if (stored := stored_queue(store)) is None:
            return None
        journal = read_journal(store, Layout(), stored.run_id)
        return stored.status if left_for_good(store, stored, journal) else None

    def _open(self) -> Session:
        if not self._same_host:
            self._move()
        self._same_host = False
        place = RunContext(
            {}, str(self.work), backend=self.machine.backend, results=self.store,
            heartbeat=self.heartbeat, journal=True,
        )  # fmt: skip
        return Session(self.repository, self.settings, "q", place, self._observe, self.queue)

    def _move(self) -> None:
        """A host that knows nothing."""
        self._hosts += 1
        here = self._folder / f"host-{self._hosts}"
        self.repository = QueueRepository(here / "state", here / "logs")
        self.repository.create(self.queue, "run", anonymous=False, again=RunMode())
        assert self.store is not None
        healthy = FolderStore(self._folder / "store")
        entry = self.repository.find("q")
        found = resume_from_store.find(self.repository, entry, healthy, self.say, journal=now())
        if found is not None:
            resume_from_store.take_over(self.repository, entry, found, healthy)
            self.say(f"goes on from part {found.journal.last if found.journal else None}")
