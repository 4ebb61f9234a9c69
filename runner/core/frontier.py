"""Which jobs may start: derived from the records, kept in step with them, never stored.

Owns how many dependencies of each job are still to end, which jobs are ready, and which wait for a
moment. It changes no record. Costs don't grow with the number of jobs: dependents are counted
down, ready jobs and waits are heaps. An entry of a heap may be out of date, so each is checked
against the record when it comes up.

A job that completed but whose declared results are still being stored has not ended for its
dependents: they might change the very files.

Numbers are those of the graph: units, and from ``graph.units`` on arrays as a whole, which end with
the last of their elements.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from runner.core.ancestry import FAILED, NONE, Ancestry
from runner.core.arrays import ArrayState, ArrayStates
from runner.core.families import Families
from runner.core.readiness import Readiness, Skip, judge
from runner.core.states import ENDED, WAITING, JobState, JobStatus
from runner.model.document import QueueSpec
from runner.model.graph import Graph


class Frontier:
    """What can be done next. ``jobs``: ``QueueRecords.jobs`` itself."""

    def __init__(
        self,
        document: QueueSpec,
        graph: Graph,
        jobs: list[JobState],
        arrays: ArrayStates,
        families: Families,
    ) -> None:
        self._document = document.jobs
        self._units = graph.units
        self._arrays = arrays
        self._dependencies = graph.dependencies
        self._dependents = graph.dependents
        self._jobs = jobs
        self._families = families
        self.closed: list[int] = []
        """Families of which the last member has ended, before anything follows from it."""
        self._ancestry = Ancestry(document, graph, self.status_of, self._seen_from)
        self.chosen: frozenset[int] | None = None
        """The units that this session may start; None: all."""
        self._held: dict[int, int] = {}
        self._holds: dict[int, list[int]] = {}
        self.settled = bytearray(len(graph.dependencies))
        self.remaining = array("i", [len(deps) for deps in graph.dependencies])
        self._ready: list[int] = []
        self._lacking: list[int] = []
        self._no_room: dict[ArrayState, list[int]] = {}
        self._no_room_ahead: dict[ArrayState, list[int]] = {}
        self._waits: list[tuple[float, int]] = []
        for parent in families.members:
            self._wait_for_family(parent)
        for index, state in enumerate(jobs):
            if state.status in ENDED:
                self.settle(index)
            elif state.retry_due is not None:
                self.wait(index, state.retry_due)
        for node in range(self._units, len(graph.dependencies)):
            self.settle(node)
        self.closed.clear()

    def status_of(self, node: int) -> JobStatus:
        """Where a unit, or an array as a whole, stands for those behind it: a failure that is
        tolerated is a success."""
        if node < self._units:
            status, job = self._jobs[node].status, self._document[node]
        else:
            array = self._arrays.all[node - self._units]
            status, job = array.status, array.spec.job
        tolerated = status is JobStatus.FAILED and job.allow_failure
        return JobStatus.COMPLETED if tolerated else status

    def _seen_from(self, index: int, node: int) -> tuple[int, JobStatus]:
        """Where a dependency of this job stands for it, and by which unit or array it does: of one
        that has expanded to others, which the job is not one of, they count, too."""
        status = self.status_of(node)
        families = self._families
        if status is not JobStatus.COMPLETED or node not in families.members:
            return node, status
        if families.of.get(index) == node:
            return node, status
        if families.is_open(node):
            return node, JobStatus.PENDING
        trouble = families.trouble(node)
        if trouble is None or self._document[node].allow_failure:
            return node, status
        return trouble

    def job_id_of(self, node: int) -> str:
        """The name of a unit, or of an array as a whole."""
        if node < self._units:
            return self._document[node].job_id
        return self._arrays.all[node - self._units].job_id

    # -- dependents --------------------------------------------------------------------------

    def settle(self, index: int) -> Sequence[int]:
        """Count an ended job down at its dependents and return those; none if it was counted.

        An array is among the dependents of its elements.
        """
        if self.settled[index] or not self._lets_go(index):
            return ()
        self.settled[index] = 1
        dependents = self._dependents[index]
        for dependent in dependents:
            self.remaining[dependent] -= 1
        if self._families:
            self._settle_family(index)
        return dependents

    def _settle_family(self, index: int) -> None:
        """With an ended member its family may have ended, and with that the one it belongs to."""
        families = self._families
        while self.settled[index]:
            parent = families.ended(index, *self._seen_from(-1, index))
            if parent is None:
                return
            for other in self.outside(parent):
                self.remaining[other] -= 1
            self.closed.append(parent)
            index = parent

    def outside(self, parent: int) -> list[int]:
        """The jobs that wait for all that a job has expanded to."""
        return self._families.outside(parent, self._dependents[parent])

    def _wait_for_family(self, parent: int) -> None:
        for other in self.outside(parent):
            self.remaining[other] += 1

    # -- growth ------------------------------------------------------------------------------

    def grow(self, units: range, parent: int | None) -> None:
        """The graph and the records have these units at their end now. There are no arrays.

        ``parent``: whose family they will be of: they wait for it, and not for the others of it.
        """
        self._units = units.stop
        for index in units:
            self.settled.append(0)
            before = self._dependencies[index]
            families = sum(self._families.is_open(other) for other in before if other != parent)
            self.remaining.append(families + sum(not self.settled[other] for other in before))

    def expanded(self, parent: int, units: Sequence[int]) -> None:
        """A job has expanded to these: who waits for it waits for them."""
        if self._families.add(parent, units):
            self._wait_for_family(parent)

    def choose_with(self, parent: int, units: Sequence[int]) -> None:
        """If a job is of the part that this session may start, these are, too."""
        if self.chosen is not None and parent in self.chosen:
            self.chosen = self.chosen.union(units)

    def unsettle(self, index: int) -> None:
        """The job is to be waited for again."""
        if self.settled[index]:
            self._ancestry.forget()
            self.settled[index] = 0
            self._reopen_families(index)
            for dependent in self._dependents[index]:
                self.remaining[dependent] += 1
                if dependent >= self._units:
                    self.unsettle(dependent)

    def _reopen_families(self, index: int) -> None:
        reopened = self._families.begins_again(index)
        while reopened is not None:
            self._wait_for_family(reopened)
            reopened = self._families.begins_again(reopened)

    def is_array(self, node: int) -> bool:
        """Whether it is an array as a whole."""
        return node >= self._units

    def _lets_go(self, index: int) -> bool:
        if index >= self._units:
            return not self.remaining[index]
        state = self._jobs[index]
        if state.status is JobStatus.COMPLETED:
            if state.restoring:
                return False
            waits = state.collecting and not state.spooled
            return not (waits and self._document[index].kept_paths)
        return state.status in ENDED

    def judge(self, index: int, look_at: Sequence[int] = ()) -> Readiness | Skip:
        """Whether it is the job's turn.

        While dependencies are still to end only ``look_at`` are looked at: they may be a reason to
        skip already.
        """
        self._held.pop(index, None)
        all_ended = not self.remaining[index]
        look_at = self._dependencies[index] if all_ended else look_at
        return judge(
            self._document[index].run_if,
            all_ended,
            ((self.job_id_of(by), status) for by, status in self._looked_at(index, look_at)),
            lambda: self._failed_before(index),
        )

    def _looked_at(self, index: int, look_at: Sequence[int]) -> Iterator[tuple[int, JobStatus]]:
        return (self._seen_from(index, other) for other in look_at)

    def _failed_before(self, index: int) -> bool | None:
        """Whether a dependency was skipped for a failure; None, and it is held, while one may be.

        See ``released``.
        """
        before = self._ancestry.before
        skipped = filter(self._ancestry.was_skipped, self._dependencies[index])
        answers = [before(other) for other in skipped]
        if FAILED in answers:
            return True
        still_open = max(answers, default=NONE)
        if still_open == NONE:
            return False
        self._held[index] = still_open
        self._holds.setdefault(still_open, []).append(index)
        return None

    def released(self, index: int) -> list[int]:
        """The jobs whose turn may be known now that this one has ended: to be judged again."""
        if not self._held:
            return []
        if self.status_of(index) is JobStatus.FAILED:
            self._ancestry.forget(only_open=True)
            self._holds.clear()
            return list(self._held)
        return [held for held in self._holds.pop(index, ()) if self._held.get(held) == index]

    # -- ready jobs --------------------------------------------------------------------------

    def mark_ready(self, index: int) -> None:
        """The job may start, or have its inputs fetched, once nothing of its own holds it back."""
        if self.is_free(index):
            heappush(self._lacking if self._lacks_inputs(index) else self._ready, index)

    def take(self) -> int | None:
        """The first ready job in document order; it is no longer on offer."""
        while self._ready:
            index = heappop(self._ready)
            if not self.is_free(index) or self._lacks_inputs(index):
                self._offer_next(index)
            elif self._has_room(index):
                return index
        return None

    def _has_room(self, index: int) -> bool:
        """Whether it is no element of an array of which as many run as may; else it is on offer
        again as soon as one of them doesn't."""
        found = self._arrays.of(index)
        if found is None or not found.full:
            return True
        heappush(self._no_room.setdefault(found, []), index)
        return False

    def made_room(self, index: int, old: JobState, new: JobState) -> None:
        """A unit's record has changed: perhaps another element of its array may go ahead now."""
        if self._no_room and old.status is JobStatus.RUNNING is not new.status:
            self._offer_next(index)
        if self._no_room_ahead and (old.status is not new.status or old.fetching):
            found = self._arrays.of(index)
            if found is not None and (waiting := self._no_room_ahead.get(found)):
                heappush(self._lacking, heappop(waiting))

    def _offer_next(self, index: int) -> None:
        """Offer another element of the same array, in whose place this one was, if it has one."""
        found = self._arrays.of(index)
        if found is not None and (waiting := self._no_room.get(found)):
            heappush(self._ready, heappop(waiting))

    def take_for_space(self) -> int | None:
        """The first ready job with ``run_if: always``, for those clean up; else the first of all.

        Looks through all that are ready: that is done on a full disk, when nothing runs.
        """
        always = [
            index
            for index in self._ready
            if self._document[index].run_if == "always"
            and self.is_free(index)
            and not self._lacks_inputs(index)
        ]
        if not always:
            return self.take()
        # Its entry in the heap stays, and is out of date: see above.
        return min(always)

    def take_lacking(self) -> int | None:
        """The first job that would be ready if it had its inputs; it is no longer on offer."""
        while self._lacking:
            index = heappop(self._lacking)
            if self.is_free(index) and self._lacks_inputs(index):
                found = self._arrays.of(index)
                if found is None or found.may_go_ahead:
                    return index
                heappush(self._no_room_ahead.setdefault(found, []), index)
        return None

    def is_held_up(self, index: int) -> bool:
        """Whether it is an element of an array of which as many run as may."""
        found = self._arrays.of(index)
        return found is not None and found.full

    @property
    def may_lack(self) -> bool:
        """Whether asking for one that lacks its inputs may be worth it."""
        return bool(self._lacking)

    def _lacks_inputs(self, index: int) -> bool:
        state = self._jobs[index]
        if state.needs_check:
            return True
        job = self._document[index]
        return not state.fetched and bool(job.input_paths or job.inputs)

    def is_free(self, index: int) -> bool:
        """Nothing holds it: no wait, no fetch, no former attempt's tree or files to be stored."""
        state = self._jobs[index]
        return (
            state.status in WAITING
            and state.retry_due is None
            and not state.background
            and not state.collecting
            and not state.fetching
            and not self.remaining[index]
            and index not in self._held
            and (state.released or not self._document[index].hold)
            and (self.chosen is None or index in self.chosen)
        )

    # -- waits -------------------------------------------------------------------------------

    def wait(self, index: int, due: float) -> None:
        """The job's next attempt is due at this monotonic time, which its record holds too."""
        heappush(self._waits, (due, index))

    def waiting(self) -> list[int]:
        """All jobs that wait for a moment, the earliest first."""
        waits = sorted({wait for wait in self._waits if self._is_current(*wait)})
        return [index for _, index in waits]

    def next_due(self) -> float | None:
        """The earliest moment that a job waits for."""
        while self._waits and not self._is_current(*self._waits[0]):
            heappop(self._waits)
        return self._waits[0][0] if self._waits else None

    def take_due(self, mono: float) -> int | None:
        """A job whose wait is over; the caller takes the wait out of its record."""
        due = self.next_due()
        if due is None or due > mono:
            return None
        return heappop(self._waits)[1]

    def _is_current(self, due: float, index: int) -> bool:
        state = self._jobs[index]
        return state.retry_due == due and state.status in WAITING
