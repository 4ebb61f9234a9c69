"""`launch --wait`: looks at the bucket and at EC2 until the queue has ended. The machine needs
nobody who waits: whatever ends the waiting, the queue goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from runner.aws.ec2 import Ec2, Machine
from runner.aws.errors import AwsError, ErrorKind
from runner.cli.exit_codes import of_queue
from runner.cli.show.text import format_counts
from runner.errors import ExitCode
from runner.results.stores import parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.launch.local_launches import Launch
from runner.targets.ec2.observe.boot_progress import BootProgress, Boots, comes_before
from runner.targets.ec2.observe.queue_machines import RECENT
from runner.targets.ec2.observe.queue_standing import QueueStanding, StateOf

EVERY = 15.0
"""Seconds between two looks: a GET that mostly answers "not modified"."""

MACHINE_EVERY = 60.0

LAST_WORDS = 3
"""Looks at the bucket after the machine has gone: it stores its last state as it goes."""

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between looks."""

    every: float = EVERY
    machine: float = MACHINE_EVERY


def wait(launch: Launch, say: Say, pace: Pace | None = None) -> int:
    """Say what changes; the exit code is the queue's."""
    try:
        return _Waiting(launch, say, pace or Pace()).run()
    except KeyboardInterrupt:
        say(f"no longer waiting; the queue goes on: runner-status {launch.instance_id}")
        return ExitCode.CTRL_C
    except AwsError as error:
        if error.kind in (ErrorKind.EXPIRED, ErrorKind.NO_CREDENTIALS):
            say(f"your AWS credentials have expired here ({error}): no longer waiting")
        elif error.kind is ErrorKind.DENIED:
            say(f"this may not be looked at: {error}: no longer waiting")
        else:
            raise
        say(f"the machine goes on; log in, then: runner-status {launch.instance_id}")
        return ExitCode.UNREACHABLE


class _Waiting:
    def __init__(self, launch: Launch, say: Say, pace: Pace) -> None:
        name, prefix = parse_s3(launch.store)
        self._launch = launch
        self._say = say
        self._pace = pace
        self._bucket = LaunchBucket(name, launch.region)
        self._state = StateOf(self._bucket, prefix)
        self._ec2 = Ec2(launch.region)
        self._boots = Boots(launch.store, launch.region, launch.launch)
        self._begun = False
        self._unseen_until = time.monotonic() + RECENT
        self._said = ""

    def run(self) -> int:
        """Until the queue has ended, or its machine has."""
        next_machine, gone = time.monotonic() + self._pace.machine, 0
        while True:
            standing = self._passing(self._state.look)
            if (boot := self._boot(standing)) is not None:
                if boot.failed:
                    for line in boot.told.split("\n"):
                        self._say(line)
                    return ExitCode.ERROR
                self._tell(boot.told)
            elif standing is not None:
                self._tell(_line(standing))
                if standing.ended:
                    shown = {
                        "status": standing.status,
                        "results_incomplete": standing.incomplete,
                    }
                    return of_queue(shown)
            if gone >= LAST_WORDS:
                return ExitCode.INTERRUPTED
            if boot is None and (gone or time.monotonic() >= next_machine):
                next_machine = time.monotonic() + self._pace.machine
                gone += self._machine_gone(gone)
            time.sleep(self._pace.every)  # reason: S3 tells nobody

    def _boot(self, standing: QueueStanding | None) -> BootProgress | None:
        """How the boot goes that comes before the queue; None once the queue has begun."""
        if self._begun:
            return None
        found = self._passing(lambda: [self._ec2.machine(str(self._launch.instance_id))])
        if found is None:
            return None
        if (machine := found[0]) is None:
            if standing is None and time.monotonic() < self._unseen_until:
                return BootProgress(f"EC2 doesn't show {self._launch.instance_id} yet")
            return None
        if not comes_before(machine, standing.stored if standing is not None else None):
            self._begun = True
            return None
        return self._boots.look(machine)

    def _passing(self, look: Callable[[], T]) -> T | None:
        """What passes by itself is waited out."""
        try:
            return look()
        except AwsError as error:
            if error.kind is not ErrorKind.PASSING:
                raise
            self._tell(f"AWS doesn't answer ({error}): looking again")
            return None

    def _machine_gone(self, before: int) -> int:
        if before:
            return 1
        machine = self._passing(lambda: [self._ec2.machine(str(self._launch.instance_id))])
        if machine is None:
            return 0
        if machine[0] is None or machine[0].gone:
            self._say_gone(machine[0])
            return 1
        if machine[0].state != "running":
            self._tell(f"{machine[0].instance_id} is {machine[0].state}: {_stopped(machine[0])}")
        return 0

    def _say_gone(self, machine: Machine | None) -> None:
        why = f": {machine.why}" if machine is not None and machine.why else ""
        self._say(f"{self._launch.instance_id} has ended{why}")
        key = names.launch_key(self._launch.launch, "bootstrap.log")
        if self._passing(lambda: self._bucket.has(key)):
            self._say(f"what it did at its start: s3://{self._bucket.name}/{key}")

    def _tell(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._say(line)


def _line(standing: QueueStanding) -> str:
    jobs = f" ({format_counts(standing.jobs)})" if standing.jobs else ""
    reason = f": {standing.reason}" if standing.reason else ""
    return f"{standing.status}{jobs}{reason}"


def _stopped(machine: Machine) -> str:
    if machine.spot and machine.state in ("stopping", "stopped"):
        return "EC2 has taken the spot machine, and starts it again when it has room; waiting"
    return machine.why or "waiting"
