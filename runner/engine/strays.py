"""Attempts on record that the state knows nothing of: a database may be older than its jobs.

Identity before anything else, as for survivors: a claim of this boot, and a shim of ours. One that
has not begun is forbidden to; one that runs is ended, for nobody can say any more whose it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import NamedTuple

from runner.engine.signals import BACKGROUND_GRACE, end_background
from runner.process import tree
from runner.process.cgroup import Group
from runner.process.identity import Process, is_shim
from runner.process.shim_protocol import User
from runner.process.shim_records import ShimRecord, ShimRecordFile


class Stray(NamedTuple):
    """An attempt on record; ``shim`` is None if it is dead, and may have left a tree."""

    slot: ShimRecord
    shim: Process | None


def strays(shim_records: ShimRecordFile, boot_id: str, known: Set[str]) -> Iterator[Stray]:
    """All that may run for other tokens than those; their starts can't come about any more.

    Raises OSError when it can't be told what lives.
    """
    records = list(shim_records.all())
    # A shim carries one attempt out after the other: all but its newest are over.
    newest: dict[Process, float] = {}
    for _, slot in records:
        if slot.claim is not None:
            newest[slot.claim.shim] = max(slot.claim.mono, newest.get(slot.claim.shim, 0.0))
    for number, slot in records:
        if not slot.token or slot.token in known or shim_records.void(number, slot.token):
            continue
        # Again: it may have been claimed just before that.
        slot = shim_records.read(number)
        claim = slot.claim
        if claim is None or claim.boot_id != boot_id:
            continue
        if claim.mono < newest.get(claim.shim, 0.0):
            continue
        if is_shim(claim.shim, shim_records.mark):
            yield Stray(slot, claim.shim)
        elif slot.exit is None:
            yield Stray(slot, None)


def end_stray(
    shim_records: ShimRecordFile,
    stray: Stray,
    user: User | None,
    group: Group | None,
    grace: float = BACKGROUND_GRACE,
) -> bool:
    """SIGTERM, ``grace`` seconds, SIGKILL to all of it; whether any of it was alive. Blocks.

    ``user``: as whom its command was run, None for our own. ``group``: its control group, if it
    may have one.
    """
    if stray.shim is not None:
        end_background(stray.shim, shim_records.mark, group, grace)
    token, command = stray.slot.token, stray.slot.command
    lost = tree.LostTree(token, command, shim_records.mark, tree.makers(user), group)
    return tree.kill_orphans(lost) > 0 or stray.shim is not None
