"""Attempts that don't run: how long each takes, and how it ends, is decided by a plan.

For the engine there is no difference: starts are claimed, ends come late, signals are obeyed or
not, and what ran when a session ended is found again by the next. Belongs on a ``VirtualLoop``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from runner.core import events as ev
from runner.core.actions import StartAttempt
from runner.core.attempts import start_number
from runner.core.scheduler import Scheduler
from runner.engine.backend import AttemptFiles, Post, StoreOwnership
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.engine.local_files import LocalFiles

DONE = ev.Exited(0)
TERMINATED = ev.Signalled("SIGTERM")
KILLED = ev.Signalled("SIGKILL")


class AttemptPlan(NamedTuple):
    """How an attempt goes: it ends so after ``seconds``, or so long after SIGTERM."""

    seconds: float
    outcome: ev.Outcome = DONE
    grace: float = 0.0
    after_term: ev.Outcome = TERMINATED


Planner = Callable[[int, int], AttemptPlan]
"""The plan of a job's attempt, by their numbers."""


@dataclass(slots=True)
class Tree:
    """One attempt. ``claimed`` and ``ends``: seconds as of the boot; ``told``: its end was."""

    job: int
    attempt: int
    plan: AttemptPlan
    claimed: float | None = None
    ends: float = 0.0
    outcome: ev.Outcome = DONE
    void: bool = False
    told: bool = False


@dataclass(slots=True)
class SimulatedMachine:
    """What outlives a session: what runs, and which boot it is.

    ``latency`` is in seconds; ``claimed`` and ``ended`` are told of an attempt when its command
    begins to run, and when its end is about to be told.
    """

    plan: Planner
    latency: Callable[[], float] = lambda: 0.0
    claimed: Callable[[Tree], None] = lambda tree: None
    ended: Callable[[Tree], None] = lambda tree: None
    boots: int = 1
    trees: dict[str, Tree] = field(default_factory=dict)

    def reboot(self) -> None:
        """All that runs is gone."""
        self.boots += 1
        self.trees.clear()

    def backend(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        post: Post,
        short_of_space: Callable[[], bool],
    ) -> SimulatedBackend:
        """See MakeBackend."""
        return SimulatedBackend(self, context, scheduler, post)


class SimulatedBackend:
    """See AttemptBackend."""

    def __init__(
        self, machine: SimulatedMachine, context: EngineContext, scheduler: Scheduler, post: Post
    ) -> None:
        self.all_found = False
        self._machine = machine
        self._context = context
        self._logs = context.logs
        self._scheduler = scheduler
        self._post = post
        self._closed = False

    @property
    def boot_id(self) -> str:
        """See AttemptBackend."""
        return f"boot-{self._machine.boots}"

    def files(self, ownership: StoreOwnership | None) -> AttemptFiles:
        """See AttemptBackend. Files are real ones, of this machine."""
        return LocalFiles(self._context, self._scheduler, self._post, ownership)

    def warm_up(self) -> None:
        """See AttemptBackend."""

    def start(self, action: StartAttempt) -> None:
        """See AttemptBackend."""
        name = self._scheduler.document.jobs[action.job].job_id
        self._logs.rotate(name, action.previous)
        self._logs.leave_empty(name)
        plan = self._machine.plan(action.job, action.attempt)
        self._machine.trees[action.token] = Tree(action.job, action.attempt, plan)
        self._after(self._machine.latency(), self._claim, action.token)

    def _claim(self, token: str) -> None:
        tree = self._machine.trees[token]
        if tree.void:
            return
        tree.claimed = now().mono
        tree.ends, tree.outcome = tree.claimed + tree.plan.seconds, tree.plan.outcome
        self._machine.claimed(tree)
        self._post(ev.AttemptStarted(now(), tree.job, token, None, tree.claimed))
        self._after(tree.plan.seconds, self._look, token)

    def _look(self, token: str) -> None:
        """Tell of its end, if it has ended by now; a signal may have changed when it does."""
        tree = self._machine.trees.get(token)
        if tree is None or tree.told or tree.claimed is None or now().mono < tree.ends:
            return
        tree.told = True
        self._machine.ended(tree)
        ended_ago = now().mono - tree.ends
        self._post(
            ev.AttemptEnded(
                now=now(),
                job=tree.job,
                token=token,
                outcome=tree.outcome,
                ended_at=now().wall - ended_ago,
                duration=tree.ends - tree.claimed,
                draw=random.random(),
            )
        )

    def signal(self, job: int, token: str, slot: int, kill: bool) -> None:
        """See AttemptBackend."""
        tree = self._machine.trees.get(token)
        if tree is None or tree.told:
            return
        if tree.claimed is None:
            tree.void = True
            self._post(ev.AttemptVoided(now(), job, token))
            return
        ends = now().mono + (self._machine.latency() if kill else tree.plan.grace)
        if ends < tree.ends:
            tree.ends, tree.outcome = ends, KILLED if kill else tree.plan.after_term
            self._after(ends - now().mono, self._look, token)

    def end_background(self, job: int, token: str) -> None:
        """See AttemptBackend."""
        self._post(ev.BackgroundEnded(now(), job, token))

    def newest_start(self) -> int:
        """See AttemptBackend."""
        run_id = self._scheduler.queue.run_id
        return max((start_number(run_id, token) for token in self._machine.trees), default=0)

    def find_survivors(self) -> None:
        """See AttemptBackend."""
        scheduler, trees = self._scheduler, self._machine.trees
        known = set()
        for index in sorted(scheduler.live):
            live = scheduler.jobs[index].live
            assert live is not None
            known.add(live.token)
            tree = trees.get(live.token)
            if tree is None or tree.void:
                if live.since is None:
                    self._post(ev.AttemptVoided(now(), index, live.token))
                else:
                    self._post(ev.AttemptEnded(now(), index, live.token, ev.Lost(machine=False)))
            elif tree.claimed is None:
                self._after(self._machine.latency(), self._claim, live.token)
            else:
                tree.told = False
                if now().mono < tree.ends:
                    started = ev.AttemptStarted(now(), index, live.token, None, tree.claimed, True)
                    self._post(started)
                self._after(tree.ends - now().mono, self._look, live.token)
        for token, tree in trees.items():
            if token not in known and not (tree.void or tree.told):
                tree.void = tree.told = True
                if tree.claimed is not None and now().mono < tree.ends:
                    self._post(ev.StrayEnded(now(), token, None))

    def survivors_may_be_told(self) -> None:
        """See AttemptBackend."""
        self.all_found = True
        self._post(ev.SurvivorsTold(now()))

    def ended_already(self, moment: ev.Now) -> Iterator[ev.CommandEnded]:
        """See AttemptBackend."""
        for index in list(self._scheduler.live):
            live = self._scheduler.jobs[index].live
            tree = self._machine.trees.get(live.token) if live is not None else None
            if live is None or live.over or tree is None or tree.claimed is None:
                continue
            if tree.ends <= moment.mono:
                yield ev.CommandEnded(moment, index, live.token)

    def stop(self) -> None:
        """See AttemptBackend."""
        self._closed = True

    def join(self) -> None:
        """See AttemptBackend."""

    def _after(self, seconds: float, call: Callable[[str], None], token: str) -> None:
        def unless_closed() -> None:
            if not self._closed:
                call(token)

        asyncio.get_running_loop().call_later(max(0.0, seconds), unless_closed)
