"""When a request means this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.model.messages import quoted
from runner.targets.request import TargetRequest, checked_queue

if TYPE_CHECKING:
    from runner.targets.port import QueueConnection


class HereTarget:
    """This machine: meant where no flag says otherwise."""

    name = "this machine"

    def matches(self, request: TargetRequest) -> bool:
        """See QueueTarget."""
        named = {request.word, request.on, request.region, request.bucket, request.target}
        return named == {None}

    def may_have(self, request: TargetRequest) -> bool:
        """See QueueTarget."""
        return True

    def connect(self, request: TargetRequest) -> QueueConnection:
        """See QueueTarget."""
        if request.word is not None and request.queue is not None:
            raise UsageError(f"give {quoted(request.word)}, or --queue: not both")
        queue = checked_queue(request.word, "QUEUE") or request.queue
        from runner.targets.here.connection import LocalConnection

        return LocalConnection(request.settings(), queue, request.say)
