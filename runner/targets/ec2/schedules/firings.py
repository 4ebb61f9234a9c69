"""The last firings of a schedule, and what came of each: from EC2, the bucket and the dead letters.

``judge`` is pure; ``look`` asks, and blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from runner.aws.ec2 import Ec2, Machine
from runner.aws.errors import AwsError
from runner.model.recurrence.expressions import parse_expression
from runner.model.recurrence.firing_times import last_firings, zone_of
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.observe.boot_progress import BootReport, report_of
from runner.targets.ec2.observe.queue_standing import QueueStanding, StateOf
from runner.targets.ec2.schedules.dead_letters import DeadLetter, DeadLetters
from runner.targets.ec2.schedules.schedule_input import StoredSchedule
from runner.timestamps import parse_rfc3339, rfc3339_seconds

LATE = 300.0
"""Seconds beyond its retries in which a firing that nothing is known of may still come."""


@dataclass(frozen=True, slots=True)
class Firing:
    """``when``: RFC 3339. ``instance_id``: None where no machine came of it, or nobody knows.
    ``came``: whether one did; None where that can't be told yet. ``outcome``: for people."""

    when: str
    queue_id: str
    instance_id: str | None
    came: bool | None
    outcome: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one firing."""

    machine: Machine | None = None
    report: BootReport | None = None
    standing: QueueStanding | None = None
    letter: DeadLetter | None = None


def judge(when: str, queue_id: str, known: Evidence, retried: float, now: float) -> Firing:
    """``retried``: seconds for which the Scheduler tries. ``now``: seconds since the epoch."""
    machine, report = known.machine, known.report
    instance = machine.instance_id if machine else (report.instance_id if report else None)
    outcome = _outcome(known)
    if outcome:
        return Firing(when, queue_id, instance, True, outcome)
    if known.letter is not None:
        return Firing(when, queue_id, None, False, f"no machine: {known.letter.why}")
    if now - parse_rfc3339(when) < retried + LATE:
        return Firing(when, queue_id, None, None, "no machine yet; the Scheduler tries again")
    why = "no machine, and nothing tells why: the schedule may have been paused then"
    return Firing(when, queue_id, None, False, why)


def _outcome(known: Evidence) -> str:
    """What a machine came to; "" where there is no word of one."""
    machine, report, standing = known.machine, known.report, known.standing
    if report is not None and report.outcome == "over":
        return report.error or "there was nothing to do"
    if report is not None and report.outcome == "failed":
        return f"its boot failed: {' '.join((report.error or 'it does not say why').split())}"
    if standing is not None:
        cut = not standing.ended and machine is not None and machine.gone
        told = f"{standing.status}, and its machine is gone" if cut else standing.status
        return f"{told}: {standing.reason}" if standing.reason else told
    if machine is not None and machine.gone:
        return f"its machine ended before it began: {machine.why or 'EC2 does not say why'}"
    if machine is not None or report is not None:
        return "it boots"
    return ""


def look(stored: StoredSchedule, region: str, count: int, now: float) -> list[Firing]:
    """The last ``count`` firings, the newest first; also those by hand. Raises AwsError."""
    ec2, bucket = Ec2(region), LaunchBucket(stored.bucket, region)
    machines = _machines(ec2, stored)
    reports = _reported(bucket, stored)
    letters = _letters(stored, region)
    times = {*machines, *reports, *letters, *_due(stored, count, now)}
    found = []
    for when in sorted(times, reverse=True)[:count]:
        queue_id = stored.queue_id(when)
        known = Evidence(
            machines.get(when),
            _report(bucket, stored, when) if when in reports else None,
            StateOf(bucket, f"{stored.prefix}/{queue_id}").look(),
            letters.get(when),
        )
        found.append(judge(when, queue_id, known, stored.schedule.oldest, now))
    return found


def _due(stored: StoredSchedule, count: int, now: float) -> list[str]:
    schedule = stored.schedule
    try:
        expression, zone = parse_expression(schedule.expression), zone_of(schedule.timezone)
    except ValueError:
        return []  # somebody else has changed it to what only AWS understands
    if not schedule.created or schedule.expression.startswith("rate("):
        return []  # when exactly a rate fires isn't told before
    due = last_firings(expression, zone, now, count, schedule.created)
    return [rfc3339_seconds(each) for each in due]


def _machines(ec2: Ec2, stored: StoredSchedule) -> Mapping[str, Machine]:
    """By the time of their firing; EC2 forgets a machine about an hour after its end."""
    found = ec2.machines({names.LAUNCH: stored.launch, names.FIRING: None})
    return {machine.tags[names.FIRING]: machine for machine in found}


def _reported(bucket: LaunchBucket, stored: StoredSchedule) -> set[str]:
    """The firings whose machines have said anything."""
    place = names.launch_key(f"{stored.launch}-", "").rstrip("/")
    words = (key.split("/")[2] for key in bucket.keys(place) if key.endswith("bootstrap.json"))
    return {split[1] for word in words if (split := names.split_firing(word)) is not None}


def _report(bucket: LaunchBucket, stored: StoredSchedule, when: str) -> BootReport | None:
    key = names.launch_key(names.fired(stored.launch, when), "bootstrap.json")
    data = bucket.get(key, 64 * 1024)
    return report_of(data) if data is not None else None


def _letters(stored: StoredSchedule, region: str) -> dict[str, DeadLetter]:
    """By the firing's time; none where the queue can't be read."""
    try:
        letters = DeadLetters(region).read(stored.schedule.arn)
    except AwsError:
        return {}
    times = {_seconds(letter.when): letter for letter in letters}
    return {when: letter for when, letter in times.items() if when}


def _seconds(when: str) -> str:
    """As tags have it; "" for what is no time."""
    if not re.match(r"\d{4}-\d\d-\d\dT", when):
        return ""
    try:
        return rfc3339_seconds(parse_rfc3339(when))
    except ValueError:
        return ""
