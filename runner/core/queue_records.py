"""The records of one queue, and the one place where they change.

Owns the jobs' and the queue's records, the counts and sets that follow from each record alone, the
story, and the actions of the step under way. It knows no rule: which change follows from an event
is for the modules above it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.core.actions import Action
from runner.core.arrays import ArrayState, ArrayStates, failures
from runner.core.families import Families
from runner.core.frontier import Frontier
from runner.core.history import Changes, StoryEntry, history_of
from runner.core.states import (
    ENDED,
    PENDING,
    WAITING,
    JobState,
    JobStatus,
    Live,
    QueueState,
    QueueStatus,
    check_job_transition,
    check_queue_transition,
)
from runner.model.document import FIT, JobSpec, QueueSpec
from runner.model.graph import Graph
from runner.model.notify import NotifySpec
from runner.model.units import in_units, unit_graph

REMEMBERED = 200
"""Lines of the story that are kept in memory for an error message."""


@dataclass(frozen=True, slots=True)
class Departure:
    """Monotonic times: what runs is ended at ``stop_at``, the machine is gone at ``gone_at``."""

    stop_at: float
    gone_at: float


class QueueRecords:
    """What is true of a queue now, and what this session has made of it.

    ``given`` is the document as it was accepted, with what was added since. ``document`` and
    ``jobs`` are its units: an array
    stands there as so many elements, see ``model/units``, and in ``arrays`` as a whole. Their
    lists of jobs, and ``names`` and ``timeouts`` of the units, grow in place.
    ``open``: survivors are accounted for, so work may begin; ``told``: the jobs whose background
    tree has been asked to end; ``ahead``: those that wait with inputs, or for inputs under way;
    ``blocked``: why nothing starts, ``short_of_space``: and that it is for want of space;
    ``interrupting``: why the session stops; ``departure``: what runs may go on until then;
    ``gone_at``: the monotonic time at which the machine is taken away, if that is known;
    ``ended_arrays``: those that have ended in this step, before anything follows from it;
    ``taken_along``: the arrays, by their nodes, of which the jobs behind them were looked at since
    one of their elements began;
    ``resuming``: why this session had to follow another, if it did; ``resting``: it only applies
    a request; ``rebooted``: it is the
    first of a boot, and work had been done before; ``missed``: the jobs whose results are
    looked for though no boot may have lost them; ``most``: how many jobs may run at once, ``fit``
    where the document leaves that to the place it runs in; ``targets``: who is told of what, None
    where nobody tells; ``taken_over``: the session stops because another machine goes on.
    """

    def __init__(
        self,
        document: QueueSpec,
        graph: Graph,
        queue: QueueState,
        jobs: dict[int, JobState] | None = None,
        *,
        fit: int = 1,
    ) -> None:
        units = in_units(document)
        self.document = replace(units, jobs=list(units.jobs), added=dict(document.added))
        self.given = replace(document, jobs=list(document.jobs), added=dict(document.added))
        self.names = [unit.job_id for unit in units.jobs]
        self.timeouts = [unit.timeout for unit in units.jobs]
        self.most = fit if document.max_parallel_jobs == FIT else document.max_parallel_jobs
        self.graph = unit_graph(document.jobs) if units is not document else graph
        self.queue = queue
        self.jobs: list[JobState] = [PENDING] * len(self.document.jobs)
        self.live: set[int] = set()
        self.background: set[int] = set()
        self.collecting: set[int] = set()
        self.restoring: set[int] = set()
        self.fetching: set[int] = set()
        self.ahead: set[int] = set()
        for index, state in (jobs or {}).items():
            self.jobs[index] = state
            self._keep_sets(index, PENDING, state)
        self.counts: Counter[JobStatus] = Counter(state.status for state in self.jobs)
        self.failures = failures(self.document, self.jobs) if self.counts[JobStatus.FAILED] else 0
        self.arrays = ArrayStates(self.graph.arrays, self.graph.units, [*(jobs or {}).items()])
        self.families = Families(document.added, self.graph)
        self.frontier = Frontier(self.document, self.graph, self.jobs, self.arrays, self.families)
        self.changes = Changes()
        self.actions: list[Action] = []
        self.open = False
        self.finished = False
        self.collects = False
        self.resting = False
        self.rebooted = False
        self.missed: set[int] = set()
        self.blocked: str | None = None
        self.short_of_space = False
        self.interrupting: str | None = None
        self.departure: Departure | None = None
        self.gone_at: float | None = None
        self.resuming: str | None = None
        self.told: set[int] = set()
        self.ended_arrays: list[ArrayState] = []
        self.taken_along: set[int] = set()
        self.waits_for_release: set[int] = set()
        self.targets: tuple[NotifySpec, ...] | None = None
        self.taken_over = False
        self._recent: deque[StoryEntry] = deque(maxlen=REMEMBERED)

    # -- reading -----------------------------------------------------------------------------

    @property
    def halted(self) -> bool:
        """Whether a failure has stopped the queue (``on_failure: stop``)."""
        return self.queue.halted is not None

    @property
    def only_held(self) -> bool:
        """Whether nothing goes on, and will, but by a person who releases a job."""
        return bool(self.waits_for_release) and not (
            self.live
            or self.fetching
            or self.restoring
            or self.collecting
            or self.frontier.next_due() is not None
        )

    @property
    def ending(self) -> bool:
        """Whether nothing may be started or tried again until the queue has ended."""
        return self.queue.cancelling or self.queue.timed_out

    @property
    def unended(self) -> int:
        """How many jobs have not ended."""
        counts = self.counts
        return counts[JobStatus.PENDING] + counts[JobStatus.RUNNING] + counts[JobStatus.INTERRUPTED]

    @property
    def only_uploads_left(self) -> bool:
        """Whether the queue would be done if all files were where they belong."""
        files = self.collecting or self.restoring
        return bool(files) and not self.unended and not self.live

    def attempt(self, index: int, token: str) -> Live | None:
        """The attempt under way, if an event speaks of it and not of one that is history."""
        live = self.jobs[index].live
        return live if live is not None and live.token == token else None

    @property
    def job_counts(self) -> Counter[JobStatus]:
        """How many jobs stand where; an array is one."""
        return self.arrays.job_counts if self.arrays else self.counts

    def units_of(self, job_id: str) -> range | None:
        """The numbers of a job's units; None where there is no such job."""
        if (number := self.graph.index.get(job_id)) is None:
            return None
        array = self.arrays.at(number)
        return range(number, number + 1) if array is None else array.spec.units

    def is_waited_for(self, index: int) -> bool:
        """Whether a job that has not ended depends on this unit."""
        for other in (*self.graph.dependents[index], *self._behind_families_of(index)):
            if self.frontier.is_array(other):
                jobs = self.graph.waiting[other]
                if any(self.frontier.status_of(job) not in ENDED for job in jobs):
                    return True
            elif self.jobs[other].status not in ENDED:
                return True
        return False

    def _behind_families_of(self, index: int) -> Iterator[int]:
        """The jobs that wait for the family of this unit, and for those that it belongs to."""
        parent = self.families.of.get(index)
        while parent is not None:
            yield from self.frontier.outside(parent)
            parent = self.families.of.get(parent)

    # -- writing -----------------------------------------------------------------------------

    def append(self, jobs: Sequence[JobSpec], parent: int | None) -> range:
        """Add jobs that nothing has happened to, and that nobody has judged yet; returns the
        numbers of their units. ``parent``: the unit that expanded to them."""
        by = None if parent is None else self.names[parent]
        added = {job.job_id: by for job in jobs}
        first, among_arrays = len(self.jobs), bool(self.arrays)
        units = in_units(replace(self.given, jobs=tuple(jobs))).jobs
        for document, more in ((self.given, jobs), (self.document, units)):
            assert isinstance(document.jobs, list) and isinstance(document.added, dict)
            document.jobs.extend(more)
            document.added.update(added)
        self.names += [unit.job_id for unit in units]
        self.timeouts += [unit.timeout for unit in units]
        self.jobs += [PENDING] * len(units)
        self.counts[JobStatus.PENDING] += len(units)
        numbers = range(first, len(self.jobs))
        if among_arrays or len(units) > len(jobs) or any(job.array for job in jobs):
            self._number_anew()
        else:
            self.graph.grow(jobs)
            self.frontier.grow(numbers, parent)
            if parent is not None:
                self.frontier.expanded(parent, numbers)
        if parent is not None:
            self.frontier.choose_with(parent, numbers)
        return numbers

    def _number_anew(self) -> None:
        """Arrays have numbers behind all units. What is on offer has to be judged again."""
        chosen = self.frontier.chosen
        self.graph = unit_graph(self.given.jobs)
        self.arrays = ArrayStates(self.graph.arrays, self.graph.units, [*enumerate(self.jobs)])
        self.families = Families(self.given.added, self.graph)
        self.frontier = Frontier(self.document, self.graph, self.jobs, self.arrays, self.families)
        self.frontier.chosen = chosen
        self.taken_along.clear()

    def put(self, index: int, state: JobState) -> None:
        """Replace a job's record. Raises IllegalTransition with the job's history."""
        old = self.jobs[index]
        if old.status is not state.status:
            check_job_transition(
                self.document.jobs[index].job_id,
                old.status,
                state.status,
                history_of(index, iter(self._recent)),
            )
            self.counts[old.status] -= 1
            self.counts[state.status] += 1
            if JobStatus.FAILED in (old.status, state.status):
                if not self.document.jobs[index].allow_failure:
                    self.failures += 1 if state.status is JobStatus.FAILED else -1
        self.jobs[index] = state
        self.changes.jobs.add(index)
        self._keep_sets(index, old, state)
        if self.waits_for_release and (state.released or state.status not in WAITING):
            self.waits_for_release.discard(index)
        if self.arrays:
            self.arrays.moved(index, old, state)
            self.frontier.made_room(index, old, state)

    def _keep_sets(self, index: int, old: JobState, state: JobState) -> None:
        if (old.live is None) is not (state.live is None):
            (self.live.discard if state.live is None else self.live.add)(index)
        if old.background is not state.background:
            (self.background.add if state.background else self.background.discard)(index)
        if old.collecting is not state.collecting:
            (self.collecting.add if state.collecting else self.collecting.discard)(index)
        if old.restoring is not state.restoring:
            (self.restoring.add if state.restoring else self.restoring.discard)(index)
        if old.fetching is not state.fetching:
            (self.fetching.add if state.fetching else self.fetching.discard)(index)
        if old.fetched or state.fetched or old.fetching or state.fetching:
            waits = state.status in WAITING and (state.fetching or state.fetched)
            (self.ahead.add if waits else self.ahead.discard)(index)

    def set_status(self, wall: float, status: QueueStatus, reason: str | None, **more: Any) -> None:
        """Change the queue's status. Raises IllegalTransition."""
        check_queue_transition(self.queue.status, status)
        self.queue = replace(self.queue, status=status, reason=reason, **more)
        self.changes.urgent = True
        self.tell(wall, None, f"queue_{status.value}", reason=reason)

    def tell(self, wall: float, job: int | None, event: str, **detail: Any) -> None:
        """Add a line to the story; a detail that is None is left out."""
        detail = {name: value for name, value in detail.items() if value is not None}
        entry = StoryEntry(wall, job, event, detail or None)
        self.changes.story.append(entry)
        self._recent.append(entry)

    def act(self, action: Action) -> bool:
        """Want something done; False, and nothing, while this session may not act.

        What is wanted before work begins, or after the session has finished, is in the records:
        the opening of this or of the next session finds it there.
        """
        if not self.open or self.finished:
            return False
        self.actions.append(action)
        return True
