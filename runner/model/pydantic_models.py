"""The models to build a queue document with in Python; the package ``runner`` hands them out.

    from runner import Job, Queue

    Queue(jobs=[Job("train", "python train.py", timeout="2h")]).save("queue.json")

Owns what a person sees of a document: its fields, their types, descriptions and JSON Schema. The
rules of the fields are those of ``fields``, so a model and a document are refused with the same
words. pydantic is imported by the modules named for it and by no other: it takes 0.1 s and
15 MB, which only `runner schema` pays of the commands.
"""

from __future__ import annotations

import json
import os
from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from runner.model import fields as rules
from runner.model import placement_fields as placing
from runner.model.durations import LONGEST, format_duration
from runner.model.parser import parse_document
from runner.model.pydantic_base import DocumentPart, document_part, plain
from runner.model.pydantic_given import BETWEEN_FIELDS, JobInShort, Lines, QueueInShort
from runner.model.pydantic_notify import Notify as Notify
from runner.model.pydantic_paths import InputPath, ResultPath
from runner.model.pydantic_types import (
    Command,
    Dependency,
    Duration,
    Env,
    ExitCode,
    Glob,
    Id,
    ImageOption,
    Mount,
    Parallel,
    Pools,
    QueueId,
    Resources,
    RetryOn,
    Schema,
    Secrets,
    Shell,
    Size,
    Tags,
    all_ends,
    text_field,
)
from runner.model.queue import RUN_IF

__all__ = ["BatchOptions", "InputPath", "Job", "Queue", "ResultPath", "Retry"]


@document_part(rules.RETRY_FIELDS, rules.RETRY_REQUIRED)
class Retry(DocumentPart):
    """How often and when a failed job is tried again."""

    max_attempts: Annotated[
        int,
        Field(
            json_schema_extra={"minimum": 1, "maximum": rules.MAX_ATTEMPTS},
            description="How many executions there may be, the first included.",
        ),
    ]
    _: KW_ONLY
    backoff: Literal["exponential", "fixed", "exponential-jitter"] = Field(
        default="exponential", description="How the delay grows with each attempt."
    )
    base_delay: Duration | None = Field(
        default=None, description="The first delay: 1s, with a fixed backoff 5s by default."
    )
    max_delay: Duration = Field(default="5m", description="No delay is longer.")
    retry_on_codes: list[ExitCode] | None = Field(
        default=None, description="Only these exit codes are tried again."
    )
    dont_retry_on_codes: list[ExitCode] = Field(
        default_factory=list, description="These exit codes are never tried again."
    )
    retry_on: list[RetryOn] = Field(
        default_factory=all_ends,
        description="**Which ends are tried again. Timeouts and signals are, too, if this says "
        "nothing else.**",
        json_schema_extra={"minItems": 1},
    )


@document_part(placing.BATCH_FIELDS, frozenset())
class BatchOptions(DocumentPart):
    """What concerns AWS Batch only."""

    _: KW_ONLY
    share: str | None = Field(
        default=None,
        description="The share of a fair-share job queue that the job counts to.",
        json_schema_extra={"pattern": f"^{placing.SHARE_PATTERN}$"},
    )
    priority: int | None = Field(
        default=None,
        description="The job's priority within its share.",
        json_schema_extra={"minimum": 0, "maximum": placing.MAX_PRIORITY},
    )
    tags: Tags = Field(default_factory=dict, description="Tags of the job; at most 50.")
    shm: Size | None = Field(default=None, description="The size of /dev/shm; on EC2 only.")
    ephemeral_storage: Size | None = Field(
        default=None, description="The size of the disk on Fargate, 21GiB to 200GiB."
    )
    queue: str | None = Field(
        default=None,
        description="The job queue, by name or ARN, instead of the one of --job-queue.",
        json_schema_extra={"pattern": f"^{placing.QUEUE_PATTERN}$"},
    )
    staging: Literal["containers", "in-image", "none"] | None = Field(
        default=None,
        description="Who carries its files: two containers beside it (the default); in-image: the "
        "job's own container, whose image has Python 3.11 or later; none: nobody, and AWS Batch's "
        "status is all that is known.",
    )


_CONDITION: Schema = {
    "if": {
        "properties": {"run_if": {"enum": [word for word in RUN_IF if word != "success"]}},
        "required": ["run_if"],
    },
    "then": {"properties": {"depends_on": {"minItems": 1}}, "required": ["depends_on"]},
    "dependentRequired": {"array_parallel": ["array"], "array_stop": ["array"]},
}
"""A job that runs after a failure, or in any case, says after which jobs."""


@document_part(rules.JOB_FIELDS, rules.GIVEN_JOB_REQUIRED, _CONDITION)
class Job(JobInShort):
    """One command of a queue, and all that belongs to it."""

    job_id: Annotated[
        Id,
        Field(
            description="The job's name in the queue, unique.",
            json_schema_extra={"not": {"enum": list(rules.RESERVED_JOB_IDS)}},
        ),
    ]
    command: Annotated[
        Command | Lines,
        Field(description="What the shell runs, or an array of its lines; at most 131,071 bytes."),
    ]
    _: KW_ONLY
    timeout: Duration | None = Field(
        default=None,
        description="The most time that one attempt may take; required, here or in defaults.",
    )
    depends_on: list[Dependency] = Field(
        default_factory=list,
        description="Ids of the jobs that must have ended before this one starts.",
        json_schema_extra={"uniqueItems": True},
    )
    run_if: Literal["success", "failure", "always"] = Field(
        default="success", description="How its dependencies must have ended for the job to run."
    )
    env: Env = Field(
        default_factory=dict,
        repr=False,
        description="Environment variables; they win over the queue's.",
    )
    secret_env: Secrets = Field(
        default_factory=dict,
        description="Variables read at each start: ssm:NAME, secretsmanager:NAME#KEY.",
        examples=[{"HF_TOKEN": "ssm:/train/hf-token"}],
    )
    retry: Retry | None = Field(
        default=None, description="Whether a failed attempt is tried again; one attempt if not."
    )
    result_paths: list[Glob | ResultPath] = Field(
        default_factory=list,
        description="Globs of the files to keep after success; each must match some.",
        examples=[["/tmp/models/*.pt", {"path": "logs/**/*.log", "optional": True}]],
    )
    checkpoint_paths: list[Glob] = Field(
        default_factory=list,
        description="Globs of the files that an interrupted attempt leaves for the next.",
        examples=[["checkpoints/**"]],
    )
    input_paths: list[InputPath] = Field(
        default_factory=list,
        description="What is fetched from S3 before the first attempt.",
        examples=[[{"s3": "s3://bucket/data/", "path": "/data/in/"}]],
    )
    inputs: list[Glob] = Field(
        default_factory=list,
        description="Globs of the files that it reads: while these, its command, env, image and "
        "what it depends on are as they were, its last results stand and it isn't run.",
        examples=[["src/**/*.py", "data/raw.csv"]],
    )
    inputs_in_timeout: bool = Field(
        default=False, description="Count the time that the inputs take as the attempt's."
    )
    keep_background: bool = Field(
        default=False,
        description="Leave what the command put into the background until the queue ends.",
    )
    working_directory: Annotated[
        str | None, text_field("The folder the job starts in, instead of the queue's.")
    ] = None

    term_grace: Duration | None = Field(
        default=None, description="Time between SIGTERM and SIGKILL, instead of the queue's."
    )
    output_paths: list[Glob | ResultPath] = Field(
        default_factory=list,
        description="Globs of files that are kept for the jobs that depend on this one.",
    )
    array: int | None = Field(
        default=None,
        description="Run the command so many times, each with its RUNNER_ARRAY_INDEX from 0.",
        json_schema_extra={"minimum": 1, "maximum": placing.MAX_ARRAY},
    )
    array_parallel: int | None = Field(
        default=None,
        description="How many elements may run at once.",
        json_schema_extra={"minimum": 1, "maximum": placing.MAX_ARRAY},
    )
    array_stop: bool = Field(
        default=False, description="Start no other element after one has failed for good."
    )
    resources: Resources | None = Field(
        default=None,
        description="What an attempt needs of a machine, instead of the queue's.",
        examples=[{"cpus": 4, "memory": "16GiB"}],
    )
    image: str | None = Field(
        default=None,
        description='The image that the command runs in; "" is none.',
        json_schema_extra={"pattern": rf"^(?:{placing.IMAGE_PATTERN})?$"},
    )
    mounts: list[Mount] | None = Field(
        default=None,
        description="Folders of the host that the container has, beside the working directory.",
    )
    image_options: list[ImageOption] | None = Field(
        default=None, description="Further options for docker or podman run."
    )
    image_pull: Literal["missing", "always", "never"] | None = Field(
        default=None, description="When the image is fetched."
    )
    shell: Shell | Literal["strict"] | None = Field(
        default=None,
        description="What the command is given to, as the last argument; strict: "
        "/bin/bash -euo pipefail -c.",
    )
    batch: BatchOptions | None = Field(
        default=None, description="How the job is submitted to AWS Batch; of no effect elsewhere."
    )


@document_part(rules.QUEUE_FIELDS, rules.QUEUE_REQUIRED, BETWEEN_FIELDS)
class Queue(QueueInShort):
    """A queue of jobs that run on one machine, in the order they depend on."""

    _: KW_ONLY
    queue_id: QueueId | None = Field(
        default=None,
        description="The queue's identity; made from the time when left out. {date} and {time} in "
        "it make another each day, or second.",
    )
    queue_name: Annotated[str, text_field("A name for people.")] = "queue"
    jobs: list[Job] = Field(
        default_factory=list,
        description="The jobs. Among jobs that are ready the first one here starts first.",
        json_schema_extra={"minItems": 1},
    )
    global_timeout: Duration | None = Field(
        default=None, description="The most time the queue may be worked on, all in all."
    )
    on_failure: Literal["stop", "continue"] = Field(
        default="stop",
        description="When a job fails for good: stop, or continue with what doesn't need it.",
    )
    result_s3_bucket: str | None = Field(
        default=None,
        description="The S3 bucket for logs and results.",
        json_schema_extra={"pattern": f"^{rules.BUCKET_PATTERN}$"},
    )
    result_s3_prefix: Annotated[
        str | None,
        text_field(
            "What all keys in the bucket begin with; queues/<queue_id> by default.",
            examples=["queues/nightly"],
            pattern="^[^/]+(?:/[^/]+)*$",
        ),
    ] = None
    env: Env = Field(
        default_factory=dict, repr=False, description="Environment variables for every job."
    )
    secret_env: Secrets = Field(
        default_factory=dict, description="The same, from where secrets are kept: see a job's."
    )
    working_directory: Annotated[str | None, text_field("The folder that jobs start in.")] = None
    term_grace: Duration = Field(default="30s", description="Time between SIGTERM and SIGKILL.")
    max_parallel_jobs: Parallel = Field(
        default=1,
        description="How many jobs may run at once; fit: as many as there is room for.",
    )
    pools: Pools = Field(
        default_factory=dict, description="Names of what is scarce, and how much there is of it."
    )
    resources: Resources | None = Field(
        default=None,
        description="What an attempt needs of a machine, for every job that says nothing itself.",
        examples=[{"cpus": 4, "memory": "16GiB"}],
    )
    image: str | None = Field(
        default=None,
        description="The image that the command runs in.",
        json_schema_extra={"pattern": rf"^{placing.IMAGE_PATTERN}$"},
    )
    mounts: list[Mount] = Field(
        default_factory=list,
        description="Folders of the host that the container has, beside the working directory.",
    )
    image_options: list[ImageOption] = Field(
        default_factory=list, description="Further options for docker or podman run."
    )
    image_pull: Literal["missing", "always", "never"] = Field(
        default="missing", description="When the image is fetched."
    )
    shell: Shell | Literal["strict"] | None = Field(
        default=None,
        description="What the command is given to, as the last argument; strict: "
        "/bin/bash -euo pipefail -c.",
    )

    def to_json(self) -> str:
        """The document, for people and for `runner run`; what has its default is left out.

        Without a ``global_timeout`` the queue gets the time that all attempts of its jobs may take
        one after another. Raises DocumentError with every error, those between jobs included.
        """
        document = plain(self)
        document |= {"global_timeout": self.global_timeout or "1s"}
        document |= {"jobs": document.pop("jobs")}  # to the end
        text = _text(document)
        # A queue_id that names the time is checked as of some time.
        queue = parse_document(text.encode(errors="surrogatepass"), now=0.0)
        if self.global_timeout:
            return text
        return _text(
            document | {"global_timeout": format_duration(min(max(queue.longest, 1.0), LONGEST))}
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the document: the file is replaced as a whole, or stays as it is.

        Raises DocumentError as ``to_json`` does, and OSError.
        """
        target = Path(path).resolve()
        text = self.to_json()
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with open(beside, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
