"""What `ls`, `terminate` and `reap` share: regions asked, and one shape of what was found."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.cli.show.columns import Column, Cut
from runner.cli.show.columns import table as laid_out
from runner.cli.show.terminal import Screen
from runner.cli.show.text import clean
from runner.errors import ExitCode, UsageError
from runner.targets.ec2 import names
from runner.targets.ec2.observe.machines import age

if TYPE_CHECKING:
    from runner.targets.ec2.end.termination import EndedMachine
    from runner.targets.ec2.observe.cost import Cost
    from runner.targets.ec2.observe.disk_cost import Kept
    from runner.targets.ec2.observe.machines import Owned

REGIONS = "R[,R2…|all]"
COLUMNS = (
    Column("ID"),
    Column("QUEUE", Cut.MIDDLE, soft=21, least=5),
    Column("STATE"),
    Column("TYPE", leave_out=4),
    Column("MARKET", leave_out=2),
    Column("ZONE", leave_out=3),
    Column("AGE", leave_out=5),
    Column("COST", leave_out=7),
    Column("EXPIRES", leave_out=6),
    Column("THEN", leave_out=1),
    Column("WHY", Cut.WRAP, soft=40, least=24, leave_out=8),
)
"""An id is needed as it is, for `terminate`; what a machine is matters less than what it costs."""


def add_regions(parser: argparse.ArgumentParser) -> None:
    """Which regions."""
    parser.add_argument(
        "--region", metavar=REGIONS, help="one region, several, or all (default: the AWS profile's)"
    )


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Whether to ask."""
    parser.add_argument("--yes", action="store_true", help="don't ask; needed without a terminal")


def say(verb: str, line: str) -> None:
    """One line for people."""
    print(f"runner {verb}: {clean(line)}", file=sys.stderr)


def say_failed(verb: str, failed: Sequence[tuple[str, str]]) -> None:
    """The regions that gave no answer: what runs there is not in the list."""
    for region, why in failed:
        say(verb, f"{region} was not looked at: {why}")


def say_notes(verb: str, ended: Sequence[EndedMachine]) -> None:
    """What came up while machines were ended."""
    for one in ended:
        for note in one.notes:
            say(verb, note)


def code_of(ended: Sequence[EndedMachine], failed: Sequence[tuple[str, str]]) -> ExitCode:
    """ERROR where a machine or a region (``failed``) could not be dealt with; else USAGE where a
    machine was left for what is on it."""
    if failed or any(one.error is not None and not one.refused for one in ended):
        return ExitCode.ERROR
    return ExitCode.USAGE if any(one.refused for one in ended) else ExitCode.DONE


def check_can_ask(verb: str, *, yes: bool) -> None:
    """See that there is a yes, or a person who can give it. Raises UsageError."""
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        told = f"{verb} ends machines for good, and there is no terminal to ask: --yes says so"
        raise UsageError(f"{told}; nothing was done")


def agreed(question: str, *, yes: bool) -> bool:
    """Whether ``yes``, or a person at a terminal says so. See check_can_ask."""
    if yes:
        return True
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def view(
    owned: Owned, now: float, disk: Kept | None = None, queues: Sequence[str] = ()
) -> dict[str, Any]:
    """One of ours for programs; None where nobody knows.

    ``disk``: of a stopped machine; ``queues``: that were put onto it, by their ids.
    """
    from runner.timestamps import rfc3339

    machine, request, cost = owned.machine, owned.request, owned.cost(now)
    expires, began = owned.expires, owned.began
    return {
        "id": owned.id,
        "kind": "instance" if machine is not None else "spot-request",
        "queue": owned.queue,
        "queues": queues_of(owned, queues),
        "region": owned.region,
        "zone": machine.zone if machine is not None else None,
        "state": owned.state,
        "why": owned.why,
        "type": owned.instance_type,
        "market": owned.market,
        "spot_request": request.request_id if request is not None else None,
        "began_at": rfc3339(began),
        "age_seconds": None if began is None else round(now - began),
        "price_per_hour": owned.price,
        "cost": None if cost.dollars is None else round(cost.dollars, 4),
        "cost_at_least": cost.at_least,
        "expires_at": rfc3339(expires),
        "overdue": _overdue(owned, now),
        "stopped_itself": owned.stopped_itself,
        "disk_gib": disk.gib if disk is not None else None,
        "disk_cost_per_month": disk.dollars if disk is not None else None,
        "on_complete": owned.tags.get(names.TERMINATES),
        "store": owned.tags.get(names.STORE),
    }


def _overdue(owned: Owned, now: float) -> bool:
    expires = owned.expires
    ends = owned.alive and not owned.stopped_itself
    return ends and expires is not None and expires <= now


def table(
    found: Sequence[Owned],
    now: float,
    screen: Screen | None,
    disks: Mapping[str, Kept],
    queues: Mapping[str, Sequence[str]],
) -> str:
    """All of it for people, with a line of totals. ``disks``, ``queues``: by instance id."""
    rows = [_row(owned, now, disks.get(owned.id), queues.get(owned.id, ())) for owned in found]
    width = screen.columns if screen else None
    last = total(found, now) + _total_of_disks(found, disks)
    return "\n".join([*laid_out(COLUMNS, rows, width), last])


def queues_of(owned: Owned, put_onto: Sequence[str]) -> list[str]:
    """The ids of its queues, its first one first. One whose id the machine gives is ``-``."""
    return list(dict.fromkeys([*([owned.queue] if owned.queue else []), *put_onto]))


def _row(owned: Owned, now: float, disk: Kept | None, put_onto: Sequence[str]) -> tuple[str, ...]:
    began, machine = owned.began, owned.machine
    return (
        owned.id,
        ", ".join(queues_of(owned, put_onto)) or "-",
        owned.state,
        owned.instance_type or "-",
        owned.market,
        (machine.zone if machine is not None else "") or owned.region,
        "-" if began is None else age(now - began),
        dollars(owned.cost(now)),
        _expires(owned, now),
        owned.tags.get(names.TERMINATES, "-"),
        "; ".join(filter(None, (str(disk) if disk is not None else "", owned.why))),
    )


def _expires(owned: Owned, now: float) -> str:
    expires = owned.expires
    if expires is None or owned.stopped_itself:
        return "-"
    if expires > now:
        return f"in {age(expires - now)}"
    return f"OVERDUE {age(now - expires)}" if owned.alive else f"{age(now - expires)} ago"


def dollars(cost: Cost) -> str:
    """``$1.23``, ``≥ $1.23``, or ``-``."""
    if cost.dollars is None:
        return "-"
    return f"{'≥ ' if cost.at_least else ''}${cost.dollars:.2f}"


def total(found: Sequence[Owned], now: float) -> str:
    """What all of it has cost, and costs an hour: what nobody knows the price of is told apart."""
    alive = [owned for owned in found if owned.alive]
    costs = [owned.cost(now) for owned in found]
    known = sum(cost.dollars for cost in costs if cost.dollars is not None)
    unknown = sum(cost.dollars is None for cost in costs)
    at_least = unknown or any(cost.at_least for cost in costs)
    hourly = sum(owned.price or 0.0 for owned in alive if owned.billed)
    told = f"total: {_counted(alive)}; {'at least ' if at_least else ''}${known:.2f} so far"
    told += f", ${hourly:.2f} an hour now"
    return told + (f" ({unknown} of unknown cost)" if unknown else "")


def _total_of_disks(found: Sequence[Owned], disks: Mapping[str, Kept]) -> str:
    """What all that has stopped costs on."""
    stopped = [owned for owned in found if owned.state == "stopped"]
    if not stopped:
        return ""
    known = [disks[owned.id] for owned in stopped if owned.id in disks]
    month = sum(disk.dollars for disk in known if disk.dollars is not None)
    unknown = len(stopped) - sum(disk.dollars is not None for disk in known)
    told = f"; disks of {len(stopped)} stopped: "
    if unknown == len(stopped):
        return f"{told}cost not known"
    return f"{told}{'at least ' if unknown else ''}${month:.2f} a month"


def _counted(alive: Sequence[Owned]) -> str:
    machines = sum(owned.machine is not None for owned in alive)
    requests = len(alive) - machines
    told = f"{machines} instance{'s' if machines != 1 else ''}"
    more = f" and {requests} open spot request{'s' if requests != 1 else ''}"
    return told + (more if requests else "")


def in_words(owned: Owned, now: float) -> str:
    """One of ours in a line."""
    told = [owned.instance_type, owned.market, owned.state]
    began = owned.began
    if began is not None:
        told.append(f"{age(now - began)} old")
    if owned.cost(now).dollars is not None:
        told.append(f"{dollars(owned.cost(now))} so far")
    words = ", ".join(word for word in told if word)
    return f"{owned.id} in {owned.region}, queue {owned.queue}: {words}"


def outcome(ended: EndedMachine) -> dict[str, Any]:
    """What became of one target, for programs."""
    return {
        "id": ended.owned.id,
        "region": ended.owned.region,
        "queue": ended.owned.queue,
        "ended": ended.done,
        "error": ended.error,
    }


def outcome_in_words(ended: EndedMachine) -> str:
    """What became of one target, for people."""
    if ended.error is not None:
        return f"{ended.owned.id}: NOT ended: {ended.error}"
    if not ended.done:
        return f"{ended.owned.id}: had ended before"
    return f"{ended.owned.id}: ended ({', '.join(ended.done)})"
