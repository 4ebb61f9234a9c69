"""Store a file, or all files of a folder, in S3, checked by S3 as they arrive.

A folder's files go below the address, with their paths in the folder. Links are not followed."""

from __future__ import annotations

import argparse
import json

from runner.cli import options
from runner.cli.show.text import clean, counted
from runner.cli.verbs.batch import job_options
from runner.errors import ExitCode


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("local", metavar="LOCAL", help="a file or a folder")
    parser.add_argument(
        "address", metavar="s3://BUCKET/KEY", help="where; `/` at its end: below it"
    )
    options.add_storing(parser)
    parser.add_argument("--config", metavar="FILE", help="the settings file (TOML)")
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.batch.file_transfer import put
    from runner.cli.show.progress import progress_bar
    from runner.results.s3.store import S3Options

    known = options.settings(arguments)
    with progress_bar() as progress:
        done = put(
            arguments.local,
            arguments.address,
            S3Options(known.kms_key, known.storage_class),
            progress,
        )
    for problem in done.problems:
        job_options.say("put", problem)
    if arguments.json:
        view = {"files": done.files, "bytes": done.bytes, "problems": list(done.problems)}
        print(json.dumps({**view, "address": arguments.address}))
    else:
        files, size = counted(done.files, "file"), counted(done.bytes, "byte")
        print(f"{files}, {size} in {clean(arguments.address)}")
    return ExitCode.RESULTS_INCOMPLETE if done.problems else ExitCode.DONE
