"""Ending an attempt's tree. Runs in threads: a sweep of /proc may take milliseconds.

The shim is told by who it is, and whoever calls this has seen to it that it runs nothing else.
"""

from __future__ import annotations

import signal
import time

from runner.process import tree
from runner.process.cgroup import Group
from runner.process.identity import Process, is_shim
from runner.process.shim_records import ShimRecordFile

BACKGROUND_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for what a job was allowed to leave running."""

BETWEEN_LOOKS = 0.01
BETWEEN_LOOKS_LIMIT = 0.5
"""Seconds between two looks at a process that is nobody's child here: first, and at most."""

GIVE_UP_AFTER = 60.0
"""Seconds after which only the kernel can be what keeps a killed process."""

LOOK_FOR = 5.0
"""Seconds in which a shim that has claimed an attempt is expected to start its command."""


def signal_attempt(
    shim_records: ShimRecordFile,
    slot: int,
    token: str,
    shim: Process | None,
    group: Group | None,
    kill: bool,
) -> bool:
    """SIGTERM or SIGKILL the attempt's tree; True if it had not begun and now never will.

    ``shim`` is None as long as only the claim can name it, ``group`` where attempts have none.
    """
    if shim_records.void(slot, token):
        return True
    deadline = time.monotonic() + LOOK_FOR
    while time.monotonic() < deadline:
        state = shim_records.read(slot)
        own = state.token == token
        if shim is None and own and state.claim is not None:
            shim = state.claim.shim
        if shim is None or not _lives(shim, shim_records.mark):
            return False
        # Claimed, but the shim may be just about to start the command.
        if _end(shim, group, kill=kill) or (own and state.exit):
            return False
        time.sleep(BETWEEN_LOOKS)  # reason: between another's fork and exec there is no event
    return False


def end_background(
    shim: Process, mark: str, group: Group | None = None, grace: float = BACKGROUND_GRACE
) -> None:
    """End what is below a shim, and the shim with it; ``grace`` in seconds."""
    _end(shim, group, kill=False)
    begun = time.monotonic()
    wait = BETWEEN_LOOKS
    while _lives(shim, mark) and (lasted := time.monotonic() - begun) < grace + GIVE_UP_AFTER:
        if lasted >= grace:
            _end(shim, group, kill=True)
        time.sleep(wait)  # reason: waits for a process that is nobody's child here
        wait = min(1.5 * wait, BETWEEN_LOOKS_LIMIT)


def _lives(shim: Process, mark: str) -> bool:
    try:
        return is_shim(shim, mark)
    except OSError:
        # Short of descriptors: what can't be seen to be dead may live.
        return True


def _end(shim: Process, group: Group | None, *, kill: bool) -> int:
    """End what is below the shim, which has to be able to reap: a job may have stopped it.

    Killed, a group is gone at once, whatever it forks; what is found after that had left it.
    """
    try:
        tree.send(shim, signal.SIGCONT)
        grouped = kill and group is not None and not group.is_empty() and group.kill()
        return (tree.kill if kill else tree.terminate)(shim) + grouped
    except OSError:
        return 0
