"""Drives a Scheduler through events by job names, with a clock of its own, and checks each step."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from core_arrays import check_files
from core_invariants import check

from runner.core import events as ev
from runner.core.actions import (
    Action,
    CollectResults,
    EndBackground,
    FetchInputs,
    FinishQueue,
    KeepFingerprint,
    RestoreOutputs,
    SignalTree,
    StartAttempt,
)
from runner.core.history import Added, StoryEntry
from runner.core.scheduler import Scheduler
from runner.core.states import (
    JobState,
    QueueState,
    QueueStatus,
    job_from_record,
    queue_from_record,
    to_record,
)
from runner.model.document import JobSpec, QueueSpec, RetrySpec
from runner.model.graph import Graph
from runner.model.growth import grown

EPOCH = 1_700_000_000.0
BOOT = "boot-1"
_JobAction = type[
    StartAttempt | EndBackground | CollectResults | RestoreOutputs | FetchInputs | KeepFingerprint
]


def job(name: str, after: str = "", run_if: str = "success", **more: Any) -> JobSpec:
    """A job; ``after`` names its dependencies, ``retry`` may be a number of attempts."""
    retry = more.pop("retry", None)
    if isinstance(retry, int):
        retry = RetrySpec(retry, "fixed", base_delay=5.0)
    more.setdefault("timeout", 60.0)
    return JobSpec(
        name, "true", depends_on=tuple(after.split()), run_if=run_if, retry=retry, **more
    )


def document(
    *jobs: JobSpec, on_failure: str = "continue", parallel: int = 1, **more: Any
) -> QueueSpec:
    """A queue of these jobs, with an hour of time."""
    more.setdefault("global_timeout", 3600.0)
    return QueueSpec(
        "q", "a queue", jobs, on_failure=on_failure, max_parallel_jobs=parallel, **more
    )


class Driver:
    """One queue and its sessions. ``did`` holds the actions of the last step, ``all`` of all."""

    def __init__(self, queue: QueueSpec) -> None:
        self.document = queue
        self.graph = Graph(queue.jobs)
        self.mono = 1000.0
        self.wall = EPOCH
        self.boot = BOOT
        self.did: list[Action] = []
        self.all: list[Action] = []
        self.story: list[StoryEntry] = []
        self.added: list[Added] = []
        self.core = Scheduler(queue, self.graph, QueueState(run_id="0123456789abcdef"))

    # -- events ------------------------------------------------------------------------------

    def now(self) -> ev.Now:
        return ev.Now(self.wall, self.mono)

    def send(self, event: ev.Event) -> list[Action]:
        """Handle one event and check every invariant."""
        self.did = self.core.handle(event)
        check(self.core, event, self.did)
        self.all += self.did
        changes = self.core.take_changes()
        self.story += changes.story
        self.added += changes.added
        return self.did

    def open(self, *requests: Callable[[ev.Now], ev.Event], collects: bool = False) -> Driver:
        """A whole session start, with nothing that survived."""
        self.session(collects=collects)
        for make in requests:
            self.send(make(self.now()))
        self.told()
        return self

    def session(self, *, collects: bool = False) -> None:
        self.send(ev.SessionOpened(self.now(), self.boot, collects))

    def told(self) -> list[Action]:
        return self.send(ev.SurvivorsTold(self.now()))

    def started(self, name: str, *, adopted: bool = False, since: float | None = None) -> None:
        since = self.mono if since is None else since
        self.send(
            ev.AttemptStarted(self.now(), self.at(name), self.token(name), 42, since, adopted)
        )

    def expands(self, name: str, *jobs: JobSpec, fault: str | None = None) -> None:
        """Its attempt starts, and has left these jobs, named and dependent as in its file."""
        self.started(name)
        found = tuple(
            replace(
                job,
                job_id=f"{name}.{job.job_id}",
                depends_on=(name, *[f"{name}.{other}" for other in job.depends_on]),
            )
            for job in jobs
        )
        self.ends(name, ev.Exited(0), fan_out=ev.FanOut(found, fault))

    def add(self, *jobs: JobSpec) -> None:
        self.send(ev.JobsAdded(self.now(), jobs))

    def over(self, name: str) -> None:
        self.send(ev.CommandEnded(self.now(), self.at(name), self.token(name)))

    def ends(self, name: str, outcome: ev.Outcome, **more: Any) -> list[Action]:
        """The attempt under way ends so; ``background``, ``draw``, ``duration`` may be given."""
        return self.send(
            ev.AttemptEnded(self.now(), self.at(name), self.token(name), outcome, **more)
        )

    def ok(self, *names: str, **more: Any) -> None:
        """These jobs' attempts start and end well, one after the other."""
        for name in names:
            self.started(name)
            self.ends(name, ev.Exited(0), **more)

    def fail(self, name: str, code: int = 1, **more: Any) -> None:
        self.started(name)
        self.ends(name, ev.Exited(code), **more)

    def lose(self, name: str, *, machine: bool = False) -> None:
        self.ends(name, ev.Lost(machine))

    def void(self, name: str, reason: str | None = None, delay: float = 0.0) -> None:
        self.send(ev.AttemptVoided(self.now(), self.at(name), self.token(name), reason, delay))

    def stored(self, name: str, *, ok: bool = True, error: str | None = None, **more: Any) -> None:
        """Its upload is over; ``missing`` and ``stale`` may be given."""
        self.send(ev.ResultsStored(self.now(), self.at(name), ok, error, **more))

    def delayed(self, name: str, error: str | None = "slow", *, spooled: bool = False) -> None:
        self.send(ev.ResultsDelayed(self.now(), self.at(name), error, spooled))

    def checked(self, name: str, lost: str | None = None, restored: int = 0) -> None:
        self.send(ev.OutputsChecked(self.now(), self.at(name), restored, lost))

    def fetched(self, name: str, seconds: float = 1.0, error: str | None = None) -> None:
        self.send(ev.InputsFetched(self.now(), self.at(name), seconds, error))

    def hampered(self, name: str, error: str = "503 SlowDown") -> None:
        self.send(ev.InputsDelayed(self.now(), self.at(name), error))

    def background_ended(self, name: str) -> None:
        token = self[name].token
        assert token is not None
        self.send(ev.BackgroundEnded(self.now(), self.at(name), token))

    def cancel(self, *names: str) -> None:
        self.send(ev.CancelRequested(self.now(), self._indices(names)))

    def retry(self, *names: str) -> None:
        self.send(ev.RetryRequested(self.now(), self._indices(names)))

    def pause(self, paused: bool = True) -> None:
        self.send(ev.PauseRequested(self.now(), paused))

    def block(self, reason: str | None = "disk full") -> None:
        self.send(ev.StartsBlocked(self.now(), reason))

    def interrupt(self, grace: float | None = None) -> None:
        self.send(ev.InterruptRequested(self.now(), "machine stops", grace))

    def kill(self) -> None:
        self.send(ev.KillRequested(self.now()))

    def tick(self, seconds: float) -> None:
        """Time passes; the timer fires whenever it is due."""
        until = self.mono + seconds
        while (due := self.core.next_deadline()) is not None and due <= until:
            self._pass(max(due, self.mono))
            self.send(ev.TimerFired(self.now()))
        self._pass(until)

    def save(self) -> None:
        """A step that does nothing but save the clock."""
        self.send(ev.TimerFired(self.now()))

    def later(self, seconds: float) -> None:
        """Time passes and nobody looks."""
        self._pass(self.mono + seconds)

    def _pass(self, mono: float) -> None:
        self.wall += mono - self.mono
        self.mono = mono

    # -- sessions ----------------------------------------------------------------------------

    def crash(
        self, *, down: float = 0.0, boot: bool = False, document: QueueSpec | None = None
    ) -> None:
        """Only what the store keeps is left; ``down`` seconds later it is loaded again."""
        check_files(self.core)
        jobs = {
            index: job_from_record(json.loads(json.dumps(to_record(state))), "it")
            for index, state in enumerate(self.core.jobs)
            if to_record(state)
        }
        queue = queue_from_record(json.loads(json.dumps(to_record(self.core.queue))), "it")
        jobs_added = [each.job for each in self.added]
        parents = [each.parent for each in self.added]
        self.added = []
        self.load(queue, jobs, grown(document or self.document, jobs_added, parents))
        self.wall += down
        if boot:
            self.boot, self.mono = f"{self.boot}+", 10.0
        else:
            self.mono += down

    def load(self, queue: QueueState, jobs: dict[int, JobState], document: QueueSpec) -> None:
        self.document, self.graph = document, Graph(document.jobs)
        self.core = Scheduler(document, self.graph, queue, jobs)

    # -- looking -----------------------------------------------------------------------------

    def at(self, name: str) -> int:
        return self.core.graph.index[name]

    def _indices(self, names: tuple[str, ...]) -> tuple[int, ...] | None:
        return tuple(self.at(name) for name in names) if names else None

    def __getitem__(self, name: str) -> JobState:
        return self.core.jobs[self.at(name)]

    def token(self, name: str) -> str:
        live = self[name].live
        assert live is not None, f"{name} is {self[name].status.value}"
        return live.token

    @property
    def states(self) -> str:
        """``a:completed b:running``, in document order."""
        return " ".join(
            f"{described.job_id}:{state.status.value}"
            for described, state in zip(self.core.document.jobs, self.core.jobs, strict=True)
        )

    @property
    def status(self) -> str:
        return self.core.queue.status.value

    def names(self, kind: _JobAction, actions: list[Action] | None = None) -> list[str]:
        """The jobs of all such actions, of the last step or of these."""
        chosen = self.did if actions is None else actions
        return [
            self.core.document.jobs[action.job].job_id
            for action in chosen
            if isinstance(action, kind)
        ]

    @property
    def starts(self) -> list[str]:
        return self.names(StartAttempt)

    @property
    def signals(self) -> list[tuple[str, bool]]:
        """(job, whether it is SIGKILL) of the last step."""
        return [
            (self.core.document.jobs[a.job].job_id, a.kill)
            for a in self.did
            if isinstance(a, SignalTree)
        ]

    @property
    def collects(self) -> list[str]:
        return self.names(CollectResults)

    @property
    def restores(self) -> list[str]:
        return self.names(RestoreOutputs)

    @property
    def fetches(self) -> list[str]:
        return self.names(FetchInputs)

    @property
    def ended_backgrounds(self) -> list[str]:
        return self.names(EndBackground)

    @property
    def finish(self) -> QueueStatus | None:
        """The status the last step finished the session with, if it did."""
        return next((a.status for a in self.did if isinstance(a, FinishQueue)), None)

    @property
    def order(self) -> list[str]:
        """Every job in the order of its starts so far."""
        return self.names(StartAttempt, self.all)

    def run(self) -> None:
        """Let every attempt end well until the session has finished."""
        for _ in range(10_000):
            if self.core.finished:
                return
            for index in sorted(self.core.live):
                self.ok(self.core.document.jobs[index].job_id)
            for index in sorted(self.core.fetching):
                self.fetched(self.core.document.jobs[index].job_id)
            for index in sorted(self.core.collecting):
                self.stored(self.core.document.jobs[index].job_id)
            for index in sorted(self.core.background):
                self.background_ended(self.core.document.jobs[index].job_id)
            if not self.core.finished and not self.core.live:
                due = self.core.next_deadline()
                self.tick(max(0.0, due - self.mono) if due is not None else 0.0)
        raise AssertionError("the queue never finishes")


def drive(*jobs: JobSpec, collects: bool = False, **more: Any) -> Driver:
    """An opened queue of these jobs."""
    return Driver(document(*jobs, **more)).open(collects=collects)
