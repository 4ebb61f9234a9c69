"""All that is asked of AWS before a launch, at once; what is wrong comes together.

Touches nothing but one small object, which it removes. Owns the threads, and the joining of facts.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError, ErrorKind
from runner.errors import RunnerError, UsageError
from runner.targets.ec2.account import prices
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.launch import offerings
from runner.targets.ec2.launch.instance_profile import profile
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.plan import ON_DEMAND, SPOT, Facts, Subnet, TypeFacts, disagreements


@dataclass(slots=True)
class PreflightFacts:
    """The facts, and what is worth a word though it stops nothing."""

    facts: Facts
    notes: list[str] = field(default_factory=list)


def run_preflight(wanted: LaunchRequest, ec2: Ec2, bucket: LaunchBucket) -> PreflightFacts:
    """Ask. Raises UsageError with a line for each thing that is wrong, AwsError."""
    asking = _Asking()
    try:
        return _ask_all(asking, wanted, ec2, bucket)
    finally:
        # What still runs after a Ctrl-C is not waited for.
        asking.threads.shutdown(wait=False, cancel_futures=True)


def _ask_all(
    asking: _Asking, wanted: LaunchRequest, ec2: Ec2, bucket: LaunchBucket
) -> PreflightFacts:
    region = ec2.client.meta.region_name  # the client is made here, and not by five threads
    kinds = asking.ask(offerings.types, ec2, wanted.types)
    zones = asking.ask(offerings.zones, ec2, wanted.types)
    subnets = asking.ask(offerings.subnets, ec2, wanted.subnets)
    groups = asking.ask(offerings.groups, ec2, wanted.groups)
    key = asking.ask(offerings.key_pair, ec2, wanted.key_name)
    role = asking.ask(profile, wanted.role)
    where = asking.ask(bucket.check)
    spot = asking.ask(prices.spot, ec2, wanted.types if wanted.spot else ())
    fixed = asking.ask(prices.on_demand, region, wanted.types)
    found: dict[str, TypeFacts] = asking.got(kinds, {})
    images = asking.ask(offerings.images, ec2, wanted.image, found.values())
    name, notes = asking.got(role, ("", []))
    facts = Facts(
        region=ec2.region,
        types=found,
        zones=asking.got(zones, {}),
        subnets=asking.got(subnets, []),
        images=asking.got(images, {}),
        profile=name,
        **_priced(wanted, asking.got(fixed, ({}, {})), asking.got(spot, ({}, ""))),
    )
    asking.got(where, None)
    asking.got(key, None)
    asking.lines += _of_groups(asking.got(groups, {}), facts.subnets)
    if not asking.failed:
        asking.lines += disagreements(wanted, facts)
    asking.finish()
    if bucket.region != region:
        notes.append(
            f"s3://{bucket.name} is in {bucket.region}, the machine in {region}: "
            "each GB between them costs, and takes longer"
        )
    return PreflightFacts(facts, notes)


def _of_groups(groups: dict[str, str], subnets: Any) -> list[str]:
    vpcs = {subnet.vpc for subnet in subnets if isinstance(subnet, Subnet)}
    return [
        f"--security-group: {group} is in {vpc}, the subnets are in {', '.join(sorted(vpcs))}"
        for group, vpc in groups.items()
        if vpcs and vpc not in vpcs
    ]


def _priced(
    wanted: LaunchRequest,
    fixed: tuple[dict[str, float], dict[str, str]],
    spot: tuple[dict[tuple[str, str], float], str],
) -> dict[str, Any]:
    known = {(name, ON_DEMAND, ""): price for name, price in fixed[0].items()}
    known |= {(name, SPOT, zone): price for (name, zone), price in spot[0].items()}
    reasons = {(name, ON_DEMAND): why for name, why in fixed[1].items()}
    reasons |= {(name, SPOT): spot[1] for name in wanted.types}
    return {"prices": known, "unpriced": reasons}


class _Asking:
    """Questions under way; their faults are gathered, the answers handed out."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(10, thread_name_prefix="preflight")
        self.lines: list[str] = []
        self.failed = False
        self._stopped: RunnerError | None = None

    def ask(self, what: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self.threads.submit(what, *arguments)

    def got(self, future: Future[Any], otherwise: Any) -> Any:
        """The answer; where there is none ``otherwise``, and its fault is noted once."""
        try:
            return future.result()
        except UsageError as error:
            self._note(str(error).split("\n"))
        except AwsError as error:
            if error.kind in (ErrorKind.NO_CREDENTIALS, ErrorKind.EXPIRED):
                self._stopped = error
            self._note([_told(error)])
        return otherwise

    def _note(self, lines: list[str]) -> None:
        self.failed = True
        self.lines += [line for line in lines if line not in self.lines]

    def finish(self) -> None:
        """Raise what was found."""
        if self._stopped is not None:
            raise self._stopped
        if self.lines:
            raise UsageError("\n".join(self.lines))


def _told(error: AwsError) -> str:
    text = str(error)
    at = text.find("Encoded authorization failure message")
    return text[:at].rstrip(" .") if at > 0 else text
