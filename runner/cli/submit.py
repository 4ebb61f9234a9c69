"""Hand a queue to the daemon. Answers after it is durable; the same document twice is one queue."""

from __future__ import annotations

import argparse
import json

from runner.cli import options
from runner.cli.connect import find_daemon
from runner.errors import ExitCode, UnreachableError


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_document(parser)
    options.add_again(parser)
    options.add_json(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.model.document import dump_document, read_document

    settings = options.settings(arguments)
    # Read once: it may come from a pipe. What is sent has passed, and carries no notes.
    text = dump_document(read_document(options.document(arguments)))
    client = find_daemon(settings)
    if client is None:
        raise UnreachableError(
            f"no daemon of {settings.state_dir} answers at {settings.run_dir / 'runner.sock'}: "
            "start one with `runner daemon`, or run the document here with `runner run`"
        )
    with client:
        # A large document takes its time, and so do jobs that --fresh ends.
        client.timeout = None
        answer = client.ask("submit", document=text, again=options.again(arguments))
    if arguments.json:
        print(json.dumps({key: answer[key] for key in ("queue_id", "created", "status")}))
    else:
        verb = "submitted" if answer["created"] else f"there already ({answer['status']})"
        print(f"{answer['queue_id']} {verb}")
    return ExitCode.DONE
