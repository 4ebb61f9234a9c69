"""Attempts that an earlier daemon started: found again, watched, and reported like our own.

Identity before anything else: the slot's claim must name this boot and a living shim of ours.
What ended meanwhile has its record; what never began is voided; the rest is watched through
pidfds, with no wake-up in between.
"""

from __future__ import annotations

import asyncio
import os
from enum import Enum

from runner.process import tree
from runner.process.cgroup import Group
from runner.process.identity import Process, is_shim, open_process
from runner.process.shim_protocol import User
from runner.process.shim_records import AttemptClaim, ShimRecord, ShimRecordFile
from runner.process.spawner import Spawner, SpawnerListener

RECHECK = 0.02
RECHECK_LIMIT = 1.0
"""Seconds until the next look for a record that a shim is about to write: first, and at most."""


class FoundAttempt(Enum):
    """What became of an attempt that was under way when its daemon went away."""

    VOID = "void"
    ALIVE = "alive"
    ENDED = "ended"
    GONE = "gone"


def examine(
    shim_records: ShimRecordFile,
    slot: int,
    token: str,
    boot_id: str,
    user: User | None = None,
    group: Group | None = None,
) -> tuple[FoundAttempt, ShimRecord]:
    """Look one attempt up; voids its start if nobody has claimed it. Raises OSError.

    ``user``: as whom its command was run, None for our own. ``group``: its control group, if it
    may have one.

    One that the file doesn't know never began, or the file was damaged: what runs of it all the
    same can't be adopted, and is killed before anything else may start.
    """
    if shim_records.void(slot, token):
        return FoundAttempt.VOID, shim_records.read(slot)
    state = shim_records.read(slot)
    if state.token != token:
        lost = tree.LostTree(token, None, shim_records.mark, tree.makers(user), group)
        killed = tree.kill_orphans(lost)
        return (FoundAttempt.GONE if killed else FoundAttempt.VOID), ShimRecord(
            token, None, False, None, None
        )
    claim = state.claim
    if claim is None or claim.boot_id != boot_id:
        return FoundAttempt.GONE, state
    if is_shim(claim.shim, shim_records.mark):
        return FoundAttempt.ALIVE, state
    return (FoundAttempt.ENDED if state.exit else FoundAttempt.GONE), state


class _Survivor:
    """One adopted attempt. ``reported``: its command's end is known, a background tree is left."""

    def __init__(self, token: str, slot: int, claim: AttemptClaim, *, reported: bool) -> None:
        self.token = token
        self.slot = slot
        self.claim = claim
        self.reported = reported
        self.command_watched = False
        self.fds: list[int] = []


class Survivors:
    """The adopted attempts of one session."""

    def __init__(
        self, shim_records: ShimRecordFile, spawner: Spawner, listener: SpawnerListener
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._shim_records = shim_records
        self._spawner = spawner
        self._listener = listener
        self._watched: dict[str, _Survivor] = {}

    def shim_of(self, token: str) -> Process | None:
        """The shim of an adopted attempt that is not known to have ended."""
        survivor = self._watched.get(token)
        return survivor.claim.shim if survivor else None

    def adopt(
        self, token: str, slot: int, state: ShimRecord, *, keep_background: bool, background: bool
    ) -> None:
        """Watch a living attempt; ``background``: its command's end is known already."""
        claim = state.claim
        assert claim is not None
        survivor = _Survivor(token, slot, claim, reported=background)
        self._watched[token] = survivor
        if not background:
            pid = state.command.pid if state.command else None
            self._listener.started(token, pid, claim.mono, True)
        self._watch(survivor, claim.shim)
        if keep_background and not background:
            self._await_command(survivor, RECHECK)

    def _watch(self, survivor: _Survivor, process: Process) -> None:
        """Look again when the process ends; at once if it has."""
        if self._is_over(survivor):
            return
        try:
            fd = open_process(process)
        except OSError:
            # From a want of descriptors nothing follows.
            self._loop.call_later(RECHECK_LIMIT, self._watch, survivor, process)
            return
        if fd is None:
            self._loop.call_soon(self._check, survivor)
            return
        survivor.fds.append(fd)

        def ended() -> None:
            self._loop.remove_reader(fd)
            survivor.fds.remove(fd)
            os.close(fd)
            self._check(survivor)

        self._loop.add_reader(fd, ended)

    def _is_over(self, survivor: _Survivor) -> bool:
        return self._watched.get(survivor.token) is not survivor

    def _await_command(self, survivor: _Survivor, wait: float) -> None:
        """Report the command's end while its tree lives on; its shim records it any moment."""
        if self._is_over(survivor) or survivor.reported:
            return
        state = self._shim_records.read(survivor.slot)
        end = state.exit if state.token == survivor.token else None
        if end is not None:
            # One that failed leaves nothing in the background: its shim reports by its own end.
            if (end.kind, end.value) == ("exit", "0"):
                survivor.reported = True
                since = survivor.claim.mono
                self._listener.ended(survivor.token, end, since, True)
        elif state.command and not survivor.command_watched:
            survivor.command_watched = True
            self._watch(survivor, state.command)
        else:
            self._loop.call_later(wait, self._await_command, survivor, min(2 * wait, RECHECK_LIMIT))

    def _check(self, survivor: _Survivor) -> None:
        """One of its processes ended: the command, or the shim and so the whole of it."""
        if self._is_over(survivor):
            return
        try:
            alive = is_shim(survivor.claim.shim, self._shim_records.mark)
        except OSError:
            self._loop.call_later(RECHECK_LIMIT, self._check, survivor)
            return
        if alive:
            self._await_command(survivor, RECHECK)
            return
        self._forget(survivor)
        # The shim may have been killed: an end on record says nothing of what was left.
        self._spawner.reap(survivor.token, survivor.slot, background=survivor.reported)

    def _forget(self, survivor: _Survivor) -> None:
        del self._watched[survivor.token]
        for fd in survivor.fds:
            self._loop.remove_reader(fd)
            os.close(fd)
        survivor.fds.clear()

    def close(self) -> None:
        """Stop watching. The attempts go on."""
        for survivor in list(self._watched.values()):
            self._forget(survivor)
