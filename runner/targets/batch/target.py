"""When a request means a queue on AWS Batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.targets.batch.local_names import launched_here
from runner.targets.request import TargetRequest

if TYPE_CHECKING:
    from runner.targets.batch.connection import BatchConnection


class BatchTarget:
    """A queue on AWS Batch: meant by ``--target batch``, by the address of a result store, and by
    ``--on`` a queue that this computer has launched there."""

    name = "AWS Batch"

    def matches(self, request: TargetRequest) -> bool:
        """See QueueTarget."""
        if request.target == "batch" or request.names_store:
            return True
        return request.on is not None and launched_here(request.on)

    def may_have(self, request: TargetRequest) -> bool:
        """See QueueTarget: what was launched from this computer is found by the queue's id."""
        folders = (request.state_dir, request.log_dir)
        return request.word is not None and request.queue is None and folders == (None, None)

    def connect(self, request: TargetRequest) -> BatchConnection:
        """See QueueTarget."""
        given = [each for each in (request.word, request.on, request.queue) if each is not None]
        if not given:
            raise UsageError("which queue on AWS Batch? its id, or s3://BUCKET/PREFIX")
        if len(given) > 1:
            raise UsageError("give the queue once: as the first word, with --on or with --queue")
        (word,) = given
        for flag, value in (("state-dir", request.state_dir), ("log-dir", request.log_dir)):
            if value is not None:
                raise UsageError(f"--{flag} is about this machine: not with a queue on AWS Batch")
        from runner.targets.batch.connection import BatchConnection
        from runner.targets.batch.resolve import BatchWord

        named = BatchWord(word, region=request.region, bucket=request.bucket)
        return BatchConnection(named, request.say)
