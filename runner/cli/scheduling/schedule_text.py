"""What `runner schedule` says to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from runner.model.recurrence.expressions import Cron, Rate
from runner.model.recurrence.firing_times import zone_of
from runner.targets.ec2.schedules.schedule_creation import ScheduleRequest
from runner.timestamps import rfc3339_seconds

OVERLAPS = {
    "allow": "a firing runs beside one before it",
    "skip": "a firing ends at once while one before it runs",
}


def when_lines(when: Cron | Rate, zone: str, overlap: str, times: Sequence[float]) -> Iterator[str]:
    """When it fires, as lines of a plan."""
    yield f"{'When:':<15}{when.aws} in {zone}"
    for number, line in enumerate(time_lines(times, zone)):
        yield f"{'Next:' if number == 0 else '':<15}{line}"
    if not times:
        yield f"{'Next:':<15}never: there is no such time"
    yield f"{'Overlap:':<15}{overlap}: {OVERLAPS[overlap]}"


def time_lines(times: Sequence[float], zone: str) -> list[str]:
    """Each by the zone's clock, and in UTC."""
    place = zone_of(zone)
    return [
        f"{datetime.fromtimestamp(each, place):%a %Y-%m-%d %H:%M %Z} ({rfc3339_seconds(each)})"
        for each in times
    ]


def unchecked(asked: ScheduleRequest) -> list[str]:
    """What nobody can say before the day."""
    zone, image = asked.candidate.subnet.zone, asked.candidate.image
    what = f"{asked.candidate.type} {asked.candidate.market}"
    return [
        f"not checked before the day: whether {zone} has room for {what}, and your quota then; "
        "EventBridge Scheduler tries for an hour",
        f"not checked before the day: whether {image.image_id} is still there: it is today's "
        "image, at each firing; delete and create for a newer one",
        "not checked before the day: whether the Scheduler's role may launch it: `run-now` tries "
        "the rest with your own rights",
    ]
