"""Waiting through a machine's boot, and past its end to the machine that replaces it.

Owns the line that tells about the boot, and the search for the replacement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from runner.aws.errors import AwsError
from runner.targets import stored_status
from runner.targets.ec2 import names
from runner.targets.ec2.launch_record import LaunchRecord
from runner.targets.ec2.observe import machine_lookup
from runner.targets.ec2.observe.boot_progress import BootProgress, Boots, comes_before
from runner.targets.ec2.observe.machine_lookup import ResolvedTarget

if TYPE_CHECKING:
    from runner.targets.ec2.connection import Ec2Connection
    from runner.targets.stored_status import Seen

Answer = dict[str, Any]


class ThroughBoot:
    """Of one connection. ``say`` is told how the boot goes; None if the caller doesn't wait."""

    def __init__(self, there: Ec2Connection) -> None:
        self.say: Callable[[str], None] | None = None
        self._there = there
        self._boots: Boots | None = None
        self._said = ""

    def find(self, record: LaunchRecord | None) -> ResolvedTarget:
        """The target's machine; during a wait the one that has replaced it. See machine_lookup."""
        target = self._there.target
        if self.say is None:
            return machine_lookup.find(target, record)
        # This computer may have launched another meanwhile.
        found = machine_lookup.find(target, machine_lookup.remembered(target) or record)
        try:
            then = machine_lookup.successor(found)
        except AwsError:
            return found  # asked again the next time
        if then is None:
            return found
        before = self._there.last_found
        if before is None or before.instance_id != then.instance_id:
            told = f"{found.instance_id} has ended; {then.instance_id} goes on with the queue"
            self._there.say(told)
        return then

    def boot(self, seen: Seen | None) -> BootProgress | None:
        """How the boot goes that the queue waits for; None where it waits for none.

        ``seen``: what S3 has of the queue.
        """
        found = self._there.last_found
        if found is None or not found.launch or not found.store:
            return None
        if (machine := found.machine) is None:
            told = f"EC2 doesn't show {found.instance_id or 'the machine'} yet"
            return BootProgress(told) if seen is None and found.unseen(time.time()) else None
        tags = names.machine_tags(machine.tags)
        first = tags.get(names.QUEUE) == self._there.queue_id
        if not first or not comes_before(machine, seen.stored if seen is not None else None):
            return None
        if self._boots is None or self._boots.launch != found.launch:
            self._boots = Boots(found.store, found.region, found.launch)
        return self._boots.look(machine)

    def waits(self) -> bool:
        """Whether the caller waits for a boot that goes on, of a queue that isn't known yet."""
        return self.say is not None and self.boot(None) is not None

    def answer(self, request: str, fields: Mapping[str, Any], seen: Seen | None) -> Answer | None:
        """The answer during a wait through the boot; None where there is none to wait for.

        Raises LaunchFailedError.
        """
        if self.say is None or request not in ("status", "logs"):
            return None
        if (boot := self.boot(seen)) is None:
            return None
        if boot.check().told != self._said:
            self._said = boot.told
            self.say(boot.told)
        there = self._there
        answer = stored_status.nothing_yet(request, there.queue_id or "", fields, seen)
        if request == "logs":
            return answer
        if seen is not None:
            answer = stored_status.page(seen, fields)
        source: Answer = {"from": "ec2", "age_seconds": 0, "at": None}
        told = {"source": source, "instance": there.facts(), "worker": boot.told}
        answer["queue"] |= {**told, "reason": boot.told}
        there.last = {"queue": answer["queue"]}
        return answer
