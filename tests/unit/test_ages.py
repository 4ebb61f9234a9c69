"""How old an ended queue is: by time that was seen to pass, whatever the wall clock says."""

import pytest

from runner.service import queue_ages
from runner.service.queue_ages import QueueAges, Reading

DAY = 86_400.0
YEAR = 366 * DAY
NOW = 1_800_000_000.0


def test_a_clock_years_ahead_makes_nothing_old() -> None:
    """A start with a wrong clock removes every finished queue with its logs."""
    ended = {"q": NOW - 5}
    first = QueueAges().at(Reading(NOW, "b", 1000.0), ended)
    for years in (40, 200, -30):
        jumped = first.at(Reading(NOW + years * YEAR, "b", 1060.0), ended)
        assert jumped.kept == {"q": 65.0}
        rebooted = first.at(Reading(NOW + years * YEAR, "c", 30.0), ended)
        assert rebooted.kept is not None
        assert 35.0 <= rebooted.kept["q"] <= 35.0 + queue_ages.OFF_AT_MOST


def test_a_queue_that_ended_in_1970_is_young() -> None:
    """A board that begins in 1970 loses the logs of its first queue when NTP sets the clock."""
    before = QueueAges(Reading(10.0, "b", 10.0), {})
    assert before.at(Reading(NOW, "b", 40.0), {"q": 20.0}).kept == {"q": 60.0}


def test_kept_queues_grow_old_over_restarts_and_boots() -> None:
    """Nothing is ever pruned on a machine that is started anew each day."""
    look = QueueAges().at(Reading(NOW, "0", 100.0), {"q": NOW})
    for boot in range(1, 31):
        wall = NOW + boot * DAY
        look = look.at(Reading(wall, str(boot), 100.0), {"q": NOW})
    assert look.kept is not None
    assert look.kept["q"] == pytest.approx(30 * DAY)
    assert look.at(Reading(NOW, "x", 1.0), {"other": NOW}).kept == {"other": 0.0}
