"""Whether a failure came before a job that was skipped. Derived from the records, never stored.

A job with ``run_if: failure`` behind a skipped one is there for that failure. While an ancestor may
still fail it isn't known yet, and the answer is remembered together with such an ancestor.
"""

from __future__ import annotations

from collections.abc import Callable

from runner.core.states import ENDED, JobStatus
from runner.model.document import QueueSpec
from runner.model.graph import Graph

NONE = -1
"""The answer: no ancestor failed, and none can any more."""

FAILED = -2
"""The answer: one has failed."""


class Ancestry:
    """What stands before the jobs of one queue.

    ``status_of``: how a unit, or an array as a whole, stands. Before an array are its elements.
    ``seen_from``: how one stands for another that depends on it, see ``Frontier``.
    """

    def __init__(
        self,
        document: QueueSpec,
        graph: Graph,
        status_of: Callable[[int], JobStatus],
        seen_from: Callable[[int, int], tuple[int, JobStatus]],
    ) -> None:
        self._document = document.jobs
        self._status_of = status_of
        self._seen_from = seen_from
        self._stops = document.may_stop
        self._dependencies = graph.dependencies
        self._known: dict[int, int] = {}

    def forget(self, *, only_open: bool = False) -> None:
        """An ended job runs again; or (``only_open``) one has failed, so that what was open may be
        decided."""
        if only_open:
            self._known = {at: known for at, known in self._known.items() if known < 0}
        else:
            self._known.clear()

    def was_skipped(self, index: int) -> bool:
        """Whether it counts as skipped for what came before it, and not for its own condition."""
        if self._status_of(index) is not JobStatus.SKIPPED:
            return False
        if index >= len(self._document):  # as its elements were
            index = self._dependencies[index][0]
        return self._document[index].run_if == "success"

    def before(self, index: int) -> int:
        """FAILED, NONE, or an ancestor of this skipped job that has not ended."""
        came_from = {index: index}
        todo = [index]
        still_open: tuple[int, int] | None = None
        while todo:
            at = todo.pop()
            for other in self._dependencies[at]:
                if other in came_from:
                    continue
                answer = self._answer(at, other)
                if answer == FAILED:
                    self._note(at, came_from, FAILED)
                    return FAILED
                if answer is not None and answer != NONE:
                    still_open = (at, answer)
                if answer is None or self._looks_past(other, answer):
                    came_from[other] = at
                    todo.append(other)
        if still_open is not None:
            at, answer = still_open
            self._note(at, came_from, answer)
            return answer
        self._known.update(dict.fromkeys(came_from, NONE))
        return NONE

    def _looks_past(self, index: int, answer: int) -> bool:
        """Whether a failure before this job counts already, though it has not ended itself."""
        return answer == index and self._stops and self._known.get(index, NONE) < 0

    def _answer(self, behind: int, index: int) -> int | None:
        """What this job says to one behind it; None: what stands before it has to be looked at."""
        _, status = self._seen_from(behind, index)
        if status is JobStatus.FAILED:
            return FAILED
        if status not in ENDED:
            return index
        # A stop skips also what only completed jobs stand before: a failure before those counts.
        passes = self.was_skipped(index) or (status is JobStatus.COMPLETED and self._stops)
        if not passes:
            return NONE
        known = self._known.get(index)
        if known is not None and known >= 0 and self._status_of(known) in ENDED:
            return None
        return known

    def _note(self, at: int, came_from: dict[int, int], answer: int) -> None:
        """Remember it for all on the way."""
        while True:
            self._known[at] = answer
            if came_from[at] == at:
                return
            at = came_from[at]
