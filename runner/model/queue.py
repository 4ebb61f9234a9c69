"""What a queue is: the records that everything else works on.

Frozen, slotted, and equal when they mean the same. How they are written, checked and compared is
other modules' business. A document of 100,000 jobs is one QueueSpec: the records share what
is equal in them, so nobody may change a dict found inside. What Python code builds documents of are
the models of ``pydantic_models``: `Queue`, `Job` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from runner.model.notify import NotifySpec
from runner.model.placement import NO_PLACEMENT, SHELL, ArraySpec, Placement, ResourceSpec

BASE_DELAYS = {"exponential": 1.0, "fixed": 5.0, "exponential-jitter": 1.0}
"""The ways to back off, each with its ``base_delay`` in seconds when the document gives none."""

GIVEN_KEY: Final = "x-runner-given"
"""Under which a document that was written out holds the one that was given."""

GIVEN_PREFIX: Final = f'{{"{GIVEN_KEY}":'
"""How the text of such a document begins."""

FIT: Final = "fit"
"""The ``max_parallel_jobs`` of a queue that runs as many jobs at once as there is room for."""

RETRY_ON = ("exit", "timeout", "signal")
"""The ways in which an attempt may end that is tried again."""

FRESH = ("keep", "check", "clear")
"""What is done about result files that are older than their job: they are stored and told, they
count as missing, or they are moved aside before it starts."""

MAX_JOBS: Final = 100_000
"""The most jobs that a document is written out to, and a queue gets by jobs that expand."""

RUN_IF = ("success", "failure", "always")
ON_FAILURE = ("stop", "continue")


@dataclass(frozen=True, slots=True)
class RetrySpec:
    """How often and when a failed job is tried again. Delays are in seconds.

    ``base_delay`` left out (or None) becomes the default of its ``backoff``. No
    ``retry_on_codes`` means every exit code; ``dont_retry_on_codes`` wins. ``retry_on`` is in the
    order of RETRY_ON.
    """

    max_attempts: int
    backoff: str = "exponential"
    base_delay: float = None  # type: ignore[assignment]  # never None once __post_init__ is over
    max_delay: float = 300.0
    retry_on_codes: tuple[int, ...] | None = None
    dont_retry_on_codes: tuple[int, ...] = ()
    retry_on: tuple[str, ...] = RETRY_ON

    def __post_init__(self) -> None:
        if self.base_delay is None:
            object.__setattr__(self, "base_delay", BASE_DELAYS[self.backoff])


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What to fetch before a job starts: a key, or all keys below a prefix, which ends with `/`.

    A ``path`` that ends with `/` is a folder. `{queue_id}` and `{job_id}` stand in both as written.
    """

    s3: str
    path: str


@dataclass(frozen=True, slots=True)
class ResultSpec:
    """A glob of result files. An ``optional`` one may match nothing.

    ``fresh``, one of FRESH: what is done about files that were there before the job.
    """

    path: str
    optional: bool = False
    fresh: str = "keep"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One command of a queue. ``timeout`` and ``term_grace`` are in seconds.

    None for ``working_directory``, ``create_working_directory`` or ``term_grace`` means the
    queue's. ``env`` may hold secrets, so it is in no repr; ``secret_env`` says where some are kept.
    ``inputs_in_timeout``: the time that its inputs take counts as the attempt's. ``output_paths``:
    files for the jobs that depend on this one, which are no results. ``array`` None: one command.
    ``allow_failure``: a failure is tolerated, and dependants take it for success.
    ``hold``: it starts when a person releases it. ``expands``: the file in which it leaves further
    jobs, which are added to the queue when it has completed. ``inputs``: globs of the
    files that it reads: as long as they and all else that it depends on are as they were it is not
    run again.
    """

    job_id: str
    command: str
    timeout: float
    depends_on: tuple[str, ...] = ()
    run_if: str = "success"
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_env: Mapping[str, str] = field(default_factory=dict)
    retry: RetrySpec | None = None
    result_paths: tuple[ResultSpec, ...] = ()
    checkpoint_paths: tuple[str, ...] = ()
    input_paths: tuple[InputSpec, ...] = ()
    inputs_in_timeout: bool = False
    keep_background: bool = False
    working_directory: str | None = None
    term_grace: float | None = None
    output_paths: tuple[ResultSpec, ...] = ()
    array: ArraySpec | None = None
    placement: Placement = NO_PLACEMENT
    create_working_directory: bool | None = None
    allow_failure: bool = False
    hold: bool = False
    expands: str | None = None
    inputs: tuple[str, ...] = ()

    @property
    def kept_paths(self) -> tuple[ResultSpec, ...]:
        """All that is stored after success, and brought back where it is gone: the results, then
        the outputs, which only the jobs behind this one get."""
        return self.result_paths + self.output_paths if self.output_paths else self.result_paths

    @property
    def optional_paths(self) -> frozenset[str]:
        """The globs among them that may match nothing; one that is also required may not."""
        kept = self.kept_paths
        required = {result.path for result in kept if not result.optional}
        return frozenset(result.path for result in kept) - required

    def fresh_paths(self, fresh: str) -> tuple[str, ...]:
        """The globs among them with this word of FRESH."""
        return tuple([result.path for result in self.kept_paths if result.fresh == fresh])


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A valid document. ``global_timeout`` and ``term_grace`` are in seconds.

    ``placement``: what holds for jobs that say nothing of it; ``pools``: sorted names and amounts.
    ``given``: the JSON text of the document that this one was written out from, if it was.
    ``added``: the jobs at the end that the queue got while it ran, by id, each with the job that
    expanded to it, or None where it was asked for; see ``growth``.
    """

    queue_id: str | None
    queue_name: str
    jobs: Sequence[JobSpec]
    global_timeout: float
    on_failure: str
    result_s3_bucket: str | None = None
    result_s3_prefix: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_env: Mapping[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    term_grace: float = 30.0
    max_parallel_jobs: int | Literal["fit"] = 1
    pools: tuple[tuple[str, int], ...] = ()
    placement: Placement = NO_PLACEMENT
    create_working_directory: bool = False
    max_failures: int | None = None
    notify: tuple[NotifySpec, ...] = ()
    given: str | None = field(default=None, compare=False, repr=False)
    added: Mapping[str, str | None] = field(default_factory=dict, compare=False, repr=False)

    def with_id(self, queue_id: str) -> QueueSpec:
        """The same queue under this id."""
        return replace(self, queue_id=queue_id)

    @property
    def longest(self) -> float:
        """Seconds that all attempts may take one after another, the delays between them too; of an
        array those of every element."""
        return sum(_longest(job) * (job.array.size if job.array else 1) for job in self.jobs)

    def grace(self, job: JobSpec) -> float:
        """Seconds between SIGTERM and SIGKILL for this job of the queue."""
        return self.term_grace if job.term_grace is None else job.term_grace

    def secrets(self, job: JobSpec) -> Mapping[str, str]:
        """Where the secrets of this job are kept, by variable; what a job sets, the queue doesn't.

        Mostly none: nothing is made then, for every start comes by.
        """
        if not self.secret_env:
            return job.secret_env
        queues = {name: at for name, at in self.secret_env.items() if name not in job.env}
        return {**queues, **job.secret_env}

    def placed(self, job: JobSpec) -> Placement:
        """What holds for this job: its own words, else the queue's."""
        return job.placement.over(self.placement)

    def image(self, job: JobSpec) -> str | None:
        """The image that the job's command runs in; None: in none."""
        return self.placed(job).image or None

    @property
    def may_stop(self) -> bool:
        """Whether failures can keep from starting what doesn't depend on them."""
        return self.on_failure == "stop" or self.max_failures is not None

    def stops_after(self, failures: int) -> bool:
        """Whether so many failures keep from starting what waits. Tolerated ones don't count."""
        if self.on_failure == "stop":
            return failures > 0
        return self.max_failures is not None and failures >= self.max_failures

    def makes_folder(self, job: JobSpec) -> bool:
        """Whether the folder that the job starts in is made where there is none."""
        own = job.create_working_directory
        return self.create_working_directory if own is None else own

    def shell(self, job: JobSpec) -> tuple[str, ...]:
        """What the job's command is given to, as its last argument."""
        return self.placed(job).shell or SHELL

    @property
    def counts_resources(self) -> bool:
        """Whether the document says anything of resources; then a job needs a processor if it says
        nothing itself."""
        return (
            self.max_parallel_jobs == FIT
            or bool(self.pools)
            or self.placement.resources is not None
            or any(job.placement.resources is not None for job in self.jobs)
        )

    def resources(self, job: JobSpec) -> ResourceSpec:
        """What an attempt of the job needs, in a document that ``counts_resources``."""
        return self.placed(job).resources or ResourceSpec()


def _longest(job: JobSpec) -> float:
    """Of one element, if it is an array."""
    if job.retry is None:
        return job.timeout
    attempts = job.retry.max_attempts
    return attempts * job.timeout + (attempts - 1) * job.retry.max_delay


@dataclass(frozen=True, slots=True)
class AddedJob:
    """A job in its stored form. ``parent``: the job that expanded to it; None: it was asked for."""

    text: str
    parent: str | None = None
