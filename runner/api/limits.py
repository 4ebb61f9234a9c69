"""How much an Executor may have at once: jobs, processors, US dollars an hour. Pure accounting.

Counted is what was submitted and has not ended, by what it asks for: not what a machine measures.
Amounts are whole numbers (millionths), so that what is added and taken away again leaves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, NamedTuple

from runner.api.capabilities import Capabilities
from runner.model.messages import did_you_mean, one_of

GIB = 1024**3
_PARTS = 1_000_000

PRICED = ("cpus", "memory", "gpus")
"""What can have a price: an hour of one processor, of one GiB, of one GPU."""


class Demand(NamedTuple):
    """What one job counts for, in millionths of a processor and of a dollar an hour."""

    cpus: int = _PARTS
    cost: int = 0


ONE_JOB = Demand()


@dataclass(frozen=True, slots=True)
class ExecutorLimits:
    """None: as much as is submitted. ``prices``: US dollars an hour by PRICED. ``waits``: whether
    ``submit`` waits for room, or raises JobLimitError."""

    max_jobs: int | None = None
    max_cpus: float | None = None
    max_cost_per_hour: float | None = None
    prices: Mapping[str, float] = field(default_factory=dict)
    waits: bool = True

    def demand(self, wanted: Capabilities, *, free: bool) -> Demand:
        """What a job counts for. ``free``: it runs where an hour costs nothing.

        Raises ValueError where its price isn't known, and for a job that is too large by itself.
        """
        if self.max_cpus is None and self.max_cost_per_hour is None:
            return ONE_JOB
        cpus = 1.0 if wanted.cpus is None else wanted.cpus
        cost = 0.0 if self.max_cost_per_hour is None or free else self._cost(wanted, cpus)
        if self.max_cpus is not None and cpus > self.max_cpus:
            raise ValueError(f"cpus: the job asks for {cpus:g}: max_cpus is {self.max_cpus:g}")
        if self.max_cost_per_hour is not None and cost > self.max_cost_per_hour:
            most = f"max_cost_per_hour is ${self.max_cost_per_hour:,g}"
            raise ValueError(f"the job costs ${cost:,.4g} an hour: {most}")
        return Demand(round(cpus * _PARTS), round(cost * _PARTS))

    def _cost(self, wanted: Capabilities, cpus: float) -> float:
        """US dollars an hour."""
        if wanted.memory is None and "memory" in self.prices:
            raise ValueError(
                "memory: the job doesn't say how much, and an hour of it has a price: give it, for "
                'max_cost_per_hour, as ex.options(memory="2GiB") does'
            )
        amounts = {"cpus": cpus, "memory": (wanted.memory or 0) / GIB, "gpus": wanted.gpus or 0}
        for name, amount in amounts.items():
            if amount and name not in self.prices and name != "memory":
                raise ValueError(
                    f'{name}: max_cost_per_hour needs the price of an hour: prices={{"{name}": …}}'
                )
        return sum(self.prices.get(name, 0.0) * amount for name, amount in amounts.items())


class LimitUsage:
    """What an Executor has of what it may have. Not for two threads."""

    def __init__(self, limits: ExecutorLimits) -> None:
        self._limits = limits
        self.jobs = self.cpus = self.cost = 0

    def why_full(self, demand: Demand) -> str | None:
        """Why there is no room for one more; None: there is."""
        limits = self._limits
        if limits.max_jobs is not None and self.jobs >= limits.max_jobs:
            return f"{self.jobs} jobs have not ended: max_jobs is {limits.max_jobs}"
        if self.cpus + demand.cpus > _whole(limits.max_cpus):
            return (
                f"jobs with {self.cpus / _PARTS:g} cpus have not ended: max_cpus is "
                f"{limits.max_cpus:g}, and this one asks for {demand.cpus / _PARTS:g}"
            )
        if self.cost + demand.cost > _whole(limits.max_cost_per_hour):
            return (
                f"jobs of ${self.cost / _PARTS:,.4g} an hour have not ended: max_cost_per_hour is "
                f"${limits.max_cost_per_hour:,g}, and this one costs ${demand.cost / _PARTS:,.4g}"
            )
        return None

    def add(self, demand: Demand) -> None:
        """A job was taken."""
        self.jobs += 1
        self.cpus += demand.cpus
        self.cost += demand.cost

    def remove(self, demand: Demand) -> None:
        """It has ended."""
        self.jobs -= 1
        self.cpus -= demand.cpus
        self.cost -= demand.cost


def _whole(limit: float | None) -> float:
    return inf if limit is None else round(limit * _PARTS)


def check_limits(
    *,
    max_jobs: Any = None,
    max_cpus: Any = None,
    max_cost_per_hour: Any = None,
    prices: Any = None,
    when_full: Any = "wait",
) -> ExecutorLimits | None:
    """None: there are none. Raises ValueError naming a wrong one."""
    if when_full not in ("wait", "refuse"):
        raise ValueError(f'when_full: must be "wait" or "refuse", not {when_full!r}')
    if max_jobs is not None and (type(max_jobs) is not int or max_jobs < 1):
        raise ValueError(f"max_jobs: must be a whole number from 1, not {max_jobs!r}")
    _check_amount("max_cpus", max_cpus)
    _check_amount("max_cost_per_hour", max_cost_per_hour)
    known = _check_prices(prices, max_cost_per_hour)
    if max_jobs is None and max_cpus is None and max_cost_per_hour is None:
        return None
    return ExecutorLimits(max_jobs, max_cpus, max_cost_per_hour, known, when_full == "wait")


def _check_amount(name: str, value: Any) -> None:
    if value is None:
        return
    if type(value) not in (int, float) or not isfinite(value) or value <= 0:
        raise ValueError(f"{name}: must be a number greater than 0, not {value!r}")


def _check_prices(prices: Any, limit: float | None) -> dict[str, float]:
    if prices is None:
        if limit is not None:
            raise ValueError(
                "max_cost_per_hour: needs prices, in US dollars an hour, such as "
                'prices={"cpus": 0.0405, "memory": 0.0045} (of a processor, of a GiB)'
            )
        return {}
    if limit is None:
        raise ValueError("prices: are for max_cost_per_hour, which isn't given")
    if not isinstance(prices, Mapping) or not prices:
        raise ValueError(f"prices: must be a dict of {one_of(PRICED)}, not {prices!r}")
    for name, price in prices.items():
        if name not in PRICED:
            near = did_you_mean(str(name), PRICED) or f"; there are {one_of(PRICED)}"
            raise ValueError(f"prices: {name!r} has no price of its own{near}")
        if type(price) not in (int, float) or not isfinite(price) or price < 0:
            raise ValueError(f"prices: {name}: must be US dollars an hour, not {price!r}")
    return dict(prices)
