"""Print the JSON Schema of the queue document."""

from __future__ import annotations

import argparse
import json

from runner.cli import options
from runner.errors import ExitCode


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    del arguments
    from runner.model.document import json_schema

    print(json.dumps(json_schema(), indent=2))
    return ExitCode.DONE
