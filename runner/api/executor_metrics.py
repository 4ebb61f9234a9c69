"""Counters of one Executor, as a record and as OpenMetrics text."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

BUCKETS = (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86_400.0)
"""Upper ends of the classes of latencies, in seconds."""

FAILURES = ("exception", "exit", "signal", "timeout", "payload", "infrastructure")
"""Why jobs fail: the function raised; the process exited with a status, or was killed by a signal;
its time was over; something could not be pickled or unpickled; it could not be run at all."""


@dataclass(frozen=True, slots=True)
class LatencyFigures:
    """``count`` times, their sum and the longest in seconds; ``buckets``: how many were at most as
    long as each of BUCKETS."""

    count: int = 0
    total: float = 0.0
    longest: float = 0.0
    buckets: tuple[int, ...] = (0,) * len(BUCKETS)

    @property
    def mean(self) -> float:
        """Seconds; 0 for none."""
        return self.total / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class ExecutorFigures:
    """What an Executor has done since it was made.

    ``submitted``: by `function` and `command`; ``failed``: by FAILURES. A command that ends with
    another exit status than 0 has failed, though its Future has a result. ``waiting`` and
    ``running`` are as of now. ``wait``: from submission to the first start; ``run``: from there to
    the end, in seconds.
    """

    submitted: Mapping[str, int]
    waiting: int
    running: int
    completed: int
    failed: Mapping[str, int]
    cancelled: int
    wait: LatencyFigures
    run: LatencyFigures

    def openmetrics(self) -> str:
        """The same as a Prometheus server reads it (OpenMetrics 1.0)."""
        return "\n".join([*self._lines(), "# EOF", ""])

    def _lines(self) -> Iterator[str]:
        yield from _family("submitted", "counter", "Jobs submitted.")
        for kind, count in sorted(self.submitted.items()):
            yield f'{_PREFIX}_submitted_total{{kind="{kind}"}} {count}'
        yield from _family("ended", "counter", "Jobs that have ended, by outcome.")
        ends = {"completed": self.completed, "cancelled": self.cancelled}
        for outcome, count in {**ends, **self.failed}.items():
            yield f'{_PREFIX}_ended_total{{outcome="{outcome}"}} {count}'
        for name, value in (("waiting", self.waiting), ("running", self.running)):
            yield from _family(name, "gauge", f"Jobs {name} now.")
            yield f"{_PREFIX}_{name} {value}"
        for name, what in (("wait", "From submission to start."), ("run", "From start to end.")):
            figures: LatencyFigures = getattr(self, name)
            yield f"# TYPE {_PREFIX}_{name}_seconds histogram"
            yield f"# UNIT {_PREFIX}_{name}_seconds seconds"
            yield f"# HELP {_PREFIX}_{name}_seconds {what}"
            for least, count in zip(BUCKETS, figures.buckets, strict=True):
                yield f'{_PREFIX}_{name}_seconds_bucket{{le="{least}"}} {count}'
            yield f'{_PREFIX}_{name}_seconds_bucket{{le="+Inf"}} {figures.count}'
            yield f"{_PREFIX}_{name}_seconds_sum {figures.total:.6f}"
            yield f"{_PREFIX}_{name}_seconds_count {figures.count}"


_PREFIX = "runner_executor_jobs"


def _family(name: str, kind: str, text: str) -> Iterable[str]:
    return (f"# TYPE {_PREFIX}_{name} {kind}", f"# HELP {_PREFIX}_{name} {text}")


@dataclass(slots=True)
class _Latency:
    total: float = 0.0
    longest: float = 0.0
    classes: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))

    def add(self, seconds: float) -> None:
        seconds = max(0.0, seconds)
        self.total += seconds
        self.longest = max(self.longest, seconds)
        self.classes[bisect_left(BUCKETS, seconds)] += 1

    def figures(self) -> LatencyFigures:
        *buckets, count = accumulate(self.classes)
        return LatencyFigures(count, self.total, self.longest, tuple(buckets))


class ExecutorMetrics:
    """Counts; in any thread. Times are monotonic seconds, and given by the caller."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._submitted: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._completed = self._cancelled = 0
        self._waiting: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._wait, self._run = _Latency(), _Latency()

    def submitted(self, job_id: str, kind: str, now: float) -> None:
        """A job was taken."""
        with self._lock:
            self._submitted[kind] += 1
            self._waiting[job_id] = now

    def started(self, job_id: str, now: float) -> None:
        """Its first attempt runs; later ones change nothing."""
        with self._lock:
            if (since := self._waiting.pop(job_id, None)) is not None:
                self._wait.add(now - since)
                self._running[job_id] = now

    def ended(self, job_id: str, outcome: str, now: float) -> None:
        """It has ended: `completed`, `cancelled`, or one of FAILURES."""
        with self._lock:
            self._waiting.pop(job_id, None)
            if (since := self._running.pop(job_id, None)) is not None:
                self._run.add(now - since)
            if outcome == "completed":
                self._completed += 1
            elif outcome == "cancelled":
                self._cancelled += 1
            else:
                self._failed[outcome] += 1

    def figures(self) -> ExecutorFigures:
        """All of them, as of one moment."""
        with self._lock:
            return ExecutorFigures(
                submitted={kind: self._submitted[kind] for kind in ("function", "command")},
                waiting=len(self._waiting),
                running=len(self._running),
                completed=self._completed,
                failed={kind: self._failed[kind] for kind in FAILURES},
                cancelled=self._cancelled,
                wait=self._wait.figures(),
                run=self._run.figures(),
            )
