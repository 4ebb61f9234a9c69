"""How long ended queues have been kept, by time that was seen to pass.

Owns ``ages.json`` of the state folder, the judge of what ``prune`` may remove. One reading of the
wall clock is believed of nothing: a clock that is years ahead for a minute must not cost a queue,
nor one that began in 1970 when the queue ended. Within a boot time is what its own clock counted;
of the time a machine was off, the wall clock is believed for a week.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.errors import RunnerError
from runner.files import replace_file
from runner.model.durations import format_duration
from runner.timestamps import rfc3339

OFF_AT_MOST = 7 * 86_400.0
"""Seconds that a machine is believed to have been off, whatever its wall clock says."""

ON_TRUST = 60.0
"""Seconds of age that a queue may have by the wall clock alone when it is first seen."""

STEP_AT_MOST = 86_400.0
"""Seconds by which the wall clock may have run ahead of the boot's since the last look."""

AWAY_AT_MOST = 366 * 86_400.0
"""The same where nobody watched: between two boots, or since the newest file was written."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the clocks: wall seconds since the epoch, and seconds since this boot."""

    wall: float
    boot_id: str
    up: float


def read_clocks() -> Reading:
    """The clocks as they stand; the boot is the kernel's, as its clock is, also in a container."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Reading(time.time(), boot, time.clock_gettime(time.CLOCK_BOOTTIME))


@dataclass(frozen=True, slots=True)
class QueueAges:
    """What a look has left: its clocks (None: there was none), and the age of each ended queue."""

    reading: Reading | None = None
    kept: Mapping[str, float] | None = None

    def passed(self, now: Reading) -> float:
        """Seconds that are known to have passed since the last look."""
        last = self.reading
        if last is None:
            return 0.0
        if last.boot_id == now.boot_id:
            return max(0.0, now.up - last.up)
        off = now.wall - last.wall - now.up
        return now.up + min(max(0.0, off), OFF_AT_MOST)

    def at(self, now: Reading, ended: Mapping[str, float]) -> QueueAges:
        """The ages as of now; ``ended``: the wall time at which each ended queue did so."""
        passed = self.passed(now)
        before = self.kept or {}
        kept = {
            key: before[key] + passed
            if key in before
            else min(max(0.0, now.wall - moment), max(passed, ON_TRUST))
            for key, moment in ended.items()
        }
        return QueueAges(now, kept)

    def ahead(self, now: Reading, newest_file: float) -> float | None:
        """Seconds by which the wall clock is further than can be, or None if it may be right.

        ``newest_file``: wall seconds of the newest trace there is where no look has been saved.
        """
        last = self.reading
        if last is not None and last.boot_id == now.boot_id:
            step, most = now.wall - last.wall - (now.up - last.up), STEP_AT_MOST
        else:
            since = newest_file if last is None else last.wall
            step, most = now.wall - since, AWAY_AT_MOST
        return step if step > most else None


def read_ages(path: Path) -> QueueAges:
    """What the last look has left; nothing if that can't be read: every queue is young then."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        told = json.loads(path.read_bytes())
        clocks = told["reading"]
        kept = {str(key): float(age) for key, age in told["kept"].items()}
        reading = Reading(float(clocks["wall"]), str(clocks["boot_id"]), float(clocks["up"]))
        return QueueAges(reading, kept)
    return QueueAges()


def write_ages(path: Path, ages: QueueAges) -> None:
    """Save a look, as far as the disk takes it: without it queues are kept longer."""
    last = ages.reading
    assert last is not None
    reading = {"wall": last.wall, "boot_id": last.boot_id, "up": last.up}
    record = {"version": 1, "reading": reading, "kept": dict(ages.kept or {})}
    with suppress(OSError):
        replace_file(path, [json.dumps(record).encode(), b"\n"], durable=False)


def check_clock(path: Path, newest_file: float, *, remember: bool) -> None:
    """Raise RunnerError where the wall clock is further ahead than it can be.

    With ``remember`` the same call is believed the next time: who calls again has looked.
    """
    now, ages = read_clocks(), read_ages(path)
    ahead = ages.ahead(now, newest_file)
    if remember:
        passed = ages.passed(now)
        older = {key: age + passed for key, age in (ages.kept or {}).items()}
        write_ages(path, QueueAges(now, older))
    if ahead is not None:
        raise RunnerError(
            f"nothing was removed: the clock says {rfc3339(now.wall)}, which is "
            f"{format_duration(round(ahead / 3600) * 3600.0)} later than it can be by what this "
            "state folder has seen; if it is right, do the same again"
        )
