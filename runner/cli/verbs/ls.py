"""List EC2 instances, what they have cost, and when they end, from EC2's own records; or queues on
AWS Batch."""

from __future__ import annotations

import argparse
import json
import sys
import time

from runner.cli import options
from runner.cli.show import machines
from runner.cli.show.terminal import screen_of
from runner.errors import ExitCode


def configure(parser: argparse.ArgumentParser) -> None:
    machines.add_regions(parser)
    options.add_batch_queues(parser)
    parser.add_argument("--all", action="store_true", help="also instances that ended lately")
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    options.check_batch_or_not(arguments)
    if arguments.target is not None:
        from runner.cli.show.batch_queues import list_queues

        return list_queues(arguments)
    from runner.targets.ec2.account.regions import ask, clients, parse_regions
    from runner.targets.ec2.observe.disk_cost import kept
    from runner.targets.ec2.observe.machine_queues import put_onto
    from runner.targets.ec2.observe.machines import look

    regions = clients(parse_regions(arguments.region))
    asked = ask(regions, lambda ec2: look(ec2, ended=arguments.all))
    found = [owned for _, here in asked.answers for owned in here]
    disks = kept([(ec2, owned) for ec2, here in asked.answers for owned in here])
    queues, untold = put_onto([(ec2, owned) for ec2, here in asked.answers for owned in here])
    now = time.time()
    if arguments.json:
        view = {
            "found": [
                machines.view(owned, now, disks.get(owned.id), queues.get(owned.id, ()))
                for owned in found
            ],
            "regions": [ec2.region for ec2, _ in asked.answers],
            "failed": [{"region": region, "error": why} for region, why in asked.failed],
        }
        print(json.dumps(view))
    elif found:
        print(machines.table(found, now, screen_of(sys.stdout), disks, queues))
    elif asked.answers:
        where = ", ".join(ec2.region for ec2, _ in asked.answers)
        print(f"nothing of ours runs in {where}")
    machines.say_failed("ls", asked.failed)
    for line in untold:
        machines.say("ls", line)
    return ExitCode.ERROR if asked.failed else ExitCode.DONE
