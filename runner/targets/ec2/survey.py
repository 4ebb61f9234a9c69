"""All that is asked of AWS before a launch, at once; what is wrong comes together.

Touches nothing but one small object, which it removes. Owns the threads, and the joining of facts.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from runner.aws.ec2 import Ec2
from runner.aws.faults import AwsError, Kind
from runner.errors import RunnerError, UsageError
from runner.targets.ec2 import prices, stock
from runner.targets.ec2.bucket import Bucket
from runner.targets.ec2.plan import ON_DEMAND, SPOT, Facts, Subnet, TypeFacts, disagreements
from runner.targets.ec2.profile import profile
from runner.targets.ec2.wish import Wish


@dataclass(slots=True)
class Surveyed:
    """The facts, and what is worth a word though it stops nothing."""

    facts: Facts
    notes: list[str] = field(default_factory=list)


def survey(wish: Wish, ec2: Ec2, bucket: Bucket) -> Surveyed:
    """Ask. Raises UsageError with a line for each thing that is wrong, AwsError."""
    asking = _Asking()
    try:
        return _survey(asking, wish, ec2, bucket)
    finally:
        # What still runs after a Ctrl-C is not waited for.
        asking.threads.shutdown(wait=False, cancel_futures=True)


def _survey(asking: _Asking, wish: Wish, ec2: Ec2, bucket: Bucket) -> Surveyed:
    region = ec2.client.meta.region_name  # the client is made here, and not by five threads
    kinds = asking.ask(stock.types, ec2, wish.types)
    zones = asking.ask(stock.zones, ec2, wish.types)
    subnets = asking.ask(stock.subnets, ec2, wish.subnets)
    groups = asking.ask(stock.groups, ec2, wish.groups)
    key = asking.ask(stock.key_pair, ec2, wish.key_name)
    role = asking.ask(profile, wish.role)
    where = asking.ask(bucket.check)
    spot = asking.ask(prices.spot, ec2, wish.types if wish.spot else ())
    fixed = asking.ask(prices.on_demand, region, wish.types)
    found: dict[str, TypeFacts] = asking.got(kinds, {})
    images = asking.ask(stock.images, ec2, wish.image, found.values())
    name, notes = asking.got(role, ("", []))
    facts = Facts(
        region=ec2.region,
        types=found,
        zones=asking.got(zones, {}),
        subnets=asking.got(subnets, []),
        images=asking.got(images, {}),
        profile=name,
        **_priced(wish, asking.got(fixed, ({}, {})), asking.got(spot, ({}, ""))),
    )
    asking.got(where, None)
    asking.got(key, None)
    asking.lines += _of_groups(asking.got(groups, {}), facts.subnets)
    if not asking.failed:
        asking.lines += disagreements(wish, facts)
    asking.finish()
    if bucket.region != region:
        notes.append(
            f"s3://{bucket.name} is in {bucket.region}, the machine in {region}: "
            "each GB between them costs, and takes longer"
        )
    return Surveyed(facts, notes)


def _of_groups(groups: dict[str, str], subnets: Any) -> list[str]:
    vpcs = {subnet.vpc for subnet in subnets if isinstance(subnet, Subnet)}
    return [
        f"--security-group: {group} is in {vpc}, the subnets are in {', '.join(sorted(vpcs))}"
        for group, vpc in groups.items()
        if vpcs and vpc not in vpcs
    ]


def _priced(
    wish: Wish,
    fixed: tuple[dict[str, float], dict[str, str]],
    spot: tuple[dict[tuple[str, str], float], str],
) -> dict[str, Any]:
    known = {(name, ON_DEMAND, ""): price for name, price in fixed[0].items()}
    known |= {(name, SPOT, zone): price for (name, zone), price in spot[0].items()}
    reasons = {(name, ON_DEMAND): why for name, why in fixed[1].items()}
    reasons |= {(name, SPOT): spot[1] for name in wish.types}
    return {"prices": known, "unpriced": reasons}


class _Asking:
    """Questions under way; their faults are gathered, the answers handed out."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(10, thread_name_prefix="survey")
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
            if error.kind in (Kind.NO_CREDENTIALS, Kind.EXPIRED):
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
