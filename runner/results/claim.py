"""Whose a result store is: one run's on one machine at a time, told by the state that is in it.

Every state that is stored names its run, its epoch and its holder. Who takes a store over from
another run or machine stores the next epoch; who finds a later epoch than its own has been
succeeded and stores nothing more. Each state replaces only the one that was seen before it, so two
that start at once can't both believe the store is theirs.

A holder is a state folder on a machine. A copy of both, with all that tells machines apart, is the
same holder: then the claim's own name, new with each process, tells that another one is at work.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from runner.core.state_file import Told
from runner.errors import StateError
from runner.model.records import Name, parse
from runner.results.layout import Layout
from runner.results.store import ChangedError, ResultStore, StoreError, Versioned

_MACHINE_ID = Path("/etc/machine-id")
_ASSET = Path("/sys/class/dmi/id/board_asset_tag")
"""On Nitro it holds the instance's id, for any user: machines that were made from one image may
have one machine-id."""
_APPLICATION = b"queue-runner result store holder\0"


class SucceededError(StoreError):
    """Another run, or this run on another machine, writes to the store now. Final."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a state says of who stored it."""

    run_id: Name
    epoch: Told = 0
    holder: str | None = None
    claim: str | None = None


class StoreClaim:
    """One run's right to write to a store, kept with each state that is stored.

    ``epoch``: the last that this run is known to have had in this store, 0 for none; ``holder``:
    see ``holder``. ``emptied``: what was stored has gone since, for the bucket was made anew; to be
    reset by who sees to that. Not for two threads at once.
    """

    def __init__(
        self, store: ResultStore, layout: Layout, run_id: str, epoch: int, holder: str
    ) -> None:
        self.epoch = epoch
        self.emptied = False
        self._store = store
        self._key = layout.state_key
        self._run_id = run_id
        self._holder = holder
        self._name = os.urandom(8).hex()
        self._seen: str | None = None
        self._looked = False
        self._stored = False

    def check(self) -> None:
        """See that the store is ours or may become so; sets ``epoch``.

        Raises SucceededError, or StoreError.
        """
        found = self._store.get_versioned(self._key)
        mark = mark_of(found)
        if mark is None:
            self.epoch = max(1, self.epoch)
        elif (mark.run_id, mark.holder) == (self._run_id, self._holder):
            if self._stored and mark.claim != self._name:
                # The first look may meet what a process before us has stored, no later one may.
                raise SucceededError(
                    f"{self._store.describe()} is written to by another process that has this "
                    "machine's and this state folder's identity (a copy of its disk?): nothing "
                    "more is stored there"
                )
            self.epoch = max(self.epoch, mark.epoch)
        elif self.epoch and mark.epoch > self.epoch:
            raise SucceededError(
                f"{self._store.describe()} was taken over by run {mark.run_id} "
                f"(epoch {mark.epoch}, ours is {self.epoch}): nothing more is stored there"
            )
        else:
            self.epoch = max(self.epoch, mark.epoch) + 1
        if found is None and self._seen is not None:
            self.emptied = True
        self._seen = found.version if found else None
        self._looked = True

    def put_state(self, state: bytes) -> None:
        """Store the state, signed, in place of the one seen last. Raises like ``check``."""
        if not self._looked:
            self.check()
        for again in (True, False):
            try:
                self._seen = self._store.swap_bytes(self._key, self._signed(state), self._seen)
                self._stored = True
                return
            except ChangedError:
                if not again:
                    raise
                # Perhaps by ourselves: an answer that was lost, or a daemon before us.
                self.check()

    def _signed(self, state: bytes) -> bytes:
        """The state, a JSON object of one or more fields, with three more in front."""
        mark = {"epoch": self.epoch, "holder": self._holder, "claim": self._name}
        return json.dumps(mark)[:-1].encode() + b", " + state.removeprefix(b"{")


def holder(run_id: str, folder_id: bytes) -> str:
    """A name for one state folder's hold on a run that doesn't tell which machine it is on.

    The machine counts as well: a copied disk is another one's. machine-id(5) asks for it never to
    be shown: it is hashed with a key of our own.
    """
    machine = _read(_MACHINE_ID)
    asset = _read(_ASSET)
    if asset.startswith(b"i-"):
        machine += b"\0" + asset
    told = b"\0".join((_APPLICATION, machine, folder_id, run_id.encode()))
    return hashlib.sha256(told).hexdigest()[:16]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError:
        return b""


def mark_of(found: Versioned | None) -> Mark | None:
    """Who stored a state; None for none, or for one that isn't ours to read."""
    if found is None:
        return None
    try:
        return parse(Mark, found.data, Layout.state_key)
    except StateError:
        return None
