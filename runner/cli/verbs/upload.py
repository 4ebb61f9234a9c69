"""Store what an ended queue could not store, for instance when the network works again."""

from __future__ import annotations

import argparse
import json

from runner.cli import options
from runner.cli.connect import connection
from runner.cli.exit_codes import of_queue
from runner.cli.show import job_selection
from runner.cli.show.text import headline


def configure(parser: argparse.ArgumentParser) -> None:
    job_selection.configure(parser)
    options.add_storing(parser)


def execute(arguments: argparse.Namespace) -> int:
    with connection(arguments) as there:
        queue = there.act("upload")["queue"]
    if arguments.json:
        print(json.dumps(queue))
    else:
        missing = "results are incomplete" if queue.get("results_incomplete") else "results stored"
        print(f"{headline(queue)}: {missing}")
    return of_queue(queue)
