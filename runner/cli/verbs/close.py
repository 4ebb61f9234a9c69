"""Close an open queue: it takes no more jobs, and ends once those that it has have ended.

For the queue of an Executor whose process has gone without closing it.
"""

from __future__ import annotations

import argparse

from runner.cli.show import job_selection


def configure(parser: argparse.ArgumentParser) -> None:
    job_selection.configure(parser)


def execute(arguments: argparse.Namespace) -> int:
    return job_selection.on_queue("close", arguments)
