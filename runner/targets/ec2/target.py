"""When a request means a machine on EC2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.targets.ec2.names import is_instance
from runner.targets.request import TargetRequest

if TYPE_CHECKING:
    from runner.targets.ec2.connection import Ec2Connection


class Ec2Target:
    """A machine on EC2: meant by ``--on``, by an instance's id, and by flags about EC2."""

    name = "EC2"

    def matches(self, request: TargetRequest) -> bool:
        """See QueueTarget."""
        flags = (request.on, request.region, request.bucket)
        by_flag = any(flag is not None for flag in flags)
        return by_flag or (request.word is not None and is_instance(request.word))

    def may_have(self, request: TargetRequest) -> bool:
        """See QueueTarget: who names a folder of this machine means this machine."""
        return request.state_dir is None and request.log_dir is None

    def connect(self, request: TargetRequest) -> Ec2Connection:
        """See QueueTarget."""
        word = request.on if request.on is not None else request.word
        if word is None:
            flag = "region" if request.region is not None else "bucket"
            raise UsageError(f"--{flag} is about a machine on EC2: say which, with --on")
        for flag, value in (("state-dir", request.state_dir), ("log-dir", request.log_dir)):
            if value is not None:
                raise UsageError(f"--{flag} is about this machine: not with one on EC2")
        from runner.targets.ec2.connection import Ec2Connection
        from runner.targets.ec2.observe.machine_lookup import Target

        target = Target(word, region=request.region, bucket=request.bucket)
        return Ec2Connection(target, request.queue, request.say)
