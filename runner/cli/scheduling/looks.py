"""`schedule ls` and `schedule show`: schedules as they stand, and what came of their firings."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from runner.aws.clients import region_of
from runner.aws.errors import AwsError
from runner.aws.scheduler import Schedules
from runner.cli.scheduling import schedule_text
from runner.cli.scheduling.changes import found
from runner.cli.show.columns import Column, Cut, table
from runner.cli.show.terminal import screen_of
from runner.cli.show.text import clean
from runner.errors import ExitCode, RecordError, UsageError
from runner.model.durations import format_duration
from runner.model.recurrence.expressions import parse_expression
from runner.model.recurrence.firing_times import next_firings, zone_of
from runner.targets.ec2.schedules.firings import Firing, look
from runner.targets.ec2.schedules.schedule_input import NOTICES, StoredSchedule, stored_of
from runner.timestamps import rfc3339_seconds

_SCHEDULES = (
    Column("NAME", Cut.MIDDLE, soft=24, least=8),
    Column("STATE"),
    Column("WHEN", Cut.WRAP, soft=28, least=14),
    Column("ZONE", leave_out=1),
    Column("NEXT"),
)
_FIRINGS = (
    Column("FIRED"),
    Column("QUEUE", Cut.MIDDLE, soft=36, least=10),
    Column("MACHINE"),
    Column("WHAT CAME OF IT", Cut.WRAP, soft=30, least=16),
)
_SHOWN = 10
"""Firings that `show` shows."""


def list_schedules(arguments: argparse.Namespace) -> int:
    """All of a region."""
    if not 0 <= arguments.count <= 100:
        raise UsageError("-n: is a number of firings from 0 to 100")
    region = region_of(arguments.region)
    now = time.time()
    schedules = Schedules(region)
    views: list[dict[str, Any]] = []
    told: list[tuple[StoredSchedule, list[Firing]]] = []
    for name in schedules.names():
        if name.startswith(NOTICES) or (schedule := schedules.find(name)) is None:
            continue
        try:
            stored = stored_of(schedule)
        except RecordError as error:
            _say("ls", str(error))
            continue
        firings = _fired(stored, region, arguments.count, now, "ls")
        told.append((stored, firings))
        views.append(_view(stored, region, firings, now))
    if arguments.json:
        print(json.dumps({"region": region, "schedules": views}))
        return ExitCode.DONE
    if not told:
        print(f"there are no schedules in {region}")
        return ExitCode.DONE
    screen = screen_of(sys.stdout)
    width = screen.columns if screen else None
    print("\n".join(table(_SCHEDULES, [_row(stored, now) for stored, _ in told], width)))
    rows = [_firing_row(firing) for _, firings in told for firing in firings]
    if rows:
        print("\n" + "\n".join(table(_FIRINGS, rows, width)))
    return ExitCode.DONE


def show(arguments: argparse.Namespace) -> int:
    """One of them."""
    stored, region = found(arguments)
    now = time.time()
    firings = _fired(stored, region, _SHOWN, now, "show")
    if arguments.json:
        print(json.dumps(_view(stored, region, firings, now)))
        return ExitCode.DONE
    schedule = stored.schedule
    market = "spot" if stored.spot else "on-demand"
    following = schedule_text.time_lines(_next(stored, now), schedule.timezone)
    lines = [
        ("Schedule", f"{stored.name} in {region}, {_state(stored)}"),
        ("When", f"{schedule.expression} in {schedule.timezone}"),
        *(("" if number else "Next", line) for number, line in enumerate(following)),
        ("Overlap", f"{stored.overlap}: {schedule_text.OVERLAPS.get(stored.overlap, '')}"),
        ("Machine", f"{stored.instance_type} {market}, {stored.image}, {stored.subnet}"),
        ("Price", f"${stored.price} an hour" if stored.price else "not known"),
        ("At the latest", _lifetime(stored)),
        ("Retries", f"{schedule.retries} within {format_duration(schedule.oldest)}"),
        ("Results", f"{stored.parent}/{stored.name}-TIME"),
        ("User data", f"{stored.user_data:,} bytes"),
    ]  # fmt: skip
    for head, line in lines:
        print(clean(f"{head + ':' if head else '':<15}{line}"))
    if firings:
        screen = screen_of(sys.stdout)
        rows = [_firing_row(firing) for firing in firings]
        print("\n" + "\n".join(table(_FIRINGS, rows, screen.columns if screen else None)))
    return ExitCode.DONE


def _fired(stored: StoredSchedule, region: str, count: int, now: float, verb: str) -> list[Firing]:
    """Empty where they can't be looked at, which is told."""
    try:
        return look(stored, region, count, now) if count else []
    except AwsError as error:
        _say(verb, f"what came of {stored.name} can't be seen: {error}")
        return []


def _next(stored: StoredSchedule, now: float) -> list[float]:
    """None where only AWS understands the expression, or the schedule is paused."""
    schedule = stored.schedule
    if not schedule.enabled:
        return []
    try:
        when, zone = parse_expression(schedule.expression), zone_of(schedule.timezone)
    except ValueError:
        return []
    return next_firings(when, zone, now, 5, schedule.created)


def _state(stored: StoredSchedule) -> str:
    return "active" if stored.schedule.enabled else "paused"


def _lifetime(stored: StoredSchedule) -> str:
    if stored.lifetime is None:
        return "not known"
    return f"{format_duration(stored.lifetime)} after a machine's first boot"


def _row(stored: StoredSchedule, now: float) -> tuple[str, ...]:
    following = _next(stored, now)
    schedule = stored.schedule
    return (
        stored.name,
        _state(stored),
        schedule.expression,
        schedule.timezone,
        rfc3339_seconds(following[0]) if following else "-",
    )


def _firing_row(firing: Firing) -> tuple[str, ...]:
    return firing.when, firing.queue_id, firing.instance_id or "-", firing.outcome


def _view(stored: StoredSchedule, region: str, firings: list[Firing], now: float) -> dict[str, Any]:
    schedule = stored.schedule
    return {
        "name": stored.name,
        "region": region,
        "enabled": schedule.enabled,
        "expression": schedule.expression,
        "timezone": schedule.timezone,
        "overlap": stored.overlap,
        "next": [rfc3339_seconds(each) for each in _next(stored, now)],
        "instance_type": stored.instance_type,
        "market": "spot" if stored.spot else "on-demand",
        "image": stored.image,
        "lifetime_seconds": stored.lifetime,
        "store": stored.parent,
        "launch": stored.launch,
        "user_data_bytes": stored.user_data,
        "firings": [
            {
                "when": firing.when,
                "queue_id": firing.queue_id,
                "store": stored.store(firing.when),
                "instance_id": firing.instance_id,
                "machine_came": firing.came,
                "outcome": firing.outcome,
            }
            for firing in firings
        ],
    }


def _say(verb: str, line: str) -> None:
    print(f"runner schedule {verb}: {clean(line)}", file=sys.stderr)
