"""What the shims' record file alone tells of a queue's attempts, where the state can't be read.

Whether any of them still runs, and ending them all.
"""

from __future__ import annotations

from pathlib import Path

from runner.engine.strays import end_stray, strays
from runner.process.cgroup import Group
from runner.process.identity import boot_id, is_shim, start_time
from runner.process.shim_protocol import User
from runner.process.shim_records import ShimRecord, ShimRecordFile


def end_every_attempt(path: Path, user: User | None, unit: str | None) -> int:
    """End every attempt on record: SIGTERM, two seconds, SIGKILL; returns how many lived.

    ``user``: as whom the commands were run, None for our own. ``unit``: where their control groups
    are, if they have any.
    """
    if not path.is_file():
        return 0
    shim_records = ShimRecordFile.open(str(path))
    try:
        return sum(
            end_stray(shim_records, stray, user, Group(unit, stray.slot.token) if unit else None)
            for stray in strays(shim_records, boot_id(), frozenset())
        )
    finally:
        shim_records.close()


def any_alive(path: Path) -> bool:
    """Whether an attempt on record still runs. Raises OSError when that can't be told."""
    if not path.is_file():
        return False
    shim_records = ShimRecordFile.open(str(path))
    try:
        boot = boot_id()
        return any(_is_alive(slot, shim_records.mark, boot) for _, slot in shim_records.all())
    finally:
        shim_records.close()


def _is_alive(slot: ShimRecord, mark: str, boot: str) -> bool:
    claim, command = slot.claim, slot.command
    if claim is None or claim.boot_id != boot:
        return False
    if is_shim(claim.shim, mark):
        return True
    # A shim that was killed leaves its command behind.
    return slot.exit is None and command is not None and start_time(command.pid) == command.start
