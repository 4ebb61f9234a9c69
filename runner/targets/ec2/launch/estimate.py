"""What a launch will cost and when it ends, as numbers for people and programs. Pure."""

from __future__ import annotations

from typing import Any

from runner.model.document import QueueSpec
from runner.model.durations import format_duration
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.plan import SPOT, Facts, InstanceCandidate, disk_of


def dollars(amount: float) -> str:
    """``$1.21``; below ten cents with four digits."""
    return f"${amount:,.2f}" if amount >= 0.1 else f"${amount:.4f}"


def price_words(facts: Facts, candidate: InstanceCandidate, queue: QueueSpec) -> str:
    """What an hour costs, and the whole of the queue's time."""
    if candidate.price is None:
        why = facts.unpriced.get((candidate.type, candidate.market), "no price was told")
        return f"not known: {why}"
    whole = candidate.price * queue.global_timeout / 3600
    hour = f"{dollars(candidate.price)} an hour"
    if candidate.market == SPOT:
        hour += f" in {candidate.subnet.zone} now"
    limit = format_duration(queue.global_timeout)
    return f"{hour}, {dollars(whole)} for {limit} (global_timeout); disk and traffic apart"


def plan_view(
    wanted: LaunchRequest, facts: Facts, tried: tuple[InstanceCandidate, ...], queue: QueueSpec
) -> dict[str, Any]:
    """The plan as data."""
    first = tried[0]
    return {
        "region": facts.region,
        "profile": facts.profile,
        "disk_gib": disk_of(wanted, first.image),
        "on_complete": wanted.on_complete,
        "max_lifetime_seconds": wanted.max_lifetime,
        "global_timeout_seconds": queue.global_timeout,
        "candidates": [
            {
                "type": each.type,
                "market": each.market,
                "zone": each.subnet.zone,
                "subnet": each.subnet.subnet_id,
                "image": each.image.image_id,
                "image_name": each.image.name,
                "price_per_hour": each.price,
            }
            for each in tried
        ],
    }
