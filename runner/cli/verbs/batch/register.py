"""Register a job definition of AWS Batch, such as one for each tool. The same content is not
registered a second time; another content becomes the name's next revision.

`--` and a command may follow: what a job runs whose submission names no command."""

from __future__ import annotations

import argparse
import json

from runner.cli.verbs.batch import BatchParser, definition_options, job_options
from runner.errors import ExitCode


def configure(parser: BatchParser) -> None:
    parser.takes_command = True
    parser.add_argument("name", metavar="NAME", help="the definition's name")
    definition_options.add_definition(parser)
    definition_options.add_resources(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the request, send nothing")
    job_options.add_where(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.batch import request_limits
    from runner.batch.plain_definitions import request_of

    known = definition_options.settings(arguments)
    wanted = definition_options.definition(arguments, known)
    request, notes = request_of(wanted, arguments.name)
    request_limits.check_definition(request)
    for note in notes:
        job_options.say("register", note)
    if arguments.dry_run:
        print(json.dumps(request, indent=2))
        return ExitCode.DONE
    from runner.aws.batch import Batch
    from runner.batch.single_jobs import register

    name, new = register(Batch(job_options.region(known)), request)
    if arguments.json:
        print(json.dumps({"definition": name, "registered": new}))
        return ExitCode.DONE
    print(name)
    job_options.say("register", "registered" if new else "the newest revision is the same: kept")
    return ExitCode.DONE
