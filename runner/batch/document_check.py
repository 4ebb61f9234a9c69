"""What AWS Batch honours of a queue document: a word on every field, and what can't go there.

Owns the table of fields and the rules between a document and Batch's limits. Pure, and asks AWS
nothing: what only the account knows comes as ``BatchFacts``, or isn't known. Sources: Batch User
Guide, "Service limits", "Array jobs", "Job timeouts", "Fargate"; Batch API reference, "SubmitJob",
"ResourceRequirement", "TaskContainerProperties".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil

from runner.batch.definitions import (
    CARRIER_MIB,
    CARRIER_VCPUS,
    CARRIER_VCPUS_EC2,
    CARRIERS,
    DEFAULT_MEMORY,
    MOST_STOP_SECONDS,
    STOP_SPARE,
    JobNeeds,
    whole_task,
)
from runner.batch.staging import (
    IN_IMAGE_MIB,
    Staging,
    notes_of_staging,
    refused_of_plain,
    staging_of,
)
from runner.errors import DocumentError, UsageError
from runner.model.document import JobSpec, Placement, QueueSpec
from runner.model.durations import format_duration
from runner.model.messages import quoted, step, whose
from runner.model.sizes import UNITS, format_binary_size

MIB = UNITS["MiB"]

LEAST_MEMORY = 4 * MIB

STAGING_CPUS = CARRIERS * CARRIER_VCPUS
STAGING_MIB = CARRIERS * CARRIER_MIB
"""What the containers that carry files need beside the command's, on Fargate."""

FARGATE_LIFE = 14 * 86_400.0
FARGATE_GRACE = float(MOST_STOP_SECONDS - STOP_SPARE)
"""Seconds: Fargate waits 120 at most after SIGTERM, and logs have to be stored in them."""

NAMED = 20  # jobs behind another one that are named
_NO_CONTAINER = "AWS Batch runs every command in a container"


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What is known beside the document.

    ``store``: whether files have a place in S3. ``image``: of jobs that name none. ``shared``: a
    file system that all jobs have. ``fargate``, ``fair_share``: of the job queue, None: not known.
    """

    store: bool = False
    image: str | None = None
    shared: str | None = None
    fargate: bool | None = None
    fair_share: bool | None = None


HONOURED = ""  # in a table: the field means there what it means here
QUEUE_TABLE: dict[str, str] = {
    "queue_id": HONOURED,
    "queue_name": HONOURED,
    "jobs": HONOURED,
    "global_timeout": HONOURED,
    "on_failure": HONOURED,
    "result_s3_bucket": HONOURED,
    "result_s3_prefix": HONOURED,
    "env": HONOURED,
    "secret_env": HONOURED,
    "working_directory": HONOURED,
    "create_working_directory": "folders are not made in containers on AWS Batch: a folder of the "
    "image, or none, for the work folder of the job",
    "term_grace": HONOURED,
    "max_parallel_jobs": HONOURED,
    "max_failures": HONOURED,
    "pools": "pools are not counted on AWS Batch: a consumable resource there, or "
    "max_parallel_jobs, limits how many jobs run at once",
    "resources": HONOURED,
    "image": HONOURED,
    "mounts": "no host's folders are there on AWS Batch: the setting `shared` of [batch] mounts one"
    " file system in all jobs, and output_paths hand files on",
    "image_options": "they are options of docker or podman, and AWS Batch starts the containers",
    "image_pull": "when an image is fetched is decided by the hosts of AWS Batch",
    "shell": HONOURED,
    "notify": HONOURED,
    "defaults": HONOURED,
    "params": HONOURED,
}
"""Of each field of a queue why it is refused, if it is."""

JOB_TABLE: dict[str, str] = {
    "job_id": HONOURED,
    "command": HONOURED,
    "timeout": HONOURED,
    "depends_on": HONOURED,
    "run_if": HONOURED,
    "env": HONOURED,
    "secret_env": HONOURED,
    "retry": HONOURED,
    "result_paths": HONOURED,
    "checkpoint_paths": HONOURED,
    "input_paths": HONOURED,
    "inputs_in_timeout": HONOURED,
    "keep_background": "the containers of a job end with its command, and nothing of it lives on",
    "working_directory": HONOURED,
    "create_working_directory": QUEUE_TABLE["create_working_directory"],
    "term_grace": HONOURED,
    "allow_failure": HONOURED,
    "hold": HONOURED,
    "expands": "what a job leaves in a container is not read on AWS Batch before it counts as "
    "completed: an array, or a job that submits a queue of its own, fans out there",
    "inputs": HONOURED,
    "output_paths": HONOURED,
    "array": HONOURED,
    "array_parallel": HONOURED,
    "array_stop": HONOURED,
    "resources": HONOURED,
    "image": HONOURED,
    "mounts": QUEUE_TABLE["mounts"],
    "image_options": QUEUE_TABLE["image_options"],
    "image_pull": QUEUE_TABLE["image_pull"],
    "shell": HONOURED,
    "batch": HONOURED,
    "matrix": HONOURED,
    "matrix_include": HONOURED,
    "matrix_exclude": HONOURED,
    "matrix_id": HONOURED,
}
"""The same of a job."""


def check_for_batch(queue: QueueSpec, facts: BatchFacts) -> None:
    """Raise DocumentError with all that AWS Batch can't do of this document."""
    if errors := refused(queue, facts):
        raise DocumentError(errors)


def refused(queue: QueueSpec, facts: BatchFacts) -> list[str]:
    """A line for each kind of thing that is refused: its first place, and how many jobs."""
    found = _Findings()
    if not facts.store and queue.result_s3_bucket is None:
        found.add(
            "result_s3_bucket",
            "is missing: on AWS Batch all files go through a bucket; name one here, by --results, "
            "or as `bucket` of [batch]",
        )
    for name in _said(queue.placement, queue):
        if QUEUE_TABLE[name]:
            found.add(name, QUEUE_TABLE[name])
    for name in queue.env:
        found.add(f"env{step(name)}", _variable(name))
    _each_job(queue, facts, found, (_fields, _image, _limits, _batch, _plain))
    return found.lines()


def notes(queue: QueueSpec, facts: BatchFacts) -> list[str]:
    """What is done there in a way of its own, and what hands no files on."""
    found = _Findings()
    if queue.max_parallel_jobs == 1 and (len(queue.jobs) > 1 or queue.jobs[0].array is not None):
        found.add(
            "max_parallel_jobs",
            "is 1: jobs run one by one; --max-parallel fit runs all that are ready at once",
        )
    staged = any(staging_of(queue, job) is Staging.CONTAINERS for job in queue.jobs)
    if facts.fargate is not True and staged:
        more = f"{CARRIERS * CARRIER_VCPUS_EC2:g} vCPUs and {STAGING_MIB}MiB"
        found.add("jobs", f"on EC2 each takes {more} more, for the containers that carry its files")
    _each_job(queue, facts, found, (_sizes, _manners, _staging))
    return [*found.lines(), *([] if facts.shared else _empty_edges(queue))]


class _Findings:
    """Messages, each with its first place and the jobs that it is said of."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, place: str, message: str | None, job_id: str | None = None) -> None:
        """Note it; no message is nothing to note."""
        if message:
            self._first.setdefault(message, place)
            names = self._names.setdefault(message, [])
            if job_id and names[-1:] != [job_id]:
                names.append(job_id)

    def lines(self) -> list[str]:
        return [f"{at}: {told}{whose(self._names[told])}" for told, at in self._first.items()]


_Look = Callable[[QueueSpec, JobSpec, BatchFacts], Iterator[tuple[str, str | None]]]
"""Looks at one job; gives where inside it, and what."""


def _each_job(
    queue: QueueSpec, facts: BatchFacts, found: _Findings, looks: tuple[_Look, ...]
) -> None:
    for index, job in enumerate(queue.jobs):
        for look in looks:
            for inside, message in look(queue, job, facts):
                found.add(f"jobs[{index}]{inside}", message, job.job_id)


# -- what is refused -----------------------------------------------------------------------------


def _said(placement: Placement, of: QueueSpec | JobSpec) -> Iterator[str]:
    """The fields that are given, of those that a table refuses."""
    for name in ("mounts", "image_options", "image_pull"):
        if getattr(placement, name):
            yield name
    if of.create_working_directory:
        yield "create_working_directory"
    if isinstance(of, QueueSpec) and of.pools:
        yield "pools"
    if isinstance(of, JobSpec) and of.keep_background:
        yield "keep_background"
    if isinstance(of, JobSpec) and of.expands:
        yield "expands"


def _fields(queue: QueueSpec, job: JobSpec, facts: BatchFacts) -> Iterator[tuple[str, str | None]]:
    for name in _said(job.placement, job):
        yield f".{name}", JOB_TABLE[name]
    for name in job.env:
        yield f".env{step(name)}", _variable(name)


def _variable(name: str) -> str | None:
    """Variables of its own that Batch refuses ("Job environment variables")."""
    return "AWS Batch itself sets what begins with AWS_BATCH" if name[:9] == "AWS_BATCH" else None


def _image(queue: QueueSpec, job: JobSpec, facts: BatchFacts) -> Iterator[tuple[str, str | None]]:
    if queue.image(job) or (facts.image and job.placement.image != ""):
        return
    ways = "name one here, by --image, or as `image` of [batch]"
    yield ".image", f"is missing: {_NO_CONTAINER}: {ways}"


def _limits(queue: QueueSpec, job: JobSpec, facts: BatchFacts) -> Iterator[tuple[str, str | None]]:
    needed = queue.resources(job)
    where = ".resources" if job.placement.resources is not None else ""
    for size in needed.memory:
        if size < LEAST_MEMORY:
            least = format_binary_size(LEAST_MEMORY)
            yield f"{where}.memory", f"{format_binary_size(size)}: AWS Batch needs at least {least}"
    if not facts.fargate:
        return
    if needed.gpus:
        yield f"{where}.gpus", "Fargate has no GPUs: another job queue has"
    if job.timeout > FARGATE_LIFE:
        longest = format_duration(FARGATE_LIFE)
        told = f"{format_duration(job.timeout)}: Fargate ends every job after {longest}"
        yield ".timeout", told
    for memory in needed.memory or (DEFAULT_MEMORY,):
        try:
            _task(queue, job, memory)
        except UsageError as error:
            yield where, f"{error}, of which {STAGING_CPUS} and {STAGING_MIB} carry files"


def _batch(queue: QueueSpec, job: JobSpec, facts: BatchFacts) -> Iterator[tuple[str, str | None]]:
    batch = job.placement.batch
    own_queue = batch is not None and batch.queue is not None
    if facts.fair_share and not own_queue and (batch is None or batch.share is None):
        yield ".batch.share", "is missing: the job queue shares fairly, and needs it of each job"
    if batch is None:
        return
    if facts.fair_share is False and not own_queue:
        for name in ("share", "priority"):
            if getattr(batch, name) is not None:
                yield f".batch.{name}", "the job queue has no fair-share policy, and takes none"
    if facts.fargate and batch.shm is not None:
        yield ".batch.shm", "Fargate's /dev/shm has no size of its own: on EC2 it has"
    if facts.fargate is False and batch.ephemeral_storage is not None:
        yield ".batch.ephemeral_storage", "is Fargate's: on EC2 a job has the disk of its host"


# -- what is told --------------------------------------------------------------------------------


def _plain(queue: QueueSpec, job: JobSpec, facts: BatchFacts) -> Iterator[tuple[str, str | None]]:
    yield from refused_of_plain(queue, job)


def _staging(queue: QueueSpec, job: JobSpec, facts: BatchFacts) -> Iterator[tuple[str, str | None]]:
    yield from notes_of_staging(queue, job)


def _task(queue: QueueSpec, job: JobSpec, memory: int) -> tuple[float, int]:
    """vCPUs and MiB of the Fargate task around the command. Raises UsageError: none is so large."""
    needed = queue.resources(job)
    staging = staging_of(queue, job)
    return whole_task(JobNeeds("", "", needed.cpus, memory, fargate=True, staging=staging))


def _sizes(queue: QueueSpec, job: JobSpec, facts: BatchFacts) -> Iterator[tuple[str, str | None]]:
    needed = queue.resources(job)
    where = ".resources" if job.placement.resources is not None else ""
    if not needed.memory:
        default = format_binary_size(DEFAULT_MEMORY)
        yield where, f"says nothing of memory: on AWS Batch the job gets {default}"
    if facts.fargate is not True and needed.cpus % 1:
        yield where, f"{needed.cpus:g} CPUs are {ceil(needed.cpus)} on EC2: it takes whole ones"
    if facts.fargate is not False:
        for memory in needed.memory or (DEFAULT_MEMORY,):
            yield where, _fargate_note(queue, job, memory, known=bool(facts.fargate))


def _fargate_note(queue: QueueSpec, job: JobSpec, memory: int, *, known: bool) -> str | None:
    """How a pair is rounded up; where it isn't sure to be Fargate, only for who asked for one."""
    needed = queue.resources(job)
    asked = f"{needed.cpus:g} CPUs and {format_binary_size(memory)}"
    if needed.gpus:
        return None if known else "has GPUs: the job queue has to be one of EC2"
    try:
        cpus, mib = _task(queue, job, memory)
    except UsageError:
        return None if known else f"{asked} are more than Fargate has: EC2 only"
    own_cpus, own_mib, carried = _CARRIED[staging_of(queue, job)]
    exact = (cpus - own_cpus, (mib - own_mib) * MIB) == (needed.cpus, memory)
    if exact or not (known or needed.memory):
        return None
    whole = f"{cpus:g} vCPUs and {format_binary_size(mib * MIB)}"
    return f"{asked} make a Fargate task of {whole}{carried}"


_CARRIED = {
    Staging.CONTAINERS: (
        STAGING_CPUS, STAGING_MIB, f" ({STAGING_CPUS} and {STAGING_MIB}MiB of it carry files)"
    ),
    Staging.IN_IMAGE: (0.0, IN_IMAGE_MIB, f" ({IN_IMAGE_MIB}MiB of it are for what carries files)"),
    Staging.NONE: (0.0, 0, ""),
}  # fmt: skip
"""vCPUs and MiB of a task that are not the command's, in words as well."""


def _manners(queue: QueueSpec, job: JobSpec, facts: BatchFacts) -> Iterator[tuple[str, str | None]]:
    if job.array is not None and job.array.size == 1:
        yield ".array", "of one element is submitted as a plain job: AWS Batch's have 2 or more"
    batch = job.placement.batch
    if facts.fargate is None and batch is not None and batch.shm is not None:
        yield ".batch.shm", "is EC2's: the job queue has to be one of EC2"
    if facts.fargate is None and batch is not None and batch.ephemeral_storage is not None:
        yield ".batch.ephemeral_storage", "is Fargate's: the job queue has to be one of Fargate"
    if facts.fargate is None and job.timeout > FARGATE_LIFE:
        told = f"on Fargate a job ends after {format_duration(FARGATE_LIFE)}"
        yield ".timeout", f"{format_duration(job.timeout)}: {told}"
    if facts.fargate is not False and queue.grace(job) > FARGATE_GRACE:
        grace = format_duration(queue.grace(job))
        least = format_duration(FARGATE_GRACE)
        yield ".term_grace", f"{grace} are {least} on Fargate, which waits no longer"
    if job.inputs:
        yield ".inputs", "what a container finds is not known before: there the job always runs"
    for number, result in enumerate(job.result_paths):
        if result.fresh == "clear" and result.path.startswith("/") and not facts.shared:
            told = f"{quoted(result.path)} is cleared where the job's containers share it"
            yield f".result_paths[{number}]", f"{told}: files of the image stay"
    folder = job.working_directory or queue.working_directory
    if folder and folder.startswith("/") and not facts.shared:
        own = ".working_directory" if job.working_directory else ""
        yield (
            own,
            f"{quoted(folder)} has to be in the image: each job begins with what it has there",
        )


def _empty_edges(queue: QueueSpec) -> Iterator[str]:
    """The edges of the graph along which no file goes, by the job that they come from."""
    behind: dict[str, list[str]] = {}
    by_name = {job.job_id: job for job in queue.jobs}
    for job in queue.jobs:
        for name in job.depends_on:
            behind.setdefault(name, []).append(job.job_id)
    for index, job in enumerate(queue.jobs):
        names = behind.get(job.job_id)
        if names and not job.kept_paths:
            some = ", ".join(f'"{name}"' for name in names[:NAMED])
            more = f" and {len(names) - NAMED:,} more" if names[NAMED:] else ""
            yield (
                f'jobs[{index}]: "{job.job_id}" declares neither result_paths nor output_paths, so '
                f"it hands no files on to {some}{more}"
            )
        kept = [name for name in job.depends_on if by_name[name].kept_paths]
        if kept and staging_of(queue, job) is Staging.NONE:
            told = f'has staging none: no file of "{kept[0]}" comes to it'
            yield f'jobs[{index}]: "{job.job_id}" {told}'
