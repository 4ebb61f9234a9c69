"""End jobs of AWS Batch in whatever state: running ones get SIGTERM, and SIGKILL 30 s later. They
become FAILED, and Batch makes no further attempt."""

from __future__ import annotations

import argparse

from runner.cli.verbs.batch import ending


def configure(parser: argparse.ArgumentParser) -> None:
    ending.configure(parser)


def execute(arguments: argparse.Namespace) -> int:
    return ending.end("terminate", arguments)
