"""End machines in EC2: first the spot request, which would launch another, then the instance."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from runner.cli import fleet, options
from runner.errors import ExitCode

if TYPE_CHECKING:
    from runner.aws.ec2 import Ec2
    from runner.targets.ec2.machines import Owned


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets",
        nargs="+",
        metavar="TARGET",
        help="an instance id, or the id of the queue it was launched for (or a spot request's)",
    )
    fleet.add_regions(parser)
    fleet.add_yes(parser)
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.targets.ec2.ending import end_all
    from runner.targets.ec2.meant import find
    from runner.targets.ec2.regions import clients, parse_regions

    fleet.check_can_ask("terminate", yes=arguments.yes)
    targets = list(dict.fromkeys(arguments.targets))
    found, asked = find(clients(parse_regions(arguments.region)), targets)
    fleet.say_failed("terminate", asked.failed)
    alive = [(ec2, owned) for ec2, owned in found if owned.may_cost]
    _tell(alive, time.time())
    if alive and not fleet.agreed("Terminate?", yes=arguments.yes):
        print("nothing was ended")
        return ExitCode.ERROR
    ended = end_all(alive)
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
    trouble = asked.failed or any(done.error for done in ended)
    return ExitCode.ERROR if trouble else ExitCode.DONE


def _tell(alive: list[tuple[Ec2, Owned]], now: float) -> None:
    """What will be ended, and what is lost with it."""
    from runner.targets.ec2 import names
    from runner.targets.ec2.unsaved import stored_work

    for _, owned in alive:
        fleet.say("terminate", fleet.in_words(owned, now))
        if owned.machine is not None:
            work = stored_work(owned.tags.get(names.STORE))
            fleet.say("terminate", f"  {work.told(now)}")
