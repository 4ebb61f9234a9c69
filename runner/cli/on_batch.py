"""What is made of the flags of verbs that have a queue's jobs run on AWS Batch: see batch_flags."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from runner.cli.batch_flags import asked
from runner.model.settings import Settings
from runner.targets.batch.container_commands import bundle_in, commands_with

if TYPE_CHECKING:
    from runner.batch.definitions import Commands
    from runner.results.store import ResultStore
    from runner.service.batch_place import BatchRun


def batch_run(arguments: argparse.Namespace, settings: Settings) -> BatchRun:
    """The place of the run's attempts. Raises UsageError."""
    from runner.service.batch_place import BatchRun, BatchRunOptions
    from runner.service.batch_queues import placement, read_request, target_of

    place = placement(read_request(asked(arguments)), settings.batch)
    options = BatchRunOptions(
        target_of(place, settings.batch),
        partial(commands_of, place.bundle),
        place.max_parallel,
        arguments.detach,
        bundle=place.bundle,
    )
    return BatchRun(options, settings)


def commands_of(given: str | None, store: ResultStore) -> Commands:
    """What the containers run. Blocks: the first time for a bucket runner is put there."""

    def say(text: str) -> None:
        print(f"runner: {text}", file=sys.stderr)

    return commands_with(bundle_in(store.describe(), given, say))
