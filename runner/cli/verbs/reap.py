"""Terminate EC2 instances that are past their lifetime, by EC2's own records; or, on AWS Batch, the
jobs of queues that are past their global timeout, or have ended."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from runner.cli import options
from runner.cli.show import machine_queues, machines
from runner.errors import ExitCode, UsageError
from runner.model.durations import parse_duration

if TYPE_CHECKING:
    from runner.aws.ec2 import Ec2
    from runner.targets.ec2.end.termination import EndedMachine
    from runner.targets.ec2.observe.machine_queues import MachineQueues
    from runner.targets.ec2.observe.machines import Owned


def configure(parser: argparse.ArgumentParser) -> None:
    machines.add_regions(parser)
    options.add_batch_queues(parser)
    parser.add_argument(
        "--older-than", metavar="DURATION", help="also what is older than this, such as 24h"
    )
    parser.add_argument(
        "--stopped",
        action="store_true",
        help="also instances that stopped themselves (--on-complete stop); with --older-than "
        "only what is older",
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be terminated")
    machines.add_yes(parser)
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.targets.ec2.account.regions import ask, clients, parse_regions
    from runner.targets.ec2.observe.machine_queues import queues_of
    from runner.targets.ec2.observe.machines import look

    older = _duration(arguments.older_than)
    options.check_batch_or_not(arguments, "stopped")
    if arguments.target is not None:
        from runner.cli.show.batch_queues import reap_queues

        return reap_queues(arguments, older)
    if not arguments.dry_run:
        machines.check_can_ask("reap", yes=arguments.yes)
    asked = ask(clients(parse_regions(arguments.region)), look)
    now = time.time()
    found = [(ec2, owned) for ec2, here in asked.answers for owned in here]
    due = _due(found, now, older, stopped=arguments.stopped)
    machines.say_failed("reap", asked.failed)
    if not arguments.stopped:
        _say_left(found)
    queues = queues_of([(ec2, owned) for ec2, owned, _ in due], now)
    for (_, owned, why), there in zip(due, queues, strict=True):
        machines.say("reap", f"{machines.in_words(owned, now)}: {why}")
        for line in machine_queues.describe(there):
            machines.say("reap", line)
    ended = [] if arguments.dry_run else _end(due, queues, yes=arguments.yes)
    machines.say_notes("reap", ended or ())
    if arguments.json:
        print(json.dumps(_view(due, ended, asked.failed, now)))
    elif not due:
        if asked.answers:
            print(f"nothing is overdue in {', '.join(ec2.region for ec2, _ in asked.answers)}")
    elif ended is None:
        print("nothing was ended")
    elif arguments.dry_run:
        for _, owned, why in due:
            print(f"would end {owned.id}: {why}")
    else:
        for done in ended:
            print(machines.outcome_in_words(done))
    return ExitCode.ERROR if ended is None else machines.code_of(ended, asked.failed)


def _duration(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--older-than: {error}") from None


def _due(
    found: list[tuple[Ec2, Owned]], now: float, older: float | None, *, stopped: bool
) -> list[tuple[Ec2, Owned, str]]:
    from runner.targets.ec2.observe.machines import overdue

    judged = [(ec2, owned, overdue(owned, now, older, stopped=stopped)) for ec2, owned in found]
    return [(ec2, owned, why) for ec2, owned, why in judged if why is not None]


def _say_left(found: list[tuple[Ec2, Owned]]) -> None:
    """What costs on though it isn't overdue."""
    left = [owned for _, owned in found if owned.stopped_itself]
    if left:
        few = "1 machine that has" if len(left) == 1 else f"{len(left)} machines that have"
        told = "`runner ls` shows what the disk costs, `runner reap --stopped` ends it"
        machines.say("reap", f"{few} stopped by --on-complete stop: left; {told}")


def _end(
    due: list[tuple[Ec2, Owned, str]], queues: list[MachineQueues], *, yes: bool
) -> list[EndedMachine] | None:
    """What became of each; None if a person said no."""
    from runner.targets.ec2.end.end_marker import Agreed
    from runner.targets.ec2.end.termination import end_all

    if due and not machines.agreed(f"End {'it' if len(due) == 1 else 'all of them'}?", yes=yes):
        return None
    return end_all(
        [
            (ec2, owned, Agreed(whole=True, lines=there.lines))
            for (ec2, owned, _), there in zip(due, queues, strict=True)
        ]
    )


def _view(
    due: list[tuple[Ec2, Owned, str]],
    ended: list[EndedMachine] | None,
    failed: list[tuple[str, str]],
    now: float,
) -> dict[str, object]:
    outcomes = {done.owned.id: machines.outcome(done) for done in ended or ()}
    overdue = [
        {**machines.view(owned, now), "reason": why, "outcome": outcomes.get(owned.id)}
        for _, owned, why in due
    ]
    told = [{"region": region, "error": why} for region, why in failed]
    return {"overdue": overdue, "failed": told}
