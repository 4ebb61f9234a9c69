"""AWS Batch as the place of one queue's attempts: what outlives each of its sessions.

Owns what is asked once before a queue's first job: the job queue, the starts that the store knows
of. Made, prepared and closed by whoever hosts the session.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from runner.aws.batch import Batch
from runner.batch.attempt_records import AttemptRecords
from runner.batch.definitions import Commands
from runner.batch.queue_detail import read_environment, read_queue_detail
from runner.batch.records import OutputsOf
from runner.batch.submission import Intended, Submitter
from runner.core.actions import StartAttempt
from runner.core.scheduler import Scheduler
from runner.engine.batch.intents import BatchDefaults, compose_submission
from runner.engine.batch.region import BatchRegion
from runner.engine.context import EngineContext
from runner.errors import UsageError
from runner.results.store import ResultStore


def of_job_queue(defaults: BatchDefaults) -> BatchDefaults:
    """The same, with what its job queue tells. Blocks.

    Raises UsageError for a queue that isn't there or takes no jobs, AwsError.
    """
    batch = Batch(defaults.region)
    found = batch.queue(defaults.job_queue)
    where = f" in {defaults.region}" if defaults.region else ""
    if found is None:
        raise UsageError(f"there is no job queue {defaults.job_queue}{where} on AWS Batch")
    queue = read_queue_detail(found)
    if queue.state != "ENABLED":
        raise UsageError(f"the job queue {queue.name}{where} is {queue.state}: it takes no jobs")
    environments = map(read_environment, batch.environments(queue.environments))
    fargate = any(each.fargate for each in environments)
    return replace(defaults, fargate=fargate, fair_share=queue.fair_share)


class BatchPlace:
    """A job queue, and the store of one run. It has to be prepared before a session begins.

    ``commands``: what the containers run, and what has to be in the store for that. ``say`` takes
    words for people, in any thread. ``region``: its own or one that others use, too: whoever made
    it closes it.
    """

    def __init__(
        self,
        target: BatchDefaults,
        store: ResultStore,
        commands: Callable[[ResultStore], Commands],
        say: Callable[[str], None],
        region: BatchRegion,
    ) -> None:
        self.target = target
        self.store = store
        self.say = say
        self.batch = region.batch
        self.records = AttemptRecords(store)
        self.poller = region.poller
        self.starts = 0
        self._region = region
        self._make_commands = commands
        self._commands: Commands | None = None

    @property
    def commands(self) -> Commands:
        """What the containers run; known once it is prepared."""
        assert self._commands is not None
        return self._commands

    def prepare(self, run_id: str) -> None:
        """Look at what the store knows of the run, and put there what jobs need. Blocks.

        Raises StoreError, and what ``commands`` does.
        """
        self.starts = self.records.newest_start(run_id)
        self._commands = self._make_commands(self.store)

    def intended(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        restore: tuple[OutputsOf, ...],
        starts: Sequence[StartAttempt],
        withdrawn: threading.Event,
    ) -> Intended:
        """The submission of these starts, which go together."""
        composed = compose_submission(
            self.target,
            scheduler,
            context.queue_id,
            self.store.describe(),
            self.commands,
            context.live_log_interval,
            restore,
            starts,
        )
        return Intended(
            composed.token, composed.submission, composed.request, composed.definition, withdrawn
        )

    def submitter(self, closed: threading.Event) -> Submitter:
        """What a session submits with, until it is closed."""
        region = self._region
        return Submitter(
            self.batch, self.records, region.definitions, region.submits, region.health, closed
        )

    def close(self) -> None:
        """Give the store back. Blocks."""
        self.store.close()
