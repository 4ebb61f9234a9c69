"""When the machine is to end, and why. Pure.

Within a boot everything is counted on the boot's own clock: a wall clock that jumps ends nothing.
Only from one boot to the next the wall clock is read, once: a lifetime counts the time that the
machine was off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from runner.model.durations import format_duration
from runner.model.records import Rule, Seconds, WallTime, choice

MachineAction = Annotated[str, Rule(choice(("stop", "terminate")))]
"""The end of a machine."""


@dataclass(frozen=True, slots=True)
class Moment:
    """``uptime``: seconds since this boot, a suspension included; ``wall`` since the epoch."""

    boot_id: str
    uptime: float
    wall: float


@dataclass(frozen=True, slots=True)
class EndPlan:
    """Every queue has ended: ``what`` (``stop``, ``terminate``) becomes of the machine, and why.

    At ``due`` of the boot that it was made in. In a later one ``after`` seconds from its start, if
    nobody plans anew: the daemon may be what doesn't work there. ``at`` is for people.
    """

    what: MachineAction
    why: str
    boot_id: str
    due: Seconds
    after: Seconds
    at: WallTime

    def left(self, now: Moment) -> float:
        """Seconds."""
        return (self.due if self.boot_id == now.boot_id else self.after) - now.uptime


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody needs the machine until ``at``; None: until it is released."""

    at: WallTime | None = None
    boot_id: str = ""
    due: Seconds = 0.0

    def lasts(self, now: Moment) -> bool:
        if self.at is None:
            return True
        return now.uptime < self.due if self.boot_id == now.boot_id else now.wall < self.at


@dataclass(frozen=True, slots=True)
class Life:
    """The machine is there since ``began``, and may be for ``limit`` seconds (None: for ever).

    ``instance``: which one it is; a copy of its disk is another machine. ``what``: its end.
    ``before``: seconds that it had been there when the boot ``boot_id`` began. ``began`` is by the
    wall clock as that boot has it now, for the next one to read.
    """

    began: WallTime
    instance: str | None = None
    limit: Seconds | None = None
    what: MachineAction = "stop"
    boot_id: str = ""
    before: Seconds = 0.0

    def left(self, now: Moment) -> float | None:
        """Seconds; None for one without an end."""
        if self.limit is None:
            return None
        return self.limit - _seen_in(self, now).before - now.uptime


STEPPED = 60.0
"""Seconds between two readings of a boot's begin by the wall clock from which on the clock was set:
less is how a time server keeps it right."""


def _seen_in(life: Life, now: Moment) -> Life:
    """The same life, with this boot's clock to count it by."""
    booted = now.wall - now.uptime
    if life.boot_id != now.boot_id:
        return replace(life, boot_id=now.boot_id, before=max(0.0, booted - life.began))
    began = booted - life.before
    return life if abs(began - life.began) < STEPPED else replace(life, began=began)


@dataclass(frozen=True, slots=True)
class Ending:
    """It has begun, at ``since`` of that boot, and can't be called off."""

    what: MachineAction
    why: str
    boot_id: str
    since: Seconds


@dataclass(frozen=True, slots=True)
class MachineLifetime:
    """All that is remembered of it."""

    plan: EndPlan | None = None
    hold: Hold | None = None
    life: Life | None = None
    ending: Ending | None = None

    def is_ending(self, now: Moment) -> bool:
        return self.ending is not None and self.ending.boot_id == now.boot_id


@dataclass(frozen=True, slots=True)
class QueueEnd:
    """One queue that ended ``age`` seconds ago.

    ``only_copy``: results of it are missing from their store, so this machine has the only copy.
    """

    name: str
    status: str
    age: float
    only_copy: bool = False

    @property
    def kept(self) -> bool:
        """Whether a person should have time to look at it here."""
        return self.status == "failed" or self.only_copy

    def __str__(self) -> str:
        missing = ", results are only on this machine" if self.only_copy else ""
        return f"queue {self.name} {self.status}{missing}"


def live_on(
    machine: MachineLifetime, now: Moment, instance: str | None, limit: float | None, what: str
) -> MachineLifetime:
    """The same machine under today's settings; another one if it turns out to be a copy."""
    life = machine.life
    if life is not None and instance and life.instance not in (None, instance):
        machine, life = MachineLifetime(), None
    if life is None:
        life = Life(began=now.wall - now.uptime, boot_id=now.boot_id)
    life = replace(_seen_in(life, now), instance=instance or life.instance, limit=limit, what=what)
    return replace(machine, life=life)


def plan_end(
    ends: Iterable[QueueEnd], what: str, delay: float, keep_on_failure: float, now: Moment
) -> EndPlan:
    """What follows when all queues (at least one) have ended.

    The one that ended last says how long the machine stays from now on; one that failed before
    it, or has results nowhere else, may keep it longer.
    """
    ends = sorted(ends, key=lambda end: -end.age)
    last = ends[-1]
    seconds, why = keep_on_failure if last.kept else delay, last
    for end in ends[:-1]:
        left = keep_on_failure - max(0.0, end.age)
        if end.kept and left > seconds:
            seconds, why = left, end
    return EndPlan(what, str(why), now.boot_id, now.uptime + seconds, seconds, now.wall + seconds)


def verdict(machine: MachineLifetime, now: Moment) -> Ending | None:
    """The end that is due, or has begun in this boot; None as long as there is none.

    A hold keeps a machine from being ended for want of work. It doesn't lengthen its life.
    """
    if machine.is_ending(now):
        return machine.ending
    life, plan = machine.life, machine.plan
    if (why := outlived(machine, now)) is not None and life is not None:
        more = f" ({plan.why})" if plan is not None else ""
        return Ending(life.what, why + more, now.boot_id, now.uptime)
    if plan is None or plan.left(now) > 0 or (machine.hold and machine.hold.lasts(now)):
        return None
    return Ending(plan.what, plan.why, now.boot_id, now.uptime)


def outlived(machine: MachineLifetime, now: Moment) -> str | None:
    """Why nothing may start any more, if the machine has lived as long as it may."""
    life = machine.life
    left = life.left(now) if life is not None else None
    if left is None or left > 0 or life is None or life.limit is None:
        return None
    return f"the machine's lifetime of {format_duration(life.limit)} is over"
