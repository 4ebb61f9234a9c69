"""Drive a queue from its result store, as the job that `launch --target batch` submits does.

Its disk may be lost at any time: all that is needed to go on is in the store.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from typing import TYPE_CHECKING

from runner.cli import options
from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.model.settings import Settings
    from runner.service.batch_place import BatchRun
    from runner.service.coordinator import CoordinatorRequest
    from runner.targets.batch.launch_record import BatchLaunch

JOB_VARIABLE = "AWS_BATCH_JOB_ID"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "store",
        metavar="s3://BUCKET/PREFIX",
        nargs="?",
        help="the queue's result store (default: RUNNER_STORE)",
    )
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.cli.show.run_view import PlainLines
    from runner.results.stores import parse_s3
    from runner.service.coordinator import coordinate
    from runner.service.queue_repository import QueueRepository
    from runner.targets.batch.coordinator_job import STORE_VARIABLE

    where = arguments.store or os.environ.get(STORE_VARIABLE)
    if not where:
        raise UsageError(f"which queue? s3://BUCKET/PREFIX, or {STORE_VARIABLE}")
    parse_s3(where)
    with tempfile.TemporaryDirectory(prefix="runner-coordinator-") as folder:
        # Nothing of this host counts: what another run has left here neither.
        settings = options.settings(arguments, state_dir=arguments.state_dir or folder)
        repository = QueueRepository(settings.state_dir, settings.log_dir)
        watcher = PlainLines(sys.stdout, "coordinate")
        try:
            return int(coordinate(repository, settings, _request(where, settings), watcher))
        finally:
            watcher.finish()


def _request(where: str, settings: Settings) -> CoordinatorRequest:
    from runner.core.run_mode import parse_run_mode
    from runner.service.coordinator import CoordinatorRequest
    from runner.service.session import RunContext

    launch = _launch(where)
    own_job = os.environ.get(JOB_VARIABLE) or None
    return CoordinatorRequest(
        store=where,
        context=RunContext({}, None, heartbeat=settings.heartbeat, instance=lambda: own_job),
        batch=_batch_run(launch, settings),
        own_job=own_job,
        has_ended=lambda job: _has_ended(launch.region, job),
        launch=launch.launch,
        again=parse_run_mode(launch.again),
        document=launch.document,
    )


def _launch(where: str) -> BatchLaunch:
    """How it was launched. Raises UsageError where it was not, RecordError, StoreError."""
    from runner.results.stores import open_store
    from runner.targets.batch.launch_record import stored_launch

    store = open_store(where)
    try:
        launch = stored_launch(store)
    finally:
        store.close()
    if launch is None:
        raise UsageError(f"{where} has no queue that was launched on AWS Batch")
    return launch


def _batch_run(launch: BatchLaunch, settings: Settings) -> BatchRun:
    from runner.cli.batch_flags import IN_IMAGE
    from runner.cli.connect import note
    from runner.engine.batch.intents import BatchDefaults
    from runner.service.batch_place import BatchRun, BatchRunOptions
    from runner.service.batch_placement import UNLIMITED
    from runner.targets.batch.container_commands import bundle_in, commands_with
    from runner.targets.batch.coordinator_options import read_options

    given = read_options(launch.options, "coordinator.json: options")
    target = BatchDefaults(
        given.job_queue,
        region=given.region,
        image=given.image,
        agent_image=given.agent_image,
        job_role=given.job_role,
        execution_role=given.execution_role,
        shared=given.shared,
    )
    most = UNLIMITED if given.max_parallel == 0 else given.max_parallel
    commands = commands_with(bundle_in(launch.store, settings.batch.bundle or IN_IMAGE, note))
    return BatchRun(BatchRunOptions(target, lambda store: commands, most), settings)


def _has_ended(region: str, job: str) -> bool:
    """Whether Batch knows that a coordinator's job has ended."""
    from runner.aws.batch import Batch
    from runner.aws.errors import AwsError
    from runner.targets.batch.coordinator_state import ENDED

    try:
        found = Batch(region).describe([job]).get(job)
    except AwsError:
        return False
    return found is not None and found["status"] in ENDED
