"""What a machine has cost since its last start, without its disk: from EC2's records and its tags.

Nothing is guessed: what nobody knows is None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from runner.aws.ec2 import Machine
from runner.targets.ec2 import names

BILLED = frozenset({"running", "stopping"})
"""States in which an instance costs its price (EC2 User Guide, "Instance lifecycle"; `stopping`
costs only where it hibernates). A stopped one costs its disk."""

MOST_PRICE = 10_000.0
"""US dollars an hour, some fifty times the dearest instance: more is a tag that isn't ours."""

_SAME_START = 300.0
"""Seconds by which a disk may be attached before or after the start that it belongs to."""

_RESTARTED = 600.0
"""Seconds by which a machine may start after its launch was noted, without another start."""

_WHEN = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
"""The end of EC2's StateTransitionReason: ``User initiated (2026-11-25 17:00:00 GMT)``."""


@dataclass(frozen=True, slots=True)
class Cost:
    """``hours`` since its last start, ``price`` in US dollars an hour.

    ``at_least``: it ran before too, and EC2 doesn't tell how long.
    """

    hours: float | None
    price: float | None
    at_least: bool = False

    @property
    def dollars(self) -> float | None:
        """None where nobody knows the price or the end; what never ran costs nothing."""
        if self.hours == 0.0:
            return 0.0
        if self.hours is None or self.price is None:
            return None
        return self.hours * self.price


NOTHING = Cost(0.0, None)


def cost_of(machine: Machine, price: float | None, now: float, noted: float | None = None) -> Cost:
    """Until ``now``, seconds since the epoch. ``noted``: when its launch was, if that is known."""
    end = now if machine.state in BILLED else _end_of(machine)
    hours = None if end is None else max(0.0, end - machine.launched) / 3600
    # 0 where EC2 doesn't tell when its disk was attached: then nobody knows of earlier starts.
    older = machine.began < machine.launched - _SAME_START
    again = noted is not None and machine.launched - noted > _RESTARTED
    return Cost(hours, price, older or again)


def price_in(tags: Mapping[str, str]) -> float | None:
    """US dollars an hour, as the launch expected; None where nobody knew."""
    return dollars_in(tags.get(names.PRICE))


def dollars_in(text: str | None) -> float | None:
    """A price as AWS writes it, or a tag; None for what can't be one."""
    try:
        price = float(text or "")
    except ValueError:
        return None
    return price if 0 <= price <= MOST_PRICE else None


def _end_of(machine: Machine) -> float | None:
    if machine.state == "pending":
        return machine.launched
    if told := _WHEN.search(machine.transition):
        return datetime.fromisoformat(told[1]).replace(tzinfo=UTC).timestamp()
    return None
