"""The flags of verbs that have a queue run on AWS Batch, and what a daemon is told of them."""

from __future__ import annotations

import argparse

from runner.errors import UsageError

IN_IMAGE = "image"
"""In place of a bundle: the image of the containers has runner."""

_FLAGS = {
    "job_queue": "--job-queue",
    "image": "--image",
    "region": "--region",
    "max_parallel": "--max-parallel",
    "bundle": "--bundle",
    "detach": "--detach",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Of a verb that drives the queue itself."""
    group = parser.add_argument_group("on AWS Batch")
    add_place_flags(group)
    group.add_argument("--region", metavar="R", help="the region of AWS")
    group.add_argument(
        "--detach", action="store_true", help="a signal leaves the jobs there, and ends none"
    )


def add_place_flags(group: argparse._ArgumentGroup) -> None:
    """Where there its jobs run, and how; without the region."""
    group.add_argument(
        "--target", choices=("batch",), help="run each attempt as a job of AWS Batch, not here"
    )
    group.add_argument("--job-queue", metavar="Q", help="the job queue; default: the settings'")
    group.add_argument("--image", metavar="I", help="the image of jobs that name none")
    group.add_argument(
        "--max-parallel",
        metavar="N|fit",
        help="so many jobs at once, whatever the document says; fit: no limit of ours",
    )
    group.add_argument(
        "--bundle",
        metavar=f"FILE|{IN_IMAGE}",
        help="runner's bundle for the containers that carry files; default: built once, and kept in"
        f" the queue's bucket; {IN_IMAGE}: their image has runner",
    )


def check_flags(arguments: argparse.Namespace, *, region: bool = False) -> None:
    """Raise UsageError for flags that mean nothing here; ``region``: that one does."""
    if arguments.target is not None:
        if getattr(arguments, "simulate", False):
            raise UsageError("--simulate runs nothing, on AWS Batch neither: leave out --target")
        if getattr(arguments, "reuse", False):
            why = "what a container finds is not known before it runs"
            raise UsageError(f"--reuse: on AWS Batch every job is run: {why}")
        return
    for name, flag in _FLAGS.items():
        if getattr(arguments, name, None) and not (region and name == "region"):
            raise UsageError(f"{flag} is for --target batch")


def asked(arguments: argparse.Namespace) -> dict[str, str]:
    """What the flags say, as a daemon is told."""
    names = ("job_queue", "region", "image", "bundle", "max_parallel")
    given = {name: getattr(arguments, name, None) for name in names}
    return {name: value for name, value in given.items() if value is not None}
