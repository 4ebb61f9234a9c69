"""The daemon's side of the shims: hands out attempts, hears how they end.

Owns the pool of idle shims and the sockets to busy ones; lives on one asyncio loop and is called
from there only. It speaks of tokens and slots, not of jobs. An attempt that another daemon
started is watched by ``adoption`` instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from runner.process import shim_protocol, tree
from runner.process.cgroup import Group
from runner.process.forker_client import ForkerHolder
from runner.process.identity import Process
from runner.process.shim_client import ShimClient
from runner.process.shim_protocol import Request, User
from runner.process.shim_records import Exit, ShimRecord, ShimRecordFile, moment, whole

__all__ = ["Request", "Spawner", "SpawnerListener"]

LOOK_AFTER = 1.0
"""Seconds after which the claim of a shim that says nothing is looked for in the file."""

OVERDUE_AFTER = 60.0
"""Seconds in which a shim has to claim what it was given; then another one gets it."""

REAP_AGAIN_AFTER = 1.0


class SpawnerListener(Protocol):
    """Who is told of attempts. All calls come on the loop."""

    def started(self, token: str, pid: int | None, since: float, adopted: bool) -> None:
        """The command runs; ``since`` is the boot's monotonic time of its claim."""

    def ended(self, token: str, end: Exit | None, since: float | None, background: bool) -> None:
        """It ended and its tree is gone, or kept in the background; ``end`` None: lost."""

    def voided(self, token: str, reason: str | None) -> None:
        """The command never ran and never will under this token; with a reason: not yet again."""

    def background_ended(self, token: str) -> None:
        """What was kept in the background is gone."""


class Spawner:
    """A pool of shims that share one record file, one base environment and one user of commands.

    ``unit``: see ForkerClient; ``forkers``: where the forker comes from, None: it has its own.
    """

    def __init__(
        self,
        shim_records: ShimRecordFile,
        listener: SpawnerListener,
        base: Mapping[str, str],
        user: User | None = None,
        unit: str | None = None,
        forkers: ForkerHolder | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._shim_records = shim_records
        self._listener = listener
        self._forkers = forkers or ForkerHolder()
        self._forker = self._forkers.take(shim_records, base, user, unit)
        self._keeps_forker = forkers is not None
        self._unit = unit
        self._makers = tree.makers(user)
        self._idle: list[ShimClient] = []
        self._busy: dict[str, ShimClient] = {}
        self._all: set[ShimClient] = set()
        self._reaping: set[str] = set()
        self._unclaimed: dict[str, float] = {}
        self._look_timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._closed = False

    # -- starting ----------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Have one shim ready before the first job needs it, if that can be done now."""
        try:
            self._idle.append(self._new_shim())
        except OSError:
            # The first start meets the same, and says so.
            pass

    def start(self, request: Request) -> None:
        """Hand an attempt to a shim. Raises OSError when nothing of it has happened."""
        data = shim_protocol.encode_request(request)
        self._shim_records.prepare(request.slot, request.token, request.work)
        shim = self._idle.pop() if self._idle else self._new_shim()
        self._busy[request.token] = shim
        self._unclaimed[request.token] = now = self._loop.time()
        if self._look_timer is None:
            self._look_timer = self._loop.call_at(now + LOOK_AFTER, self._look_for_claims)
        shim.give(request.token, request.slot, data)

    def _new_shim(self) -> ShimClient:
        shim = ShimClient(self._loop, self._forker.open_channel(), self._on_line, self._on_closed)
        self._all.add(shim)
        return shim

    def _look_for_claims(self) -> None:
        """A job may stop its shim before that can speak: its timeout has to run all the same."""
        self._look_timer = None
        now = self._loop.time()
        for token, since in list(self._unclaimed.items()):
            if now - since >= LOOK_AFTER:
                self._look_for_claim(token, overdue=now - since >= OVERDUE_AFTER)
        if self._unclaimed:
            oldest = next(iter(self._unclaimed.values()))
            due = max(oldest, now) + LOOK_AFTER
            self._look_timer = self._loop.call_at(due, self._look_for_claims)

    def _look_for_claim(self, token: str, *, overdue: bool) -> None:
        shim = self._busy[token]
        state = self._shim_records.read(shim.slot)
        if state.token == token and state.claim is not None:
            pid = state.command.pid if state.command else None
            self._on_started(shim, token, pid, state.claim.mono)
        elif overdue and self._shim_records.void(shim.slot, token):
            self._give_up(token, shim)

    def _on_started(self, shim: ShimClient, token: str, pid: int | None, since: float) -> None:
        self._unclaimed.pop(token, None)
        self._failures = 0
        if not shim.ran:
            shim.ran = True
            self._listener.started(token, pid, since, False)

    def _give_up(self, token: str, shim: ShimClient) -> None:
        """A shim that didn't claim in time is stopped, or the forker is."""
        if shim.process is None:
            self._forker.kill()
        self._drop(token)
        self._discard(shim)
        shim.kill()
        self._listener.voided(token, f"its shim did not answer for {OVERDUE_AFTER:.0f} seconds")

    # -- hearing -----------------------------------------------------------------------------

    def _on_line(self, shim: ShimClient, words: list[str]) -> None:
        match words:
            case ["S", token, pid, since]:
                self._on_started(shim, token, whole(pid), moment(since))
            case ["E", *rest]:
                report = shim_protocol.decode_report(rest)
                self._reuse(report.token, shim)
                self._tell(report, background=False)
            case ["B", *rest]:
                shim.background = True
                self._tell(shim_protocol.decode_report(rest), background=True)
            case ["V", token, *reason]:
                self._reuse(token, shim)
                self._listener.voided(token, " ".join(reason) or None)

    def _tell(self, report: shim_protocol.ShimReport, *, background: bool) -> None:
        if report.end.kind == "void":
            self._listener.voided(report.token, report.end.value)
        else:
            self._listener.ended(report.token, report.end, report.since, background)

    def _drop(self, token: str) -> None:
        self._busy.pop(token, None)
        self._unclaimed.pop(token, None)

    def _reuse(self, token: str, shim: ShimClient) -> None:
        self._drop(token)
        if shim.held:
            self._discard(shim)
        else:
            shim.rest()
            self._idle.append(shim)

    def _discard(self, shim: ShimClient) -> None:
        self._all.discard(shim)
        shim.close()

    def _on_closed(self, shim: ShimClient) -> None:
        """The shim is gone: of its own will after a background tree, else somebody killed it."""
        self._discard(shim)
        if shim in self._idle:
            self._idle.remove(shim)
        token = shim.token
        if token is None:
            return
        self._drop(token)
        if self._shim_records.void(shim.slot, token):
            # Once is an accident: it, or the forker, was killed. The next may fare no better.
            self._failures += 1
            again = self._failures > 1
            self._listener.voided(token, "no process could be started for it" if again else None)
        else:
            self.reap(token, shim.slot, background=shim.background, ran=shim.ran)

    # -- the dead ----------------------------------------------------------------------------

    def reap(self, token: str, slot: int, *, background: bool, ran: bool = True) -> None:
        """Deal with an attempt whose shim is dead: end its orphans, then report what is known.

        ``ran``: the command is known to have been started, whatever the file says.
        """
        if self._closed:
            return
        state = self._shim_records.read(slot)
        command = state.command if state.token == token else None
        group = Group(self._unit, token) if self._unit else None
        lost = tree.LostTree(token, command, self._shim_records.mark, self._makers, group)
        self._reaping.add(token)

        def done(future: asyncio.Future[int]) -> None:
            if self._closed or future.cancelled():
                return
            if future.exception() is not None:
                again = lambda: self.reap(token, slot, background=background, ran=ran)  # noqa: E731
                self._loop.call_later(REAP_AGAIN_AFTER, again)
                return
            self._reaping.discard(token)
            if background:
                self._listener.background_ended(token)
            else:
                self._report_dead(token, state, ran=ran or future.result() > 0)

        self._loop.run_in_executor(None, tree.kill_orphans, lost).add_done_callback(done)

    def _report_dead(self, token: str, state: ShimRecord, *, ran: bool) -> None:
        """``state`` is from before the orphans were killed: an end on record later is our doing."""
        own = state.token == token
        since = state.claim.mono if own and state.claim else None
        if own and state.exit is not None and since is not None:
            self._tell(shim_protocol.ShimReport(token, since, state.exit), background=False)
        elif own or ran:
            self._listener.ended(token, None, since, False)
        else:
            self._listener.voided(token, "its record is gone")

    # -- ending ------------------------------------------------------------------------------

    def hold(self, token: str) -> Process | None:
        """The shim of an attempt that is to be signalled, if it is one of this daemon's.

        It gets no other attempt from now on, so a signal that comes late meets a stranger's never.
        """
        shim = self._busy.get(token)
        if shim is None:
            return None
        shim.held = True
        return shim.process

    def knows(self, token: str) -> bool:
        """Whether the end of the attempt, or of its background tree, is still to be told."""
        return token in self._busy or token in self._reaping

    def close(self) -> None:
        """Let go of everything: idle shims end, busy ones go on, and with them their forker."""
        self._closed = True
        # What is busy is its child for as long as that runs.
        keep = self._keeps_forker and not self._busy and not self._reaping
        if self._look_timer is not None:
            self._look_timer.cancel()
        for shim in list(self._all):
            self._discard(shim)
        self._idle.clear()
        self._busy.clear()
        self._unclaimed.clear()
        if keep:
            self._forkers.keep(self._forker)
        else:
            self._forker.close()
