"""Submit a queue to the daemon. It returns when the queue is durable; twice is one queue."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cli import batch_flags, options
from runner.cli.connect import connection
from runner.cli.exit_codes import of_queue
from runner.cli.show.text import clean
from runner.cli.show.wait_loop import ENDED
from runner.errors import EndedElsewhereError, ExitCode, UsageError
from runner.model.messages import quoted

if TYPE_CHECKING:
    from runner.core.run_mode import RunMode
    from runner.model.document import QueueSpec

NAMED = 3
"""Files that are named; of more it is said that there are some."""


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_document(parser)
    parser.add_argument(
        "--workdir",
        metavar="DIR",
        help="start jobs in this folder, instead of the document's working_directory",
    )
    options.add_again(parser)
    options.add_json(parser)
    group = parser.add_argument_group("on AWS Batch, driven by this machine's daemon")
    batch_flags.add_place_flags(group)
    group = parser.add_argument_group("on EC2")
    group.add_argument(
        "--on", metavar="INSTANCE|QUEUE", help="an instance, by its id or that of its queue"
    )
    options.add_where(group)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.model.document import dump_document

    options.settings(arguments)
    again = options.again(arguments)
    # Read once: it may come from a pipe. What is sent has passed, and carries no notes.
    batch_flags.check_flags(arguments, region=True)
    there = None if arguments.target is None else batch_flags.asked(arguments)
    document = options.read(arguments, options.document(arguments))
    if there is not None:
        return _on_batch(arguments, document, there, again)
    from runner.service.runs_here import check_runs_here, notes

    check_runs_here(document)
    if arguments.workdir is not None:
        document = replace(document, working_directory=_work_folder(arguments))
    text = dump_document(document)
    with connection(arguments) as connected:
        answer = connected.submit(text, again.word)
        elsewhere = connected.traits.elsewhere
    tell(answer, json_wanted=arguments.json)
    if answer["created"]:
        for note in notes(document, here=not elsewhere):
            print(f"runner submit: {note}", file=sys.stderr)
    if answer["created"] and not elsewhere:
        _tell_where(document, answer)
    return ExitCode.DONE


def _on_batch(
    arguments: argparse.Namespace, document: QueueSpec, asked: Mapping[str, str], again: RunMode
) -> int:
    """The same of a queue whose jobs run on AWS Batch: the daemon has the settings for that."""
    from runner.model.document import dump_document

    for flag in ("on", "bucket"):
        if getattr(arguments, flag) is not None:
            raise UsageError(f"--{flag}: a queue on AWS Batch is driven by this machine's daemon")
    if arguments.workdir is not None:
        raise UsageError(
            "--workdir: a folder of this machine is not there on AWS Batch: working_directory "
            "names one of the image"
        )
    where = argparse.Namespace(**{**vars(arguments), "region": None})
    with connection(where) as connected:
        answer = connected.submit(dump_document(document), again.word, asked)
    tell(answer, json_wanted=arguments.json)
    for note in answer.get("notes", ()) if answer["created"] else ():
        print(f"runner submit: {clean(note)}", file=sys.stderr)
    return ExitCode.DONE


def _work_folder(arguments: argparse.Namespace) -> str:
    """The whole path of the folder. Raises UsageError where it is none."""
    folder = Path(arguments.workdir)
    if arguments.on is not None:
        if not folder.is_absolute():
            raise UsageError("--workdir: with --on, give the whole path of a folder there")
    elif not folder.is_dir():
        raise UsageError(f"--workdir: {quoted(arguments.workdir)} is not a folder")
    return str(folder.absolute())


def _tell_where(document: QueueSpec, answer: Mapping[str, Any]) -> None:
    """What is meant from this folder isn't found where the service starts jobs."""
    from runner.service.document_warnings import relative_words

    try:
        here = Path.cwd()
    except FileNotFoundError:
        return
    if words := relative_words(document, here):
        named = ", ".join(quoted(word) for word in words[:NAMED]) + (", …" * (len(words) > NAMED))
        where = answer.get("work_dir") or "a folder of its own"
        print(
            f"runner submit: jobs start in {clean(where)}, and not here: {clean(named)} won't be "
            f'found there; --workdir . or "working_directory": "{clean(str(here))}" would start '
            "them here",
            file=sys.stderr,
        )


def tell(answer: Mapping[str, Any], *, json_wanted: bool) -> None:
    """What became of it. Raises EndedElsewhereError where that is nothing."""
    elsewhere = answer.get("elsewhere")
    if json_wanted:
        print(json.dumps({key: answer[key] for key in ("queue_id", "created", "status")}))
    elif not elsewhere:
        verb = "submitted" if answer["created"] else f"there already ({answer['status']})"
        print(f"{answer['queue_id']} {verb}")
    if elsewhere:
        raise EndedElsewhereError(str(elsewhere), of_queue(dict(answer)), answer["status"])
    if not answer["created"] and answer["status"] in ENDED:
        print(
            f"runner: {answer['queue_id']} had ended before: nothing was started; --fresh runs "
            "all of it again, another queue_id (or none) makes another queue",
            file=sys.stderr,
        )
