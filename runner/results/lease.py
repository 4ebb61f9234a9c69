"""The lease of a result store: who works on its queue now, told anew every little while.

An object beside the state, written only in place of the version that was seen before it. Its epoch
is the claim's: who finds a later one than its own has been succeeded. A laptop that can't ask EC2
waits until it has not changed for as long as it says it is valid.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Annotated

from runner.core.state_file import Told
from runner.errors import StateError
from runner.model.records import Name, Rule, number, parse
from runner.results.claim import SucceededError
from runner.results.layout import Layout
from runner.results.store import ChangedError, ResultStore, Versioned
from runner.timestamps import rfc3339_seconds

LONGEST = 86_400.0
"""Seconds that a lease may be valid for: it is renewed all the time, and others wait for it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as it is stored. ``valid_for`` in seconds from ``renewed_at`` (RFC 3339, theirs).

    ``released``: no process works on the queue any more.
    """

    run_id: Name
    epoch: Told
    holder: str
    instance_id: str | None = None
    renewed_at: str = ""
    valid_for: Annotated[float, Rule(number(0, LONGEST), "valid_for_seconds")] = 0.0
    released: bool = False

    @property
    def who(self) -> str:
        """For people."""
        return self.instance_id or "another machine"


class Lease:
    """One run's lease of one store. Not for two threads at once. ``instance_id`` may come later.

    ``holder``: as of the claim.
    """

    def __init__(self, store: ResultStore, run_id: str, holder: str, valid_for: float) -> None:
        self.instance_id: str | None = None
        self._store = store
        self._key = Layout.lease_key
        self._run_id = run_id
        self._holder = holder
        self._valid_for = valid_for
        self._seen: str | None = None
        self._looked = False

    def check(self, epoch: int) -> None:
        """See that nobody has it in a later epoch. Raises SucceededError, or StoreError.

        The claim is stored before the lease, and has the last word: a lease may be left of a run
        whose state somebody has removed. ``renew`` after this error replaces it.
        """
        found = self._store.get_versioned(self._key)
        held = parse_lease(found)
        self._seen = found.version if found else None
        self._looked = True
        ours = held is not None and (held.run_id, held.holder) == (self._run_id, self._holder)
        if held is not None and not ours and held.epoch > epoch:
            raise SucceededError(
                f"{self._store.describe()} was taken over by {held.who} "
                f"(run {held.run_id}, epoch {held.epoch}; ours is {epoch})"
            )

    def renew(self, epoch: int, *, released: bool = False) -> None:
        """Tell that it is held, or given back. Raises like ``check``."""
        if not self._looked:
            self.check(epoch)
        for again in (True, False):
            try:
                self._seen = self._store.swap_bytes(
                    self._key, self._told(epoch, released), self._seen
                )
                return
            except ChangedError:
                if not again:
                    raise
                self.check(epoch)

    def _told(self, epoch: int, released: bool) -> bytes:
        told = {
            "run_id": self._run_id,
            "epoch": epoch,
            "holder": self._holder,
            "instance_id": self.instance_id,
            "renewed_at": rfc3339_seconds(time.time()),
            "valid_for_seconds": self._valid_for,
            "released": released,
        }
        return json.dumps(told).encode() + b"\n"


def parse_lease(found: Versioned | None) -> Held | None:
    """The lease that a store holds; None for none, or for what no runner has written."""
    if found is None:
        return None
    try:
        return parse(Held, found.data, Layout.lease_key)
    except StateError:
        return None
