"""Who carries the files of a job on AWS Batch, and what a document may say of a job accordingly.

Pure. Owns the rules of ``staging``: what there is nobody to do for a plain job is refused, and what
is done in another way is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from runner.batch.names import MIN_TIMEOUT
from runner.batch.plain_attempts import PlainCommand
from runner.model.document import JobSpec, QueueSpec
from runner.model.durations import format_duration
from runner.model.elements import INDEX

IN_IMAGE_MIB = 256
"""MiB that runner takes in the image's own container."""

PLAIN_GRACE = 30.0
"""Seconds between Batch's own SIGTERM and SIGKILL (Batch User Guide, "Job timeouts")."""

_OWN_VARIABLES = 512
"""Characters that runner's variables take at most of a plain job's: ids have 128 each."""

Finding = tuple[str, str]


class Staging(StrEnum):
    """Who carries an attempt's files, and keeps its records: containers beside the command's; its
    own, whose image has Python; nobody."""

    CONTAINERS = "containers"
    IN_IMAGE = "in-image"
    NONE = "none"


def staging_of(document: QueueSpec, job: JobSpec) -> Staging:
    """How it is of one job."""
    own = document.placed(job).batch
    return Staging.CONTAINERS if own is None or own.staging is None else Staging(own.staging)


def refused_of_plain(queue: QueueSpec, job: JobSpec) -> Iterator[Finding]:
    """What a plain job can't have: where inside the job, and why."""
    if staging_of(queue, job) is not Staging.NONE:
        return
    for name in ("result_paths", "output_paths", "input_paths", "checkpoint_paths"):
        if getattr(job, name):
            yield f".{name}", "nobody carries the files of a job with staging none"
    if queue.secrets(job):
        where = ".secret_env" if job.secret_env else ""
        yield where, "has secrets, which nobody reads for a job with staging none"
    if job.term_grace is not None and job.term_grace != PLAIN_GRACE:
        yield ".term_grace", f"with staging none AWS Batch waits {PLAIN_GRACE:g}s after SIGTERM"
    if job.timeout < MIN_TIMEOUT:
        told = f"{format_duration(job.timeout)}: with staging none AWS Batch keeps the time, and"
        yield ".timeout", f"{told} no timeout there is shorter than {MIN_TIMEOUT}s"
    folder = job.working_directory or queue.working_directory
    if folder is not None and INDEX in folder:
        yield ".working_directory", f"{INDEX} is filled in by nobody with staging none"
    env = {**queue.env, **job.env, "RUNNER": "x" * _OWN_VARIABLES}
    shell = queue.placed(job).shell or ()
    if (fault := PlainCommand(job.command, shell, env, folder).too_long()) is not None:
        yield ".command", fault


def notes_of_staging(queue: QueueSpec, job: JobSpec) -> Iterator[Finding]:
    """What is told of a job whose files no container beside it carries."""
    match staging_of(queue, job):
        case Staging.NONE:
            yield (
                ".batch.staging",
                "is none: no record is kept and no file is carried, the status of AWS Batch "
                "stands; if the answer to its submission is lost it may run twice; whoever may "
                "describe it reads its variables",
            )
            if job.term_grace is None and queue.term_grace != PLAIN_GRACE:
                yield (
                    ".batch.staging",
                    f"is none: its term_grace is AWS Batch's own, {PLAIN_GRACE:g}s",
                )
        case Staging.IN_IMAGE:
            yield (
                ".batch.staging",
                f"is in-image: the image needs Python 3.11 or later and root as its user; runner "
                f"takes {IN_IMAGE_MIB}MiB more in it, and where the container is killed for want "
                "of memory nothing of it is stored",
            )
        case _:
            pass
