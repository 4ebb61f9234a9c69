"""Terminate EC2 instances, and first their spot requests, which would launch others."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.cli import options
from runner.cli.show import machine_queues, machines
from runner.errors import ExitCode

if TYPE_CHECKING:
    from runner.targets.ec2.end.termination import EndedMachine
    from runner.targets.ec2.observe.machines import Owned


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets",
        nargs="+",
        metavar="TARGET",
        help="the id of an instance, of a queue on it, or of a spot request",
    )
    parser.add_argument(
        "--bucket",
        metavar="BUCKET",
        help="where the queue's results are: a bucket, or s3://BUCKET/PREFIX",
    )
    machine_queues.add_flag(parser)
    machines.add_regions(parser)
    machines.add_yes(parser)
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.targets.ec2.account.regions import clients, parse_regions
    from runner.targets.ec2.end.end_marker import Agreed
    from runner.targets.ec2.end.termination import end_all
    from runner.targets.ec2.launch.local_launches import Launches
    from runner.targets.ec2.observe.locate import place_of
    from runner.targets.ec2.observe.machine_queues import queues_of
    from runner.targets.ec2.observe.resolve_target import find, is_id

    machines.check_can_ask("terminate", yes=arguments.yes)
    targets = list(dict.fromkeys(arguments.targets))
    regions = clients(parse_regions(arguments.region))
    meant = find(regions, targets, place_of(arguments.bucket), Launches.of_user(os.environ))
    found, asked = meant.found, meant.asked
    for note in meant.notes:
        machines.say("terminate", note)
    machines.say_failed("terminate", asked.failed)
    alive = [(ec2, owned) for ec2, owned in found if owned.may_cost]
    now = time.time()
    queues = queues_of(alive, now)
    for one in queues:
        machines.say("terminate", machines.in_words(one.owned, now))
        for line in machine_queues.describe(one):
            machines.say("terminate", line)
    # Who names a machine means all that is on it.
    whole = [any(map(is_id, _words(one.owned, targets))) for one in queues]
    by_queue = [one for one, named in zip(queues, whole, strict=True) if not named]
    machine_queues.check(by_queue, meant.queues, others=arguments.end_others)
    if alive and not machines.agreed("Terminate?", yes=arguments.yes):
        print("nothing was ended")
        return ExitCode.ERROR
    agreed = [
        Agreed(named, meant.queues, arguments.end_others, one.lines)
        for one, named in zip(queues, whole, strict=True)
    ]
    ended = end_all([(*one, each) for one, each in zip(alive, agreed, strict=True)])
    machines.say_notes("terminate", ended)
    before = [owned for _, owned in found if not owned.may_cost]
    _report(arguments, ended, before, asked.failed)
    return machines.code_of(ended, asked.failed)


def _report(
    arguments: argparse.Namespace,
    ended: Sequence[EndedMachine],
    before: Sequence[Owned],
    failed: Sequence[tuple[str, str]],
) -> None:
    """What was ended, or had ended before, and which regions (``failed``) gave no answer."""
    if arguments.json:
        view = {
            "ended": [machines.outcome(done) for done in ended],
            "ended_before": [owned.id for owned in before],
            "failed": [{"region": region, "error": why} for region, why in failed],
        }
        print(json.dumps(view))
    else:
        for owned in before:
            print(f"{owned.id}: had ended before")
        for done in ended:
            print(machines.outcome_in_words(done))


def _words(owned: Owned, targets: Sequence[str]) -> list[str]:
    """The targets that name it."""
    ids = {owned.id, owned.request.request_id if owned.request is not None else None}
    return [target for target in targets if target in ids]
