"""Which of several places takes a call, where some may be away: pure.

A place is a target with a region of its own, or one that is there for when all others are away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

SPOOL = "spool"
"""In place of the name of a place: keep it here until one of them is back."""


@dataclass(frozen=True, slots=True)
class PlaceView:
    """A place as one call sees it. ``refusal``: why the call can't run there at all; ``away``: why
    nothing is taken there for now; ``load``: its jobs that have not ended; ``reserve``: only for
    when the others are away."""

    name: str
    refusal: str | None = None
    away: str | None = None
    load: int = 0
    reserve: bool = False


class SendTo(NamedTuple):
    """To this place."""

    place: str


class KeepHere(NamedTuple):
    """Until one of the places is back."""

    why: str


class RefuseCall(NamedTuple):
    """``away``: for now; else it can never run at any of them."""

    why: str
    away: bool


Decision = SendTo | KeepHere | RefuseCall


def decide(places: Sequence[PlaceView], fallback: Sequence[str] = ()) -> Decision:
    """Where a call goes that no place has: to the least loaded of those that fit and answer, else
    to the first of ``fallback`` that does, or is SPOOL."""
    fit = [each for each in places if not each.reserve and each.refusal is None]
    if not fit:
        reasons = dict.fromkeys(each.refusal or "" for each in places if not each.reserve)
        return RefuseCall("\n".join(reasons), away=False)
    there = [each for each in fit if each.away is None]
    if there:
        return SendTo(min(there, key=lambda each: each.load).name)
    known: Mapping[str, PlaceView] = {each.name: each for each in places}
    why = "; ".join(f"{each.name}: {each.away}" for each in fit)
    for name in fallback:
        if name == SPOOL:
            return KeepHere(why)
        place = known[name]
        if place.refusal is None and place.away is None:
            return SendTo(name)
    return RefuseCall(why, away=True)
