"""Store what an ended queue's uploads have left undone: a network is back, a bucket was mended."""

from __future__ import annotations

import argparse
import json

from runner.cli import acting, options
from runner.cli.connect import connection
from runner.cli.exit_codes import of_queue
from runner.cli.text import headline


def configure(parser: argparse.ArgumentParser) -> None:
    acting.configure(parser)
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
