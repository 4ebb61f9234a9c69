"""The world beside a scheduler: what an engine and its shims do, with everything that can go wrong.

It commits, acts, loses what was not committed, and tells a new session what became of each attempt.
Every step of it checks the invariants.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from core_arrays import check_files
from core_driver import EPOCH
from core_invariants import check, check_changes, check_verdict

from runner.core import events as ev
from runner.core.actions import (
    Action,
    CollectResults,
    EndBackground,
    FetchInputs,
    FinishQueue,
    RestoreOutputs,
    SignalTree,
    StartAttempt,
)
from runner.core.history import Added
from runner.core.run_mode import RunMode
from runner.core.scheduler import Scheduler
from runner.core.states import (
    PENDING,
    QUEUE_ENDED,
    JobStatus,
    QueueState,
    job_from_record,
    queue_from_record,
    to_record,
)
from runner.core.update import carry_growth, carry_over
from runner.errors import ConflictError
from runner.model.document import ArraySpec, JobSpec, QueueSpec, ResultSpec
from runner.model.graph import Graph
from runner.model.growth import grown
from runner.model.units import in_units


@dataclass
class Tree:
    """What runs, or not, for one token. ``end`` is set once its command has ended."""

    job: int
    attempt: int
    slot: int
    claimed: float | None = None
    end: ev.Outcome | None = None
    at: float = 0.0
    kept: bool = False
    told: bool = False


DONE = ev.Exited(0)


def left_by(job: JobSpec) -> ev.FanOut | None:
    """What a job leaves that expands: the name of its file says it. So many jobs; c: one after the
    other, r: with results, a: the first is an array, n: it expands itself, t: it may fail."""
    if job.expands is None:
        return None
    found: list[JobSpec] = []
    for number in range(int(job.expands[0])):
        after = found[-1:] if "c" in job.expands else []
        found.append(
            JobSpec(
                f"{job.job_id}.p{number}",
                "true",
                timeout=20.0,
                depends_on=(job.job_id, *[each.job_id for each in after]),
                result_paths=(ResultSpec("out"),) if "r" in job.expands else (),
                array=ArraySpec(2) if "a" in job.expands and not number else None,
                expands="1r" if "n" in job.expands and not number else None,
                allow_failure="t" in job.expands and not number,
            )
        )
    return ev.FanOut(tuple(found))


class World:
    """One queue, its disk and its processes, over as many sessions and boots as it takes.

    ``held_…`` and ``unsure`` (tokens whose end was told) are what a crash loses; ``voids`` are to
    be told as void, ``ending`` are background trees that were asked to end.
    """

    core: Scheduler
    document: QueueSpec
    held_jobs: set[int]
    held_added: list[Added]
    held_actions: list[Action]
    urgent: bool
    voids: list[str]
    ending: list[str]
    uploads: list[int]
    checks: list[int]
    fetches: list[int]
    finishes: int

    def __init__(self, document: QueueSpec, *, collects: bool) -> None:
        self.document = document
        self.disk_added: list[Added] = []
        self.mono, self.boot = 100.0, 0
        self.trees: dict[str, Tree] = {}
        self.claims: set[tuple[str, int]] = set()
        self.cancelled: set[int] = set()
        self.disk_queue: dict[str, Any] = to_record(QueueState(run_id="0123456789abcdef"))
        self.disk_jobs: dict[int, str] = {}
        self.unsure: list[str] = []
        self.load()
        self.open(collects=collects)

    @property
    def grown(self) -> QueueSpec:
        """The document with what is on the disk of what was added to it."""
        added = self.disk_added
        return grown(self.document, [e.job for e in added], [e.parent for e in added])

    @property
    def now(self) -> ev.Now:
        return ev.Now(EPOCH + self.mono, self.mono)

    # -- the engine's part -------------------------------------------------------------------

    def send(self, event: ev.Event, *, commit: bool = True) -> None:
        before = [state.status for state in self.core.jobs]
        was_finished = self.core.finished
        actions = self.core.handle(event)
        before += [JobStatus.PENDING] * (len(self.core.jobs) - len(before))
        if self.core.queue.cancelling:
            self.cancelled.update(range(len(before)))
        self.fetches = [job for job in self.fetches if self.core.jobs[job].fetching]
        self.checks = [job for job in self.checks if self.core.jobs[job].restoring]
        check(self.core, event, actions)
        check_changes(self.core, event, actions, before, self.cancelled)
        assert not (was_finished and actions), "a finished session wants something"
        if isinstance(event, ev.CommandEnded):
            assert not actions, "a command's end alone lets nothing start"
        changes = self.core.take_changes()
        self.held_jobs |= changes.jobs
        self.held_added += changes.added
        self.held_actions += actions
        self.urgent = self.urgent or changes.urgent
        if commit:
            self.commit()

    def commit(self, *, act: bool = True) -> None:
        """One transaction, then (unless it dies in between) the effects."""
        if not self.urgent:
            return
        self.disk_added += self.held_added
        self.held_added = []
        for job in self.held_jobs:
            self.disk_jobs[job] = json.dumps(to_record(self.core.jobs[job]))
        self.disk_queue = json.loads(json.dumps(to_record(self.core.queue)))
        for token in self.unsure:
            if not self.trees[token].kept:
                del self.trees[token]
        self.unsure = []
        actions, self.held_actions = self.held_actions, []
        self.held_jobs, self.urgent = set(), False
        if act:
            for action in actions:
                self._act(action)
            if self.core.open:
                assert set(self.fetches) == self.core.fetching, "nobody fetches what is waited for"

    def _act(self, action: Action) -> None:
        match action:
            case StartAttempt(job, attempt, token, slot, _):
                assert token not in self.trees, "one token for two starts"
                assert not any(t.job == job for t in self.trees.values()), "two of a job at once"
                assert not any(t.slot == slot for t in self.trees.values()), "a slot in use"
                self.trees[token] = Tree(job, attempt, slot)
            case SignalTree(_, token, _, _):
                tree = self.trees.get(token)
                if tree is not None and tree.claimed is None:
                    self.voids.append(token)
            case EndBackground(_, token, _):
                self.ending.append(token)
            case CollectResults(job):
                assert job not in self.uploads, "one job's files are stored twice at once"
                self.uploads.append(job)
            case RestoreOutputs(job, _):
                assert job not in self.checks, "one job's files are looked at twice at once"
                self.checks.append(job)
            case FetchInputs(job):
                assert job not in self.fetches, "one job's inputs are fetched twice at once"
                if self.core.jobs[job].fetching:
                    self.fetches.append(job)
            case FinishQueue():
                self.finishes += 1
                assert self.finishes == 1, "a session finishes twice"
                if self.core.queue.status in QUEUE_ENDED:
                    check_verdict(self.core)

    # -- sessions ----------------------------------------------------------------------------

    def load(self) -> None:
        """What is on the disk is all that a new process knows."""
        jobs = {
            job: job_from_record(json.loads(text), "it") for job, text in self.disk_jobs.items()
        }
        queue = queue_from_record(self.disk_queue, "it")
        document = self.grown
        self.core = Scheduler(document, Graph(document.jobs), queue, jobs)
        self.held_jobs = set()
        self.held_added = []
        self.held_actions = []
        self.urgent = False
        for token in self.unsure:
            if token in self.trees:
                self.trees[token].told = False
        self.unsure = []
        self.voids = []
        self.ending = []
        self.uploads = []
        self.checks = []
        self.fetches = []
        self.finishes = 0

    def open(
        self, requests: Sequence[str] = (), *, collects: bool, new_store: bool = False
    ) -> None:
        """A session begins: survivors are found, before and after what people ask for at once."""
        self.send(ev.SessionOpened(self.now, f"boot{self.boot}", collects, new_store))
        found = sorted(self.core.live | self.core.background)
        for index in found[::2]:
            self._find(index)
        for request in requests:
            self.request(request, None)
        for index in found[1::2]:
            self._find(index)
        assert not self.held_actions, "something is wanted before the survivors are known"
        self.send(ev.SurvivorsTold(self.now))

    def rest(self, requests: Sequence[str]) -> None:
        """Nobody works on it, and people ask for this, each in a step of its own."""
        for request in requests:
            boot = f"boot{self.boot}"
            same = self.core.queue.boot_id == boot
            self.send(ev.SessionOpened(self.now, boot, False, resting=True), commit=False)
            for index in [] if same else sorted(self.core.live | self.core.background):
                self._find(index)
            self.request(request, None)
            assert not self.held_actions, "something is wanted of a queue that rests"
            self.urgent = True
            self.commit()
            self.load()

    def amend(self, new: QueueSpec, again: RunMode) -> bool:
        """The document is another from now on, if that is accepted."""
        before = self.core
        kept = {at: state for at, state in enumerate(before.jobs) if state != PENDING}
        try:
            more = carry_growth(self.grown, new)
            queue, jobs = carry_over(self.grown, more, before.queue, kept, again)
        except ConflictError:
            return False
        numbers = {unit.job_id: at for at, unit in enumerate(in_units(more).jobs)}
        units = before.document.jobs
        places = {at: numbers.get(unit.job_id) for at, unit in enumerate(units)}
        self.cancelled = {at for old in self.cancelled if (at := places[old]) is not None}
        for tree in self.trees.values():
            at = places[tree.job]
            assert at is not None, "a job is gone and its processes live"
            tree.job = at
        if queue.cancelling:
            self.cancelled = set(numbers.values())
        self.document = new
        first = len(new.jobs)
        self.disk_added = [
            Added(first + at, more.jobs[first + at], parent)
            for at, parent in enumerate(more.added.values())
        ]
        self.disk_queue = json.loads(json.dumps(to_record(queue)))
        self.disk_jobs = {at: json.dumps(to_record(state)) for at, state in jobs.items()}
        self.load()
        check(self.core)
        for old, state in enumerate(before.jobs):
            at = places[old]
            begun = state.status in (JobStatus.RUNNING, JobStatus.INTERRUPTED)
            if begun or (state.status is JobStatus.PENDING and state.counted):
                assert at is not None, "what runs, or waits for its next attempt, is gone"
                assert replace(self.core.jobs[at], rerun=state.rerun) == state
        return True

    def _find(self, index: int) -> None:
        """What the engine finds out about one survivor."""
        state = self.core.jobs[index]
        token = state.live.token if state.live else state.token
        assert token is not None
        tree = self.trees.get(token)
        if state.live is None:
            if tree is None:
                self.send(ev.BackgroundEnded(self.now, index, token))
        elif tree is None or tree.claimed is None:
            self.trees.pop(token, None)
            if (self.core.document.jobs[index].job_id, state.attempt) in self.claims:
                self.send(ev.AttemptEnded(self.now, index, token, ev.Lost(True)))
            else:
                self.send(ev.AttemptVoided(self.now, index, token))
        elif tree.end is not None:
            self.tell_end(token)
        else:
            self.send(ev.AttemptStarted(self.now, index, token, 7, tree.claimed, True))

    def die(self, *, keep: str, reboot: bool, down: float) -> None:
        """The process is gone; of its last step ``keep`` was done: nothing, committed, acted."""
        check_files(self.core)
        if keep != "nothing":
            self.urgent = True
            self.commit(act=keep == "acted")
        self.mono += down
        if reboot:
            self.boot += 1
            self.mono = 5.0
            self.trees.clear()
        else:
            # Unclaimed, they are void: the new session takes the claim itself.
            self.trees = {t: tree for t, tree in self.trees.items() if tree.claimed is not None}
        self.load()

    # -- processes ---------------------------------------------------------------------------

    def tokens(self, *, claimed: bool) -> list[str]:
        """Attempts that are asked for, or under way, as far as anybody has told."""
        return [
            token
            for token, tree in self.trees.items()
            if (tree.claimed is not None) is claimed and not tree.told
        ]

    def claim(self, token: str, *, tell: bool = False) -> None:
        """The shim gets to it, unless the start is void by now."""
        tree = self.trees[token]
        if tree.claimed is not None or token in self.voids:
            return
        claim = (self.core.document.jobs[tree.job].job_id, tree.attempt)
        assert claim not in self.claims, "an attempt number used twice"
        self.claims.add(claim)
        tree.claimed = self.mono
        if tell:
            self.send(ev.AttemptStarted(self.now, tree.job, token, 7, self.mono))

    def void(self, token: str, delay: float) -> None:
        """The start never comes about."""
        if token in self.voids:
            self.voids.remove(token)
        job = self.trees.pop(token).job
        reason = "no memory" if delay else None
        self.send(ev.AttemptVoided(self.now, job, token, reason, delay))

    def end(self, token: str, outcome: ev.Outcome, *, kept: bool) -> None:
        """The command ends, which is told later; it may leave something in the background."""
        tree = self.trees[token]
        if tree.end is None:
            tree.end, tree.at = outcome, self.mono
            keeps = self.core.document.jobs[tree.job].keep_background
            tree.kept = kept and keeps and outcome == ev.Exited(0)

    def tell_end(self, token: str, *, commit: bool = True) -> None:
        """Its tree is gone (or kept): the engine hears of it."""
        tree = self.trees[token]
        assert tree.end is not None and tree.claimed is not None
        ended = ev.AttemptEnded(
            self.now,
            tree.job,
            token,
            tree.end,
            ended_at=EPOCH + tree.at,
            duration=tree.at - tree.claimed,
            draw=0.5,
            background=tree.kept,
            fan_out=left_by(self.core.document.jobs[tree.job]) if tree.end == DONE else None,
            short_of_space=self.core.short_of_space,
        )
        self.send(ended, commit=False)
        tree.told = True
        # Until that is durable a crash makes the next session find it, and tell it, again.
        self.unsure.append(token)
        if commit:
            self.commit()

    def kept(self) -> list[str]:
        """Trees that live on in the background."""
        return [token for token, tree in self.trees.items() if tree.told and tree.kept]

    def end_kept(self, token: str) -> None:
        self.commit()
        job = self.trees.pop(token).job
        self.send(ev.BackgroundEnded(self.now, job, token))

    def store(self, at: int, *, ok: bool, missing: bool = False) -> None:
        job = self.uploads.pop(at)
        error = "no room" if not ok else "matched nothing" if missing else None
        self.send(ev.ResultsStored(self.now, job, ok, error, missing))

    def delay(self, at: int, *, spooled: bool) -> None:
        """An upload takes longer; perhaps its files are copied aside."""
        self.send(ev.ResultsDelayed(self.now, self.uploads[at], "slow", spooled))

    def check_outputs(self, at: int, *, lost: bool) -> None:
        """What a reboot has left of a job's results is known."""
        job = self.checks.pop(at)
        self.send(ev.OutputsChecked(self.now, job, 1, "gone" if lost else None))

    def fetch(self, at: int, *, seconds: float, error: str | None = None) -> None:
        """A job's inputs are there, or never will be."""
        self.send(ev.InputsFetched(self.now, self.fetches.pop(at), seconds, error))

    def hamper(self, job: int) -> None:
        """A fetch takes longer, or one that was called off says so too late."""
        self.send(ev.InputsDelayed(self.now, job, "slow"))

    def fetch_late(self, job: int, error: str | None) -> None:
        """A fetch that was called off ends all the same."""
        if not self.core.jobs[job].fetching:
            before = self.core.jobs[job]
            self.send(ev.InputsFetched(self.now, job, 1.0, error))
            assert self.core.jobs[job] == before, "a late fetch changes a job"

    # -- time, people, the machine -----------------------------------------------------------

    def _note_ended(self) -> None:
        """What the engine does before all that may stop an attempt."""
        for token, tree in list(self.trees.items()):
            if tree.end is not None and not tree.told:
                self.send(ev.CommandEnded(self.now, tree.job, token), commit=False)

    def pass_time(self, seconds: float) -> None:
        self.mono += seconds
        due = self.core.next_deadline()
        if due is not None and due <= self.mono:
            self._note_ended()
            self.send(ev.TimerFired(self.now))

    def request(self, name: str, jobs: tuple[int, ...] | None) -> None:
        if name == "cancel":
            self.cancelled |= set(range(len(self.core.jobs)) if jobs is None else jobs)
            self._note_ended()
            self.send(ev.CancelRequested(self.now, jobs))
        elif name == "retry":
            self.send(ev.RetryRequested(self.now, jobs))
        elif name in ("rerun", "rerun all behind"):
            self.send(ev.RetryRequested(self.now, jobs, True, name == "rerun all behind"))
        elif name == "release":
            every = tuple(range(len(self.core.jobs)))
            self.send(ev.ReleaseRequested(self.now, every if jobs is None else jobs))
        elif name == "interrupt":
            self._note_ended()
            self.send(ev.InterruptRequested(self.now, "machine stops", 2.0))
        elif name in ("spot", "spot later", "rebalance"):
            self._note_ended()
            deadline = None if name == "rebalance" else self.now.wall + 40.0
            lead = 15.0 if name == "spot later" else None
            self.send(ev.SpotNotice(self.now, name, deadline, lead))
        elif name == "kill":
            self.send(ev.KillRequested(self.now))
        elif name in ("block", "unblock"):
            self.send(ev.StartsBlocked(self.now, "no telling" if name == "block" else None))
        elif name == "fill":
            self.send(ev.StartsBlocked(self.now, "disk full", space=True))
        else:
            self.send(ev.PauseRequested(self.now, name == "pause"))
