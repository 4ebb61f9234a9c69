"""The flags that verbs share, and how they become settings."""

from __future__ import annotations

import argparse
import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError
from runner.model.durations import parse_duration
from runner.model.messages import quoted
from runner.model.settings import Settings, load_settings
from runner.store.paths import home_folder
from runner.targets.request import checked_queue

if TYPE_CHECKING:
    from runner.core.run_mode import RunMode
    from runner.model.document import QueueSpec


BATCH = "batch"
"""The kind of place that ``--target`` names."""


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Where state, logs and settings are."""
    group = parser.add_argument_group("files and folders")
    group.add_argument("--state-dir", metavar="DIR", help="the state folder")
    group.add_argument("--log-dir", metavar="DIR", help="the folder of the jobs' logs")
    group.add_argument("--config", metavar="FILE", help="the settings file (TOML)")


def add_storing(parser: argparse.ArgumentParser) -> None:
    """How objects are stored in S3."""
    group = parser.add_argument_group("results in S3")
    group.add_argument("--kms-key", metavar="ID|ARN", help="encrypt with this KMS key")
    group.add_argument("--storage-class", metavar="CLASS", help="STANDARD_IA, GLACIER_IR, …")


def add_target(parser: argparse.ArgumentParser) -> None:
    """A first word that may be a queue, here or elsewhere, or a machine."""
    parser.add_argument(
        "target",
        nargs="?",
        metavar="QUEUE|INSTANCE",
        help="a queue here, on AWS Batch or on EC2, an instance id, or s3://BUCKET/PREFIX of a "
        "queue on AWS Batch (default: this machine's current queue)",
    )


def add_queue(parser: argparse.ArgumentParser) -> None:
    """Which queue."""
    parser.add_argument(
        "--queue", metavar="ID", help="the queue (default: the current one, else the newest)"
    )


def queue(arguments: argparse.Namespace) -> str | None:
    """The queue asked for. Raises UsageError for what can't be the name of one."""
    return checked_queue(getattr(arguments, "queue", None), "--queue")


def add_on(parser: argparse.ArgumentParser) -> None:
    """Which machine on EC2, for verbs that otherwise speak of this one."""
    group = parser.add_argument_group("on EC2 and on AWS Batch")
    group.add_argument(
        "--on",
        metavar="INSTANCE|QUEUE|s3://…",
        help="an instance, by its id or that of its queue; a queue on AWS Batch by its id or store",
    )
    group.add_argument(
        "--target",
        dest="kind",
        choices=(BATCH,),
        help="the queue is on AWS Batch, though this computer has not launched it",
    )
    add_where(group)


def add_where(parser: argparse._ActionsContainer) -> None:
    """Where a machine on EC2, and what is stored of its queue, are looked for."""
    parser.add_argument(
        "--region",
        metavar="R",
        help="its region (default: the launch's, else that of your AWS settings)",
    )
    parser.add_argument(
        "--bucket",
        metavar="B",
        help="look in this bucket's index too, for a queue that another computer launched",
    )


def add_batch_launch(parser: argparse.ArgumentParser) -> None:
    """What a queue on AWS Batch is launched with, and a machine isn't."""
    group = parser.add_argument_group("on AWS Batch, instead of a machine")
    group.add_argument(
        "--target",
        choices=(BATCH,),
        help="a small job on AWS Batch drives the queue; its jobs run there, each in an image",
    )
    group.add_argument(
        "--job-queue", metavar="Q", help="the job queue (default: `job_queue` of the settings)"
    )
    group.add_argument("--image", metavar="I", help="the image of jobs that name none")
    group.add_argument(
        "--max-parallel",
        metavar="N|fit",
        help="so many jobs at once, whatever the document says; fit: no limit of ours",
    )
    group.add_argument("--config", metavar="FILE", help="the settings file (TOML)")


def add_fresh_on_batch(parser: argparse.ArgumentParser) -> None:
    """To launch a queue there once more from its beginning."""
    group = parser.add_argument_group("a queue that has been on AWS Batch")
    group.add_argument(
        "--fresh",
        action="store_true",
        help="with --target batch: end what runs of it, set its state aside, and begin anew",
    )


def check_no_batch_launch(arguments: argparse.Namespace) -> None:
    """Raise UsageError for flags of a queue on AWS Batch where a machine is meant."""
    for name in ("job_queue", "image", "max_parallel", "config", "fresh"):
        if getattr(arguments, name, None) not in (None, False):
            raise UsageError(f"--{name.replace('_', '-')} goes with --target batch")


def add_batch_queues(parser: argparse.ArgumentParser) -> None:
    """Which queues of AWS Batch, for verbs about instances."""
    parser.add_argument(
        "--target", choices=(BATCH,), help="queues on AWS Batch instead of instances"
    )
    parser.add_argument(
        "--bucket",
        metavar="B",
        help="with --target batch: all that were launched into this bucket, not only from here",
    )


def check_batch_or_not(arguments: argparse.Namespace, *others: str) -> None:
    """Raise UsageError for flags of the other kind of place; ``others``: those of instances."""
    batch = arguments.target is not None
    for name in others if batch else ("bucket",):
        if getattr(arguments, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} {'is not for' if batch else 'goes with'} --target batch")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Data for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_document(parser: argparse.ArgumentParser) -> None:
    """Which document."""
    parser.add_argument(
        "document", metavar="QUEUE.json", help="the queue document, JSON or (.yaml, .yml) YAML"
    )
    add_sets(parser)


def document(arguments: argparse.Namespace) -> Path:
    """The path of the document. Raises UsageError for an empty one: it is no folder either."""
    if not arguments.document:
        raise UsageError("the path of the document is empty")
    return Path(arguments.document)


def add_sets(parser: argparse._ActionsContainer) -> None:
    """Values of the document's parameters."""
    parser.add_argument(
        "--set",
        dest="sets",
        metavar="NAME=VALUE",
        action="append",
        help="the value of one of the document's params, instead of its own; may be repeated",
    )


def sets(arguments: argparse.Namespace) -> dict[str, str]:
    """What was set. Raises UsageError for what sets nothing, or one name twice."""
    found: dict[str, str] = {}
    for given in getattr(arguments, "sets", None) or ():
        name, equals, value = given.partition("=")
        if not equals or not name:
            raise UsageError(f"--set: {quoted(given)} is not NAME=VALUE")
        if name in found:
            raise UsageError(f"--set {name}: is given twice")
        found[name] = value
    return found


def read(arguments: argparse.Namespace, path: Path) -> QueueSpec:
    """The document in the file as of now, with the parameters that were set. Raises UsageError."""
    from runner.model.document import read_document

    return read_document(path, sets=sets(arguments), now=time.time())


def add_again(parser: argparse.ArgumentParser) -> None:
    """What becomes of a queue that exists already."""
    group = parser.add_argument_group("a queue that exists already")
    group.add_argument(
        "--fresh", action="store_true", help="set the former run aside and begin anew"
    )
    group.add_argument(
        "--reuse",
        action="store_true",
        help="with --fresh: take jobs with `inputs` as completed for which nothing has changed",
    )
    add_mending(group)


def add_mending(group: argparse._ArgumentGroup) -> None:
    """How a queue that exists goes on with a corrected document."""
    group.add_argument(
        "--retry-failed",
        action="store_true",
        help="run failed, skipped and cancelled jobs again, corrected as the document has them",
    )
    group.add_argument(
        "--update",
        action="store_true",
        help="accept new and removed jobs, and changes to jobs that have not completed",
    )
    group.add_argument(
        "--rerun-changed",
        action="store_true",
        help="the same, and run completed jobs that changed again, with what depends on them",
    )


def again(arguments: argparse.Namespace) -> RunMode:
    """What is wanted of it. Raises UsageError for flags that don't go together."""
    from runner.core.run_mode import NAMES, RunMode

    return RunMode(**{name: getattr(arguments, name, False) for name in NAMES})


def moment(text: str | None, flag: str) -> float | None:
    """A wall time in seconds of ``10m`` (so long ago) or of an ISO 8601 time; a time without a
    zone is this machine's. Raises UsageError.
    """
    if text is None:
        return None
    try:
        return time.time() - parse_duration(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        what = "so long ago as 10m, or a time such as 2026-01-22T14:05:30Z"
        raise UsageError(f"{flag}: {quoted(text)} is not {what}") from None


def settings(arguments: argparse.Namespace, **more: Any) -> Settings:
    """The one settings object: flags before variables before the file before defaults.

    Raises UsageError also for a folder that is none: nothing has been touched yet.
    """
    names = ("state_dir", "log_dir", "kms_key", "storage_class")
    overrides = {name: getattr(arguments, name, None) for name in names} | more
    config = getattr(arguments, "config", None)
    for name, value in {**overrides, "config": config}.items():
        if value == "":
            flag = name.removeprefix("batch_").replace("_", "-")
            raise UsageError(f"--{flag} is empty")
    made = load_settings(
        os.environ,
        root=os.geteuid() == 0,
        home=home_folder(os.environ),
        config=Path(config) if config else None,
        overrides=overrides,
    )
    for name in ("state_dir", "log_dir", "run_dir"):
        folder = getattr(made, name)
        if os.path.lexists(folder) and not os.path.isdir(folder):
            raise UsageError(f"{name}: {folder} is not a folder")
    return made
