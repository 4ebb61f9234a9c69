"""Fetch a file from S3, or all that is below an address that ends with `/`.

Each file is put in place once it is there as a whole; one that is there already, the same, is not
fetched again. The same command continues an interrupted one."""

from __future__ import annotations

import argparse
import json

from runner.cli import options
from runner.cli.show.text import clean, counted
from runner.errors import ExitCode

RECORDS = "fetched"
"""The folder of the state that remembers which version of which key a fetched file is."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address", metavar="s3://BUCKET/KEY", help="a key; `/` at its end: all below it"
    )
    parser.add_argument("local", metavar="LOCAL", help="a file; with `/` at its end, a folder")
    parser.add_argument("--config", metavar="FILE", help="the settings file (TOML)")
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.batch.file_transfer import get
    from runner.cli.show.progress import progress_bar

    records = options.settings(arguments).state_dir / RECORDS
    with progress_bar() as progress:
        fetched = get(arguments.address, arguments.local, records, progress)
    if arguments.json:
        print(json.dumps({"fetched": fetched, "local": arguments.local}))
    else:
        rest = "" if fetched else ": all was there already"
        print(f"{counted(fetched, 'file')} fetched into {clean(arguments.local)}{rest}")
    return ExitCode.DONE
