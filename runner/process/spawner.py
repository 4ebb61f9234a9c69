"""The daemon's side of the shims: hands out attempts, hears how they end.

Owns the pool of idle shims and the sockets to busy ones; lives on one asyncio loop and is called
from there only. It speaks of tokens and slots, not of jobs. An attempt that another daemon
started is watched by ``survivor`` instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from runner.process import tree, wire
from runner.process.cgroup import Group
from runner.process.identity import Process
from runner.process.nursing import Nursery
from runner.process.shims import Shim
from runner.process.slots import Exit, Slot, SlotFile, moment, whole
from runner.process.wire import Request, User

__all__ = ["Listener", "Request", "Spawner"]

LOOK_AFTER = 1.0
"""Seconds after which the claim of a shim that says nothing is looked for in the file."""

OVERDUE_AFTER = 60.0
"""Seconds in which a shim has to claim what it was given; then another one gets it."""

BURY_AGAIN_AFTER = 1.0


class Listener(Protocol):
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
    """A pool of shims that share one slot file, one base environment and one user of commands.

    ``unit``: see Nursery.
    """

    def __init__(
        self,
        slots: SlotFile,
        listener: Listener,
        base: Mapping[str, str],
        user: User | None = None,
        unit: str | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = slots
        self._listener = listener
        self._nursery = Nursery(slots, base, user, unit)
        self._unit = unit
        self._makers = tree.makers(user)
        self._idle: list[Shim] = []
        self._busy: dict[str, Shim] = {}
        self._all: set[Shim] = set()
        self._burying: set[str] = set()
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
        data = wire.encode_request(request)
        self._slots.prepare(request.slot, request.token, request.work)
        shim = self._idle.pop() if self._idle else self._new_shim()
        self._busy[request.token] = shim
        self._unclaimed[request.token] = now = self._loop.time()
        if self._look_timer is None:
            self._look_timer = self._loop.call_at(now + LOOK_AFTER, self._look_for_claims)
        shim.give(request.token, request.slot, data)

    def _new_shim(self) -> Shim:
        shim = Shim(self._loop, self._nursery.open_channel(), self._on_line, self._on_closed)
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
        state = self._slots.read(shim.slot)
        if state.token == token and state.claim is not None:
            pid = state.command.pid if state.command else None
            self._on_started(shim, token, pid, state.claim.mono)
        elif overdue and self._slots.void(shim.slot, token):
            self._give_up(token, shim)

    def _on_started(self, shim: Shim, token: str, pid: int | None, since: float) -> None:
        self._unclaimed.pop(token, None)
        self._failures = 0
        if not shim.ran:
            shim.ran = True
            self._listener.started(token, pid, since, False)

    def _give_up(self, token: str, shim: Shim) -> None:
        """A shim that didn't claim in time is stopped, or its nursery is."""
        if shim.process is None:
            self._nursery.kill()
        self._drop(token)
        self._discard(shim)
        shim.kill()
        self._listener.voided(token, f"its shim did not answer for {OVERDUE_AFTER:.0f} seconds")

    # -- hearing -----------------------------------------------------------------------------

    def _on_line(self, shim: Shim, words: list[str]) -> None:
        match words:
            case ["S", token, pid, since]:
                self._on_started(shim, token, whole(pid), moment(since))
            case ["E", *rest]:
                report = wire.decode_report(rest)
                self._reuse(report.token, shim)
                self._tell(report, background=False)
            case ["B", *rest]:
                shim.background = True
                self._tell(wire.decode_report(rest), background=True)
            case ["V", token, *reason]:
                self._reuse(token, shim)
                self._listener.voided(token, " ".join(reason) or None)

    def _tell(self, report: wire.Report, *, background: bool) -> None:
        if report.end.kind == "void":
            self._listener.voided(report.token, report.end.value)
        else:
            self._listener.ended(report.token, report.end, report.since, background)

    def _drop(self, token: str) -> None:
        self._busy.pop(token, None)
        self._unclaimed.pop(token, None)

    def _reuse(self, token: str, shim: Shim) -> None:
        self._drop(token)
        if shim.held:
            self._discard(shim)
        else:
            shim.rest()
            self._idle.append(shim)

    def _discard(self, shim: Shim) -> None:
        self._all.discard(shim)
        shim.close()

    def _on_closed(self, shim: Shim) -> None:
        """The shim is gone: of its own will after a background tree, else somebody killed it."""
        self._discard(shim)
        if shim in self._idle:
            self._idle.remove(shim)
        token = shim.token
        if token is None:
            return
        self._drop(token)
        if self._slots.void(shim.slot, token):
            # Once is an accident: it, or its nursery, was killed. The next may fare no better.
            self._failures += 1
            again = self._failures > 1
            self._listener.voided(token, "no process could be started for it" if again else None)
        else:
            self.bury(token, shim.slot, background=shim.background, ran=shim.ran)

    # -- the dead ----------------------------------------------------------------------------

    def bury(self, token: str, slot: int, *, background: bool, ran: bool = True) -> None:
        """Deal with an attempt whose shim is dead: end its orphans, then report what is known.

        ``ran``: the command is known to have been started, whatever the file says.
        """
        if self._closed:
            return
        state = self._slots.read(slot)
        command = state.command if state.token == token else None
        group = Group(self._unit, token) if self._unit else None
        lost = tree.Lost(token, command, self._slots.mark, self._makers, group)
        self._burying.add(token)

        def done(future: asyncio.Future[int]) -> None:
            if self._closed or future.cancelled():
                return
            if future.exception() is not None:
                again = lambda: self.bury(token, slot, background=background, ran=ran)  # noqa: E731
                self._loop.call_later(BURY_AGAIN_AFTER, again)
                return
            self._burying.discard(token)
            if background:
                self._listener.background_ended(token)
            else:
                self._report_dead(token, state, ran=ran or future.result() > 0)

        self._loop.run_in_executor(None, tree.kill_orphans, lost).add_done_callback(done)

    def _report_dead(self, token: str, state: Slot, *, ran: bool) -> None:
        """``state`` is from before the orphans were killed: an end on record later is our doing."""
        own = state.token == token
        since = state.claim.mono if own and state.claim else None
        if own and state.exit is not None and since is not None:
            self._tell(wire.Report(token, since, state.exit), background=False)
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
        return token in self._busy or token in self._burying

    def close(self) -> None:
        """Let go of everything: idle shims end, busy ones go on, and with them their nursery."""
        self._closed = True
        if self._look_timer is not None:
            self._look_timer.cancel()
        for shim in list(self._all):
            self._discard(shim)
        self._idle.clear()
        self._busy.clear()
        self._unclaimed.clear()
        self._nursery.close()
