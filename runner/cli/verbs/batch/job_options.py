"""What the verbs about jobs of AWS Batch share: their flags, and the jobs that they name."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.cli import options
from runner.cli.show.text import clean
from runner.errors import UsageError
from runner.model.batch_settings import BatchSettings
from runner.model.durations import parse_duration
from runner.model.messages import quoted
from runner.model.settings import parse_size

if TYPE_CHECKING:
    from runner.aws.batch import Batch
    from runner.batch.job_detail import JobDetail

FRESH_PAUSES = (1.0, 2.0)
"""Seconds before each new look for jobs that Batch doesn't know: new ones it doesn't at once."""

MIB = 1 << 20


def add_where(parser: argparse.ArgumentParser) -> None:
    """In which region, and whose settings."""
    parser.add_argument(
        "--region",
        metavar="R",
        help="the region (default: [batch] region, else your AWS settings')",
    )
    parser.add_argument("--config", metavar="FILE", help="the settings file (TOML)")
    options.add_json(parser)


def add_queue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--job-queue",
        metavar="Q",
        help="the job queue, by name or ARN (default: [batch] job_queue)",
    )


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Jobs by their ids, and where they are."""
    parser.add_argument(
        "ids",
        nargs="+",
        metavar="ID",
        help="a job's id or ARN, an array's child ID:3, a node ID#0",
    )
    add_where(parser)


def add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="TEXT", help="why; it is shown as the job's reason")


def settings(arguments: argparse.Namespace, **more: Any) -> BatchSettings:
    """The table ``[batch]`` with the flags over it. ``more``: further flags, as ``batch_x``."""
    given = {
        "batch_region": arguments.region,
        "batch_job_queue": getattr(arguments, "job_queue", None),
        **more,
    }
    return options.settings(arguments, **given).batch


def region(known: BatchSettings) -> str:
    """Raises UsageError where none is named."""
    from runner.aws.clients import region_of

    return region_of(known.region)


def queue(known: BatchSettings) -> str:
    """Raises UsageError where none is named."""
    if known.job_queue is None:
        raise UsageError(
            "no job queue is named: --job-queue, or job_queue in [batch] of the settings"
        )
    return known.job_queue


@dataclass(frozen=True, slots=True)
class NamedJobs:
    """The jobs that were named on the command line, each once, and their region's client."""

    batch: Batch
    region: str
    ids: tuple[str, ...]

    def look(self) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Id → JobDetail, in the order in which they were named; and those that Batch doesn't
        know."""
        return look(self.batch, self.ids)


def look(batch: Batch, ids: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The same of any ids. Raises AwsError."""
    found = batch.describe(ids)
    for pause in FRESH_PAUSES:
        if not (missing := [each for each in ids if each not in found]):
            break
        time.sleep(pause)  # reason: Batch tells nobody when a new job can be seen
        found |= batch.describe(missing)
    return (
        {each: found[each] for each in ids if each in found},
        [each for each in ids if each not in found],
    )


def named_jobs(arguments: argparse.Namespace) -> NamedJobs:
    """Raises UsageError for what is no id, and for jobs of several regions."""
    from runner.aws.batch import Batch
    from runner.batch.job_ids import job_id_of

    meant = [job_id_of(text) for text in arguments.ids]
    regions = {each.region for each in meant if each.region is not None}
    if arguments.region is not None:
        regions.add(arguments.region)
    if len(regions) > 1:
        raise UsageError(f"one region at a time, and not {' and '.join(sorted(regions))}")
    where = region(settings(arguments, batch_region=next(iter(regions), None)))
    return NamedJobs(Batch(where), where, tuple(dict.fromkeys(each.id for each in meant)))


def say_missing(verb: str, missing: Sequence[str], where: str) -> None:
    for each in missing:
        say(
            verb,
            f"AWS Batch knows no job {each} in {where}; ended ones it forgets after seven days",
        )


def say_of_queue(verb: str, job: JobDetail) -> None:
    """Where the output of a queue's attempt is: not in CloudWatch."""
    if job.result_store is not None:
        look = f"`runner logs JOB --from {job.result_store}` shows its output"
        say(verb, f"{job.id} is an attempt of a queue, which drives it: {look}")


def say(verb: str, line: str) -> None:
    """A word on stderr."""
    print(f"runner batch {verb}: {clean(line)}", file=sys.stderr, flush=True)


# -- values ------------------------------------------------------------------------------------


def pairs(texts: Sequence[str] | None, flag: str) -> dict[str, str]:
    """``KEY=VALUE`` of a flag that may be repeated. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"{flag}: {quoted(text)} is not KEY=VALUE")
        found[key] = value
    return found


def mebibytes(text: str | None, flag: str) -> int | None:
    """MiB of ``4GiB``, or ``512`` (MiB, as Batch has it), rounded up. Raises UsageError."""
    if text is None:
        return None
    if text.isdecimal():
        return int(text)
    try:
        return -(-parse_size(text) // MIB)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}; a number alone is MiB") from None


def vcpus(text: str | None, flag: str = "--cpus") -> float | None:
    """Raises UsageError."""
    if text is None:
        return None
    try:
        found = float(text)
    except ValueError:
        found = 0
    if not 0 < found <= 10_000:
        raise UsageError(f"{flag}: {quoted(text)} is not a number of vCPUs such as 2 or 0.5")
    return found


def seconds(text: str | None, flag: str) -> int | None:
    """Whole seconds of a duration, rounded up. Raises UsageError."""
    if text is None:
        return None
    try:
        return int(-(-parse_duration(text) // 1))
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None
