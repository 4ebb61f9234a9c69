"""Ending whatever a slot file says still runs, when the state itself can't be read any more."""

from __future__ import annotations

import os
from pathlib import Path

from runner.engine.signals import end_background
from runner.process import tree
from runner.process.cgroup import Group
from runner.process.identity import boot_id, is_shim
from runner.process.slots import SLOT, SlotFile
from runner.process.wire import User


def end_every_attempt(path: Path, user: User | None, unit: str | None) -> int:
    """End every attempt on record: SIGTERM, two seconds, SIGKILL; returns how many lived.

    ``user``: as whom the commands were run, None for our own. ``unit``: where their control groups
    are, if they have any.
    """
    if not path.is_file():
        return 0
    slots = SlotFile.open(str(path))
    ended = 0
    try:
        for number in range(os.fstat(slots.fd).st_size // SLOT):
            slot = slots.read(number)
            if not slot.token or slots.void(number, slot.token) or slot.claim is None:
                continue
            if slot.claim.boot_id != boot_id():
                continue
            if is_shim(slot.claim.shim, slots.mark):
                end_background(slot.claim.shim, slots.mark)
                ended += 1
            elif slot.exit is None:
                group = Group(unit, slot.token) if unit else None
                makers = tree.makers(user)
                lost = tree.Lost(slot.token, slot.command, None, slots.mark, makers, group)
                ended += tree.kill_orphans(lost) > 0
        return ended
    finally:
        slots.close()
