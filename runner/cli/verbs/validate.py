"""Check a queue document and print the order of its jobs. Nothing is started."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.cli import options
from runner.errors import DocumentError, ExitCode, UsageError

if TYPE_CHECKING:
    from runner.model.document import QueueSpec

HERE, BATCH = "here", "batch"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_document(parser)
    parser.add_argument(
        "--target",
        choices=(HERE, BATCH),
        default=HERE,
        help="where it is to run: on one machine (default), or on AWS Batch, which honours each "
        "field or refuses it",
    )
    parser.add_argument(
        "--image", metavar="IMAGE", help="with --target batch: the image of jobs that name none"
    )
    parser.add_argument(
        "--results",
        metavar="s3://BUCKET/PREFIX",
        help="with --target batch: the result store, where the document names none",
    )
    parser.add_argument(
        "--expanded",
        action="store_true",
        help="print the document as it would run: without params, defaults and matrices",
    )
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.model.document import dump_document
    from runner.model.graph import Graph

    for flag in ("image", "results"):
        if getattr(arguments, flag) is not None and arguments.target != BATCH:
            raise UsageError(f"--{flag} has a meaning only with --target batch")
    try:
        document = options.read(arguments, options.document(arguments))
        look = _for_batch if arguments.target == BATCH else _for_here
        warnings = look(document, arguments)
    except DocumentError as error:
        if not arguments.json:
            raise
        print(json.dumps({"valid": False, "errors": error.errors}))
        return ExitCode.USAGE
    order = [document.jobs[index].job_id for index in Graph(document.jobs).order()]
    if arguments.json:
        told: dict[str, Any] = {"valid": True, "order": order, "warnings": warnings}
        if arguments.expanded:
            told["document"] = json.loads(dump_document(replace(document, given=None)))
        print(json.dumps(told))
        return ExitCode.DONE
    for warning in warnings:
        print(f"runner validate: warning: {warning}", file=sys.stderr)
    if arguments.expanded:
        sys.stdout.write(dump_document(replace(document, given=None)))
        return ExitCode.DONE
    sys.stdout.write("".join(f"{name}\n" for name in order))
    return ExitCode.DONE


def _for_here(document: QueueSpec, arguments: argparse.Namespace) -> list[str]:
    from runner.service.document_warnings import warnings

    return warnings(document)


def _for_batch(document: QueueSpec, arguments: argparse.Namespace) -> list[str]:
    """What is told of it on AWS Batch, of which nothing is asked. Raises DocumentError."""
    from runner.batch.document_check import BatchFacts, check_for_batch, notes
    from runner.model import lint

    batch = options.settings(arguments, batch_image=arguments.image).batch
    if arguments.results is not None:
        from runner.results.stores import parse_s3

        parse_s3(arguments.results)
    store = arguments.results is not None or batch.bucket is not None
    facts = BatchFacts(store=store, image=batch.image, shared=batch.shared)
    check_for_batch(document, facts)
    return [*lint.warnings(document), *notes(document, facts)]
