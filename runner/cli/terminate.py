"""End machines in EC2: first the spot request, which would launch another, then the instance."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.cli import ends_with, fleet, options
from runner.errors import ExitCode

if TYPE_CHECKING:
    from runner.targets.ec2.machines import Owned


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets",
        nargs="+",
        metavar="TARGET",
        help="an instance id, or the id of a queue that it has (or a spot request's)",
    )
    parser.add_argument(
        "--bucket",
        metavar="BUCKET",
        help="where the queue's results are: a bucket, or s3://BUCKET/PREFIX",
    )
    ends_with.add_flag(parser)
    fleet.add_regions(parser)
    fleet.add_yes(parser)
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.targets.ec2.end_marker import Agreed
    from runner.targets.ec2.ending import end_all
    from runner.targets.ec2.launches import Launches
    from runner.targets.ec2.machine_queues import queues_of
    from runner.targets.ec2.meant import find, is_id
    from runner.targets.ec2.queue_traces import place_of
    from runner.targets.ec2.regions import clients, parse_regions

    fleet.check_can_ask("terminate", yes=arguments.yes)
    targets = list(dict.fromkeys(arguments.targets))
    regions = clients(parse_regions(arguments.region))
    meant = find(regions, targets, place_of(arguments.bucket), Launches.of_user(os.environ))
    found, asked = meant.found, meant.asked
    for note in meant.notes:
        fleet.say("terminate", note)
    fleet.say_failed("terminate", asked.failed)
    alive = [(ec2, owned) for ec2, owned in found if owned.may_cost]
    now = time.time()
    queues = queues_of(alive, now)
    for one in queues:
        fleet.say("terminate", fleet.in_words(one.owned, now))
        for line in ends_with.told(one):
            fleet.say("terminate", line)
    # Who names a machine means all that is on it.
    whole = [any(map(is_id, _words(one.owned, targets))) for one in queues]
    by_queue = [one for one, named in zip(queues, whole, strict=True) if not named]
    ends_with.check(by_queue, meant.queues, others=arguments.end_others)
    if alive and not fleet.agreed("Terminate?", yes=arguments.yes):
        print("nothing was ended")
        return ExitCode.ERROR
    agreed = [
        Agreed(named, meant.queues, arguments.end_others, one.lines)
        for one, named in zip(queues, whole, strict=True)
    ]
    ended = end_all([(*one, each) for one, each in zip(alive, agreed, strict=True)])
    fleet.say_notes("terminate", ended)
    before = [owned for _, owned in found if not owned.may_cost]
    if arguments.json:
        view = {
            "ended": [fleet.outcome(done) for done in ended],
            "ended_before": [owned.id for owned in before],
            "failed": [{"region": region, "error": why} for region, why in asked.failed],
        }
        print(json.dumps(view))
    else:
        for owned in before:
            print(f"{owned.id}: had ended before")
        for done in ended:
            print(fleet.outcome_in_words(done))
    return fleet.code_of(ended, asked.failed)


def _words(owned: Owned, targets: Sequence[str]) -> list[str]:
    """The targets that name it."""
    ids = {owned.id, owned.request.request_id if owned.request is not None else None}
    return [target for target in targets if target in ids]
