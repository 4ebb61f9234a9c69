"""Hand a queue to the daemon. Answers after it is durable; the same document twice is one queue."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from runner.cli import options
from runner.cli.connect import connection
from runner.errors import ExitCode


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_document(parser)
    options.add_again(parser)
    options.add_json(parser)
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.model.document import dump_document, read_document

    options.settings(arguments)
    again = options.again(arguments)
    # Read once: it may come from a pipe. What is sent has passed, and carries no notes.
    text = dump_document(read_document(options.document(arguments)))
    with connection(arguments) as there:
        answer = there.submit(text, again.word)
    tell(answer, json_wanted=arguments.json)
    return ExitCode.DONE


def tell(answer: Mapping[str, Any], *, json_wanted: bool) -> None:
    """What became of it."""
    if json_wanted:
        print(json.dumps({key: answer[key] for key in ("queue_id", "created", "status")}))
    else:
        verb = "submitted" if answer["created"] else f"there already ({answer['status']})"
        print(f"{answer['queue_id']} {verb}")
