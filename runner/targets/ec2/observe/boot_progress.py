"""How a new machine's boot goes: by what it stores of it, and until then by EC2's word.

A launch is over when its queue has stored a state: nobody who waits for the queue is sent away
before. Whether a state is this machine's is told by AWS's own clocks: S3's of when it was stored,
EC2's of when the machine began.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from runner.aws.ec2 import Ec2, Machine
from runner.aws.errors import AwsError, ErrorKind
from runner.errors import ExitCode, RecordError, RunnerError
from runner.model.records import parse
from runner.results.stores import parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket

AT_MOST = 2400.0
"""Seconds that a boot may take: half an hour for the bootstrap (user_data.PATIENCE), and EC2's own
part. What has stored nothing until then is told as it stands, and waited for no longer."""

_REPORT = 64 * 1024

_LONGEST = 600
"""Characters of what a boot says of its failure."""

_SECOND = 1.0
"""What EC2 and S3 leave out of their times."""


class LaunchFailedError(RunnerError):
    """The machine was launched and couldn't begin its queue. Ends a command as a launch that fails
    does."""

    exit_code = ExitCode.ERROR


@dataclass(frozen=True, slots=True)
class _Phase:
    phase: str


@dataclass(frozen=True, slots=True)
class BootReport:
    """``bootstrap.json``. ``outcome``: booting, ready, failed, over (there is no work for it)."""

    outcome: str
    error: str | None = None
    instance_id: str | None = None
    phases: tuple[_Phase, ...] = ()

    @property
    def phase(self) -> str:
        """The last one that is over; "" for none."""
        return self.phases[-1].phase if self.phases else ""


def report_of(data: bytes) -> BootReport | None:
    """What a machine has stored of its boot; None for what no machine has."""
    try:
        return parse(BootReport, data, "bootstrap.json")
    except RecordError:
        return None


@dataclass(frozen=True, slots=True)
class BootProgress:
    """One look at it. ``told``: for people; ``failed``: nothing more comes of it."""

    told: str
    failed: bool = False

    def check(self) -> BootProgress:
        """The same. Raises LaunchFailedError if it has failed."""
        if self.failed:
            raise LaunchFailedError(self.told)
        return self


def comes_before(machine: Machine, stored: float | None) -> bool:
    """Whether the state that was ``stored`` (seconds since the epoch, by S3; None: there is none)
    is no word of this machine's: a run before it has left it."""
    return stored is None or stored + _SECOND < machine.began


class Boots:
    """The boot of one launch's machine, looked at again and again."""

    def __init__(self, store: str, region: str, launch: str) -> None:
        self._bucket = LaunchBucket(parse_s3(store)[0], region)
        self.launch = launch
        self._last: BootProgress | None = None
        self._etag = ""
        self._report: BootReport | None = None

    def look(self, machine: Machine) -> BootProgress | None:
        """How it stands; None once the queue's state is all there is to wait for."""
        try:
            report = self._read()
        except AwsError as error:
            return self._last or BootProgress(
                f"how {machine.instance_id} boots can't be seen: {error}"
            )
        self._last = self._judged(machine, report)
        return self._last

    def _judged(self, machine: Machine, report: BootReport | None) -> BootProgress | None:
        if report is not None and report.instance_id not in (None, machine.instance_id):
            report = None  # of a machine before, by the same spot request
        name = machine.instance_id
        if report is not None and report.outcome == "failed":
            told = f"the boot of {name} has failed: {_why(report)}{self._log()}"
            ends = f"\nit ends by itself, and now by: runner terminate {name}"
            return BootProgress(told + ("" if machine.gone else ends), failed=True)
        if machine.gone:
            told = f"{name} has ended before it began the queue{_says(machine)}"
            return BootProgress(told + self._log(), failed=True)
        if report is not None and report.outcome == "over":
            return None
        up = max(0.0, time.time() - machine.launched)
        if up > AT_MOST:
            return None
        return BootProgress(self._told(machine, report))

    def _told(self, machine: Machine, report: BootReport | None) -> str:
        name = machine.instance_id
        if machine.state != "running":
            return f"{name} is {machine.state}{_says(machine)}"
        if report is not None and report.outcome == "ready":
            return f"{name} has booted: the queue's state isn't stored yet"
        if report is not None and report.phase:
            return f"{name} is booting: {report.phase} done"
        checks = _checks(Ec2(machine.region), name)
        return f"{name} is booting: nothing heard of it yet{checks}"

    def _log(self) -> str:
        key = names.launch_key(self.launch, "bootstrap.log")
        return f"\nits log: aws s3 cp s3://{self._bucket.name}/{key} -"

    def _read(self) -> BootReport | None:
        key = names.launch_key(self.launch, "bootstrap.json")
        try:
            data, self._etag = self._bucket.head_of(key, _REPORT, self._etag)
        except AwsError as error:
            if error.code in ("304", "NotModified"):
                return self._report
            if error.kind in (ErrorKind.MISSING, ErrorKind.DENIED):
                return None
            raise
        self._report = report_of(data)
        return self._report


def _says(machine: Machine) -> str:
    return f': EC2 says "{machine.why}"' if machine.why else ""


def _why(report: BootReport) -> str:
    """In one line: it may be the end of a program's output."""
    why = " ".join((report.error or "it does not say why").split())
    after = f" (after: {report.phase})" if report.phase else ""
    return (why if len(why) <= _LONGEST else f"{why[:_LONGEST]} …") + after


def _checks(ec2: Ec2, name: str) -> str:
    """EC2's own view of a running machine; "" where it has none, or doesn't say."""
    try:
        found = ec2.checks(name)
    except AwsError:
        return ""
    return f" (EC2's status checks: {found})" if found else ""
