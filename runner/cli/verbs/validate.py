"""Check a queue document and print the order of its jobs. Nothing is started."""

from __future__ import annotations

import argparse
import json
import sys

from runner.cli import options
from runner.errors import DocumentError, ExitCode


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_document(parser)
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.model.document import read_document
    from runner.model.graph import Graph

    try:
        document = read_document(options.document(arguments))
    except DocumentError as error:
        if not arguments.json:
            raise
        print(json.dumps({"valid": False, "errors": error.errors}))
        return ExitCode.USAGE
    order = [document.jobs[index].job_id for index in Graph(document.jobs).order()]
    from runner.service.document_warnings import warnings as find

    warnings = find(document)
    if arguments.json:
        print(json.dumps({"valid": True, "order": order, "warnings": warnings}))
        return ExitCode.DONE
    for warning in warnings:
        print(f"runner validate: warning: {warning}", file=sys.stderr)
    sys.stdout.write("".join(f"{name}\n" for name in order))
    return ExitCode.DONE
