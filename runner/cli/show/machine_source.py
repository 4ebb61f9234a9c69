"""Where a status comes from, and on which machine: lines above and below the queue's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.cli.show.job_rows import duration
from runner.cli.show.text import clean, counted, per_hour
from runner.timestamps import parse_rfc3339


def source_told(queue: Mapping[str, Any]) -> str:
    """``from S3, 12 s old``."""
    source = queue["source"]
    if source["from"] == "ssm":
        return "from the machine, now"
    if source["from"] == "ec2":
        return "from EC2 and what the boot has stored, now"
    return f"from S3, {_age(source['age_seconds'])} old"


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else duration(round(seconds))


def head(queue: Mapping[str, Any]) -> Iterator[str]:
    """Lines above the queue's own."""
    instance = queue.get("instance", {})
    if "instance_id" in instance:
        market = "spot" if instance.get("spot") else "on demand"
        about = ", ".join(
            clean(str(instance[name])) for name in ("instance_type", "zone") if instance.get(name)
        )
        more = f" ({about}, {market})" if about else f" (in {clean(str(instance['region']))})"
        state = f", {clean(instance['state'])}" if "state" in instance else ""
        yield f"Instance:    {instance['instance_id']}{more}{state}"


def foot(queue: Mapping[str, Any]) -> Iterator[str]:
    """Lines below the queue's own, above its jobs."""
    counts = queue["counts"]
    ended = sum(counts.get(name, 0) for name in ("completed", "failed", "cancelled", "skipped"))
    total = queue["jobs_total"]
    if total:
        share = f"{100 * ended // total} %"
        yield f"Progress:    {ended:,} of {counted(total, 'job')} have ended ({share})"
    if (elapsed := _elapsed(queue)) is not None:
        yield f"Elapsed:     {duration(elapsed)}"
    if "instance" in queue and "state" in queue["instance"]:
        yield f"Cost so far: {_cost(queue['instance'])}"
    why = queue["source"].get("why")
    yield f"Seen:        {source_told(queue)}" + (f": {clean(why)}" if why else "")
    for line in queue["source"].get("next", ()):
        yield f"             - {clean(line)}"


def _elapsed(queue: Mapping[str, Any]) -> float | None:
    """Seconds since the queue's start, by the machine's clock; of one that rests, until it did."""
    attended = queue.get("worker") or queue.get("queued")
    until = queue.get("completed_at") or (
        queue["source"].get("at") if attended else queue.get("updated_at")
    )
    try:
        begin, end = parse_rfc3339(str(queue["started_at"])), parse_rfc3339(str(until))
    except (KeyError, ValueError):
        return None
    return max(0.0, end - begin)


def _cost(instance: Mapping[str, Any]) -> str:
    hours, price = instance.get("hours"), instance.get("price_per_hour")
    if price is None:
        return "unknown: the launch didn't know its price"
    if hours is None:
        return f"unknown: EC2 doesn't tell how long it ran, at {per_hour(price)}"
    since = " since its last start" if instance.get("cost_since_restart") else ""
    ran = duration(round(hours * 3600))
    return f"about ${instance['cost']:.2f} ({ran}{since} at {per_hour(price)}), without its disk"
