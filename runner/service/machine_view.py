"""What people see of the end of the machine, and how they hold it.

`status`, `keep` and the lifetime guard begin here: it imports next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from runner.core.machine_lifetime import Hold, MachineLifetime, Moment
from runner.errors import ConflictError, StateError
from runner.host.machine_file import MachineFile, this_moment
from runner.model.settings import Settings
from runner.store.paths import StatePaths
from runner.timestamps import rfc3339

_DOES = {"stop": "stops", "terminate": "terminates"}


def limits_of(settings: Settings) -> Callable[[], tuple[float | None, str]]:
    """The lifetime, and what the machine ends with, as the settings have them."""
    what = "terminate" if settings.on_complete == "terminate" else "stop"
    return lambda: (settings.max_lifetime, what)


def pending_action(paths: StatePaths) -> str | None:
    """What becomes of the machine, in a line; None if nothing is planned, or nobody can say."""
    try:
        machine = MachineFile(paths.machine).read()
        return describe_end(machine, this_moment())
    except (StateError, OSError):
        return None


def describe_end(machine: MachineLifetime, now: Moment) -> str | None:
    """``terminates at … (queue q completed); `runner keep` holds it``."""
    if machine.is_ending(now) and machine.ending is not None:
        return f"is being ended: {machine.ending.why}"
    lines = []
    plan, hold, life = machine.plan, machine.hold, machine.life
    if plan is not None:
        at = rfc3339(float(math.ceil(now.wall + max(0.0, plan.left(now)))))
        if hold is not None and hold.lasts(now):
            lines.append(f"{_held(hold)}, then it {_DOES[plan.what]} ({plan.why})")
        else:
            lines.append(f"{_DOES[plan.what]} at {at} ({plan.why}); `runner keep` holds it")
    elif hold is not None and hold.lasts(now):
        lines.append(_held(hold))
    if life is not None and (left := life.left(now)) is not None and life.limit is not None:
        at = rfc3339(float(math.ceil(now.wall + max(0.0, left))))
        lines.append(f"{_DOES[life.what]} at {at} at the latest (max_lifetime)")
    return "; ".join(lines) or None


def _held(hold: Hold) -> str:
    return "held until it is released" if hold.at is None else f"held until {rfc3339(hold.at)}"


def keep(paths: StatePaths, seconds: float | None) -> MachineLifetime:
    """Hold the machine for so long from now on; None: until it is released.

    Raises ConflictError once its end has begun, StateError.
    """
    now = this_moment()
    if seconds is None:
        hold = Hold()
    else:
        hold = Hold(float(math.ceil(now.wall + seconds)), now.boot_id, now.uptime + seconds)
    return _hold(paths, hold)


def release(paths: StatePaths) -> MachineLifetime:
    """Hold it no longer. Raises StateError."""
    return _hold(paths, None)


def _hold(paths: StatePaths, hold: Hold | None) -> MachineLifetime:
    with MachineFile(paths.machine).changing() as change:
        machine = change.machine
        if machine.is_ending(this_moment()) and machine.ending is not None:
            raise ConflictError(f"too late, this machine ends: {machine.ending.why}")
        change.machine = replace(machine, hold=hold)
    return change.machine
