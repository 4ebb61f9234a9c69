"""What the disk of a stopped machine costs: EC2's sizes, and the Price List API's price of a GB.

Nothing is guessed: what nobody tells is None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from runner.aws.ec2 import Disk, Ec2
from runner.aws.timeouts import together
from runner.targets.ec2.account.prices import storage
from runner.targets.ec2.observe.machines import Owned

PATIENCE = 2.0
"""Seconds for which a list of machines waits for it, after EC2's answers."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The disks of one machine. ``dollars``: a month, None where nobody tells the price."""

    gib: int
    dollars: float | None

    def __str__(self) -> str:
        cost = "at a price that isn't known" if self.dollars is None else self.month
        return f"its disk of {self.gib} GiB costs on, {cost}"

    @property
    def month(self) -> str:
        """For people."""
        return "" if self.dollars is None else f"${self.dollars:.2f} a month"


def kept(found: Sequence[tuple[Ec2, Owned]], patience: float = PATIENCE) -> dict[str, Kept]:
    """By instance id, of those that have stopped. What can't be had within ``patience`` seconds is
    left out: a size (ec2:DescribeVolumes), or a price (pricing:GetProducts)."""
    stopped: dict[Ec2, list[str]] = defaultdict(list)
    for ec2, owned in found:
        if owned.state == "stopped" and owned.machine is not None:
            stopped[ec2].append(owned.id)
    regions = list(stopped)
    sizes = [partial(ec2.disks, stopped[ec2]) for ec2 in regions]
    prices = [partial(storage, ec2.region) for ec2 in regions]
    answers = together([*sizes, *prices], patience)  # type: ignore[arg-type]
    known: dict[str, Kept] = {}
    for disks, price in zip(answers[: len(regions)], answers[len(regions) :], strict=True):
        if isinstance(disks, list):
            known |= _summed(disks, price if isinstance(price, dict) else {})
    return known


def _summed(disks: Sequence[Disk], price: dict[str, float]) -> dict[str, Kept]:
    of: dict[str, list[Disk]] = defaultdict(list)
    for disk in disks:
        of[disk.instance_id].append(disk)
    return {
        name: Kept(
            sum(disk.gib for disk in own),
            sum(disk.gib * price[disk.kind] for disk in own)
            if all(disk.kind in price for disk in own)
            else None,
        )
        for name, own in of.items()
    }
