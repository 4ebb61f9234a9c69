"""Remove queues that ended long ago, with their logs. Stored results stay. It doesn't
ask: `--dry-run` shows what would be removed."""

from __future__ import annotations

import argparse
import json

from runner.cli import options
from runner.errors import ExitCode, UsageError
from runner.model.durations import parse_duration


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--older-than",
        metavar="DURATION",
        help="queues that ended longer ago than this, such as 24h (default: queue_retention)",
    )
    parser.add_argument("--queue", metavar="ID", help="only this one")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    options.add_json(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    settings = options.settings(arguments)
    only = options.queue(arguments)
    from runner.service.queue_repository import QueueRepository
    from runner.service.retention import prune

    age = settings.queue_retention
    if arguments.older_than is not None:
        try:
            age = parse_duration(arguments.older_than)
        except ValueError as error:
            raise UsageError(f"--older-than: {error}") from None
    repository = QueueRepository(settings.state_dir, settings.log_dir)
    if only is not None:
        repository.find(only)
    removed = prune(repository, age, only=only, dry_run=arguments.dry_run, asked=True)
    if arguments.json:
        print(json.dumps(removed))
    else:
        verb = "would remove" if arguments.dry_run else "removed"
        for name in removed:
            print(f"{verb} {name}")
        if not removed:
            print("nothing to remove")
    return ExitCode.DONE
