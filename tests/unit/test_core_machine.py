"""When the machine is to end: on which clock, after which failure, and what holds it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.core.machine_lifetime import (
    Ending,
    EndPlan,
    Hold,
    Life,
    MachineLifetime,
    Moment,
    QueueEnd,
    live_on,
    outlived,
    plan_end,
    verdict,
)

WALL = 1_700_000_000.0
NOW = Moment("boot-1", 1000.0, WALL)
DONE = QueueEnd("done", "completed", 0.0)


def later(seconds: float, *, jump: float = 0.0) -> Moment:
    """The same boot, with a wall clock that somebody has set by so much."""
    return Moment(NOW.boot_id, NOW.uptime + seconds, NOW.wall + seconds + jump)


def booted(after: float, uptime: float) -> Moment:
    """Another boot, so many seconds from now."""
    return Moment("boot-2", uptime, NOW.wall + after)


def planned(*ends: QueueEnd, delay: float = 300.0, keep: float = 300.0) -> EndPlan:
    return plan_end(ends or [DONE], "terminate", delay, keep, NOW)


def test_a_machine_without_work_ends_after_the_delay() -> None:
    """It would cost money for nothing, or go before anybody could look at it."""
    machine = MachineLifetime(plan=planned())
    assert verdict(machine, later(299)) is None
    ending = verdict(machine, later(300))
    assert ending == Ending("terminate", "queue done completed", "boot-1", 1300.0)


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_jumps_ends_nothing_and_holds_nothing(jump: float) -> None:
    """A time server that is reached late would power off the machine, or keep it for ever."""
    machine = MachineLifetime(plan=planned(), hold=Hold(WALL + 400, "boot-1", 1400.0))
    assert verdict(machine, later(399, jump=jump)) is None
    assert verdict(machine, later(400, jump=jump)) is not None


def test_in_a_later_boot_the_delay_begins_with_it() -> None:
    """A machine that somebody starts again would end before he could log in; one whose daemon is
    broken would never end."""
    machine = MachineLifetime(plan=planned())
    assert verdict(machine, booted(86_400, 15)) is None
    assert verdict(machine, booted(86_400, 300)) is not None


def test_the_newest_end_decides_and_a_failure_keeps_longer() -> None:
    """Nobody could look at what has failed, once a later queue went well."""
    failed = QueueEnd("bad", "failed", 600)
    assert planned(failed, DONE).due == 1300.0
    kept = planned(failed, DONE, keep=3600)
    assert (kept.due, kept.why) == (1000.0 + 3000, "queue bad failed")
    assert planned(DONE, replace(failed, age=-1), keep=60).due == 1060.0, "shorter, if asked"
    assert planned(QueueEnd("c", "cancelled", 0.0), keep=3600).due == 1300.0, "a person was there"


def test_the_only_copy_keeps_it_like_a_failure_and_a_lifetime_does_not() -> None:
    """The model would go with the machine five minutes after a night in which S3 was away; or the
    machine stay for ever."""
    missing = replace(DONE, only_copy=True)
    kept = planned(missing, keep=3600)
    told = "queue done completed, results are only on this machine"
    assert (kept.due, kept.why) == (1000.0 + 3600, told)
    assert planned(missing, replace(DONE, name="next", age=-1), keep=3600).why == told
    machine = live_on(MachineLifetime(plan=kept), NOW, None, 2000.0, "stop")
    ending = verdict(machine, later(1000))
    assert ending is not None
    assert ending.why == f"the machine's lifetime of 33m20s is over ({told})"


def test_a_hold_keeps_it_and_ends_by_itself() -> None:
    """The machine would go under somebody's hands, or stay for ever though he has left."""
    plan = planned()
    assert verdict(MachineLifetime(plan=plan, hold=Hold()), later(1e6)) is None
    held = MachineLifetime(plan=plan, hold=Hold(WALL + 7200, "boot-1", 8200.0))
    assert verdict(held, later(7199)) is None
    assert verdict(held, later(7200)) is not None
    assert verdict(held, booted(7000, 6000)) is None, "over a reboot, too"
    assert verdict(held, booted(7300, 6000)) is not None


def test_a_lifetime_counts_the_time_it_was_off_and_no_hold_lengthens_it() -> None:
    """A machine that was stopped for a night would get another day; a forgotten hold, for ever."""
    machine = live_on(MachineLifetime(hold=Hold()), NOW, "i-1", 86_400.0, "stop")
    assert machine.life == Life(WALL - 1000, "i-1", 86_400.0, "stop", "boot-1")
    assert outlived(machine, later(85_399)) is None
    assert outlived(machine, later(85_400)) == "the machine's lifetime of 24h0m0s is over"
    assert verdict(machine, booted(86_400, 15)) is not None, "a boot after it ends at once"
    assert verdict(machine, booted(50_000, 15)) is None


def test_a_wall_clock_in_the_past_does_not_lengthen_a_life() -> None:
    """A clock that lost its battery would give the machine fifty years."""
    machine = live_on(MachineLifetime(), NOW, None, 7200.0, "stop")
    assert verdict(machine, later(6200, jump=-1e9)) is not None


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_that_is_set_ends_no_life(jump: float) -> None:
    """A time server that is reached late would end the machine with its work, or give it days."""
    machine = live_on(MachineLifetime(), NOW, "i-1", 7200.0, "stop")
    for seconds in (60, 6199):
        machine = live_on(machine, later(seconds, jump=jump), "i-1", 7200.0, "stop")
        assert verdict(machine, later(seconds, jump=jump)) is None
    assert verdict(machine, later(6200, jump=jump)) is not None
    # The next boot goes on by the clock as it was set.
    again = replace(booted(6300, 10), wall=WALL + 6300 + jump)
    assert live_on(machine, again, "i-1", 9000.0, "stop").life == Life(
        WALL - 1000 + jump, "i-1", 9000.0, "stop", "boot-2", 7290.0
    )


def test_a_second_boot_is_counted_on_its_own_clock_too() -> None:
    """A spot machine that EC2 has started again would be ended by a step of its wall clock."""
    machine = live_on(MachineLifetime(), NOW, "i-1", 86_400.0, "stop")
    first = booted(40_000, 10)
    machine = live_on(machine, first, "i-1", 86_400.0, "stop")
    stepped = Moment("boot-2", 20.0, first.wall + 1e6)
    assert verdict(machine, stepped) is None
    assert verdict(machine, replace(stepped, uptime=45_410.0)) is not None


def test_a_record_of_an_earlier_version_counts_by_the_wall_clock() -> None:
    """An upgrade would give each machine its whole life again."""
    machine = MachineLifetime(life=Life(WALL - 5000, "i-1", 7200.0, "stop"))
    assert verdict(machine, later(2199)) is None
    assert verdict(machine, later(2200)) is not None


def test_another_limit_holds_from_now_on() -> None:
    """A mistake in the settings could not be mended."""
    machine = live_on(MachineLifetime(), NOW, None, 7200.0, "stop")
    longer = live_on(machine, later(7000), "i-1", 9000.0, "terminate")
    assert longer.life == Life(WALL - 1000, "i-1", 9000.0, "terminate", "boot-1")
    assert verdict(longer, later(7000)) is None


def test_a_copy_of_the_disk_is_another_machine() -> None:
    """A machine made from an image would end with its first boot."""
    machine = live_on(MachineLifetime(), NOW, "i-1", 7200.0, "stop")
    machine = replace(machine, plan=planned(), hold=Hold())
    copy = live_on(machine, booted(86_400, 20), "i-2", 7200.0, "stop")
    assert copy == MachineLifetime(life=Life(WALL + 86_380, "i-2", 7200.0, "stop", "boot-2"))
    assert live_on(machine, booted(86_400, 20), None, 7200.0, "stop").plan == machine.plan


def test_an_end_that_has_begun_goes_on_in_its_boot_only() -> None:
    """A try that failed would be forgotten; or a machine that was started again end at once."""
    ending = Ending("stop", "why", "boot-1", 1300.0)
    machine = MachineLifetime(ending=ending, hold=Hold())
    assert verdict(machine, later(500)) is ending
    assert verdict(machine, booted(500, 20)) is None
