"""What is done to a schedule that is there: pause, resume, run-now, delete."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.cli import options
from runner.cli.show.text import clean
from runner.errors import ExitCode, NotFoundError, UsageError
from runner.timestamps import rfc3339_seconds

if TYPE_CHECKING:
    from runner.targets.ec2.schedules.schedule_input import StoredSchedule


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """Which schedule."""
    parser.add_argument("name", metavar="NAME", help="the schedule")
    parser.add_argument(
        "--region", metavar="R", help="its region (default: that of your AWS settings)"
    )
    options.add_json(parser)


def found(arguments: argparse.Namespace) -> tuple[StoredSchedule, str]:
    """The schedule that is meant, and its region. Raises NotFoundError, RecordError, AwsError."""
    from runner.aws.clients import region_of
    from runner.aws.scheduler import Schedules
    from runner.model.messages import did_you_mean
    from runner.targets.ec2.schedules.schedule_input import stored_of

    region = region_of(arguments.region)
    schedules = Schedules(region)
    there = schedules.find(arguments.name)
    if there is None:
        hint = did_you_mean(arguments.name, schedules.names())
        raise NotFoundError(
            f"there is no schedule '{arguments.name}' in {region}{hint}\n`runner schedule ls` "
            "lists them; is it in another region (--region R) or account (AWS_PROFILE)?"
        )
    return stored_of(there), region


def set_enabled(arguments: argparse.Namespace, *, enabled: bool) -> int:
    """Pause it, or end a pause; twice is the same."""
    from runner.aws.scheduler import Schedules

    stored, region = found(arguments)
    changed = stored.schedule.enabled != enabled
    if changed:
        Schedules(region).update(replace(stored.schedule, enabled=enabled))
    if arguments.json:
        print(json.dumps({"name": stored.name, "enabled": enabled, "changed": changed}))
    else:
        state = "fires again from its next time on" if enabled else "is paused"
        print(f"schedule {stored.name} {state if changed else f'{state}, as before'}")
    return ExitCode.DONE


def run_now(arguments: argparse.Namespace) -> int:
    """One RunInstances as the Scheduler would send it, at this second's time."""
    from runner.aws.ec2 import Ec2
    from runner.targets.ec2.schedules.schedule_input import firing_of

    stored, region = found(arguments)
    when = rfc3339_seconds(time.time())
    machine = Ec2(region).run(**firing_of(stored.schedule.input, when))
    queue_id = stored.queue_id(when)
    if arguments.json:
        told = {"instance_id": machine.instance_id, "queue_id": queue_id, "region": region}
        print(json.dumps({**told, "store": stored.store(when), "firing": when}))
        return ExitCode.DONE
    print(f"{machine.instance_id} {machine.instance_type} in {machine.zone}: launched")
    if stored.overlap == "skip":
        print("it ends at once if a firing before it still runs (--overlap skip)")
    print(f"\nrunner-status {machine.instance_id}\nrunner results {queue_id}")
    return ExitCode.DONE


def delete(arguments: argparse.Namespace) -> int:
    """Pause, remove what it has shipped, and delete it last: a cut leaves what can be repeated."""
    from runner.aws.ec2 import ALIVE, Ec2
    from runner.aws.errors import AwsError
    from runner.aws.scheduler import Schedules
    from runner.targets.ec2 import names
    from runner.targets.ec2.bucket import LaunchBucket
    from runner.targets.ec2.schedules.dead_letters import DeadLetters

    stored, region = found(arguments)
    machines = Ec2(region).machines({names.LAUNCH: stored.launch, names.FIRING: None}, ALIVE)
    for machine in machines:
        queue_id = names.machine_tags(machine.tags)[names.QUEUE]
        _say(f"{machine.instance_id} ({queue_id}, {machine.state}) stays, and ends by itself")
    if not _agreed(stored.name, region, yes=arguments.yes):
        print("nothing was deleted")
        return ExitCode.ERROR
    schedules = Schedules(region)
    if stored.schedule.enabled:
        schedules.update(replace(stored.schedule, enabled=False))
    bucket = LaunchBucket(stored.bucket, region)
    keys = bucket.keys(names.schedule_key(stored.launch, ""))
    for key in keys:
        bucket.delete(key)
    try:
        letters = DeadLetters(region)
        letters.remove(letters.read(stored.schedule.arn))
    except AwsError as error:
        _say(f"its dead letters can't be removed, and go by themselves after 14 days: {error}")
    schedules.delete(stored.name)
    if arguments.json:
        told = {"name": stored.name, "objects": keys, "results": stored.parent}
        print(json.dumps({**told, "machines": [each.instance_id for each in machines]}))
        return ExitCode.DONE
    print(f"schedule {stored.name} in {region}: deleted, with {len(keys)} objects")
    print(f"results of its firings stay: {stored.parent}/{stored.name}-TIME")
    return ExitCode.DONE


def _agreed(name: str, region: str, *, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("stdin is no terminal, so nothing can be confirmed: add --yes")
    print(f"Delete schedule {name} in {region}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _say(line: str) -> None:
    print(f"runner schedule: {clean(line)}", file=sys.stderr)
