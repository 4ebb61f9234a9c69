"""Run a queue here, in the foreground, to its end. The same command resumes it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from runner.cli import options
from runner.errors import ExitCode, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_document(parser)
    parser.add_argument(
        "--results", metavar="DIR", help="store logs and result files below this folder"
    )
    options.add_again(parser)
    options.add_json(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.model.document import read_document

    settings = options.settings(arguments)
    document = read_document(options.document(arguments))
    results = _results(arguments.results)
    if results is None and document.result_s3_bucket:
        print(
            "runner run: results in S3 are not there yet; --results DIR keeps them in a folder",
            file=sys.stderr,
        )
    from runner.cli.watch import watcher_for
    from runner.service.environment import callers
    from runner.service.foreground import Wish, run
    from runner.service.session import Place
    from runner.service.shelf import Again, Shelf

    place = Place(callers(os.environ), _working_folder(), results)
    wish = Wish(document, Again(options.again(arguments)), place)
    shelf = Shelf(settings.state_dir, settings.log_dir)
    watcher = watcher_for(json_output=arguments.json)
    try:
        ended = run(shelf, settings, wish, watcher)
    finally:
        watcher.finish()
    if arguments.json:
        sys.stdout.write(ended.projection.read_text())
    if ended.exit_code in (ExitCode.INTERRUPTED, ExitCode.CTRL_C):
        print(
            f"runner run: {ended.queue_id} is interrupted; to resume it, give the same command",
            file=sys.stderr,
        )
    return int(ended.exit_code)


def _results(folder: str | None) -> Path | None:
    if folder is None:
        return None
    if folder.startswith("s3://"):
        raise UsageError("--results s3://…: results in S3 are not there yet; give a folder")
    if not folder:
        raise UsageError("--results is empty")
    path = Path(folder).absolute()
    from runner.results.folder import FolderStore

    # Before anything is written elsewhere.
    FolderStore(path).prepare()
    return path


def _working_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError("the folder this was called from does not exist any more") from None
