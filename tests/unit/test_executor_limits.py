"""How much an Executor may have at once: what is counted, what is refused, and who is next."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.api.admission import Admission
from runner.api.capabilities import parse_capabilities
from runner.api.job_errors import JobLimitError
from runner.api.limits import Demand, ExecutorLimits, LimitUsage, check_limits

PRICES = {"cpus": 0.04, "memory": 0.005, "gpus": 3.0}


def demand(limits: ExecutorLimits, *, free: bool = False, **wanted: Any) -> Demand:
    return limits.demand(parse_capabilities(wanted), free=free)


def test_processors_and_dollars_are_counted_by_what_is_asked_for() -> None:
    """A session would cost more than it was allowed to."""
    limits = ExecutorLimits(max_cpus=8, max_cost_per_hour=1.0, prices=PRICES)
    usage = LimitUsage(limits)
    small = demand(limits, memory="2GiB")
    assert small == Demand(1_000_000, 50_000)
    assert demand(limits, free=True) == Demand(1_000_000, 0)
    large = demand(limits, cpus=6, memory="16GiB")
    usage.add(large)
    usage.add(small)
    assert usage.why_full(small) is None
    assert usage.why_full(large) == (
        "jobs with 7 cpus have not ended: max_cpus is 8, and this one asks for 6"
    )
    only = LimitUsage(ExecutorLimits(max_cost_per_hour=1.0, prices=PRICES))
    for _ in range(20):
        assert only.why_full(small) is None
        only.add(small)
    assert only.why_full(small) == (
        "jobs of $1 an hour have not ended: max_cost_per_hour is $1, and this one costs $0.05"
    )


def test_a_price_that_is_not_known_is_no_zero() -> None:
    """A GPU would be free of charge, for the limit."""
    limits = ExecutorLimits(max_cost_per_hour=5, prices={"cpus": 0.05, "memory": 0.005})
    with pytest.raises(ValueError, match=r'gpus: max_cost_per_hour needs .* prices={"gpus": …}'):
        demand(limits, gpus=1, memory="1GiB")
    with pytest.raises(ValueError, match="memory: the job doesn't say how much"):
        demand(limits, cpus=1)
    assert demand(limits, gpus=1, free=True).cost == 0


def test_a_job_that_never_fits_is_refused_at_once() -> None:
    """It would wait for ever, and all that come after it."""
    limits = ExecutorLimits(max_cpus=4, max_cost_per_hour=1, prices={"cpus": 0.5})
    with pytest.raises(ValueError, match="the job asks for 8: max_cpus is 4"):
        demand(limits, cpus=8)
    with pytest.raises(ValueError, match=r"the job costs \$1.5 an hour: max_cost_per_hour is \$1"):
        demand(limits, cpus=3)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0.0, 10.0)), max_size=50), st.randoms())
def test_what_was_added_is_taken_away_again(jobs: list[tuple[int, float]], order: Any) -> None:
    """After a million jobs a limit would be a little lower, or higher, than it was."""
    limits = ExecutorLimits(max_cpus=1e6, max_cost_per_hour=1e6, prices={"cpus": 1.0})
    usage = LimitUsage(limits)
    demands = [Demand(quarters * 250_000, round(cost * 1_000_000)) for quarters, cost in jobs]
    for each in demands:
        usage.add(each)
    order.shuffle(demands)
    for each in demands:
        usage.remove(each)
    assert (usage.jobs, usage.cpus, usage.cost) == (0, 0, 0)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_jobs": 0}, "max_jobs: must be a whole number from 1"),
        ({"max_jobs": True}, "max_jobs"),
        ({"max_cpus": 0}, "max_cpus: must be a number greater than 0"),
        ({"max_cpus": float("nan")}, "max_cpus"),
        ({"max_cost_per_hour": "5"}, "max_cost_per_hour: must be a number"),
        ({"max_cost_per_hour": 5}, "max_cost_per_hour: needs prices"),
        ({"max_cost_per_hour": 5, "prices": {}}, "prices: must be a dict"),
        ({"max_cost_per_hour": 5, "prices": {"cpu": 1}}, 'did you mean "cpus"'),
        ({"max_cost_per_hour": 5, "prices": {"cpus": -1}}, "must be US dollars an hour"),
        ({"prices": {"cpus": 1}}, "prices: are for max_cost_per_hour"),
        ({"when_full": "drop"}, "when_full"),
    ],
)
def test_a_wrong_limit_is_named(given: Any, told: str) -> None:
    """It would be no limit."""
    with pytest.raises(ValueError, match=told):
        check_limits(**given)


def test_the_first_to_come_is_the_first_to_go() -> None:
    """A large job would wait as long as small ones come."""
    room = Admission(ExecutorLimits(max_cpus=4), lambda: None)
    one, large = Demand(1_000_000), Demand(4_000_000)
    room.enter(one)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(room.enter, large)
        while not room._line:
            pass
        second = pool.submit(room.enter, one)
        while len(room._line) < 2:
            pass
        assert not wait([first, second], 0.02).done
        room.leave(one)
        first.result(10)
        assert not wait([second], 0.02).done
        room.leave(large)
        second.result(10)


def test_whoever_waits_hears_of_the_end() -> None:
    """Threads would hang in `submit` after shutdown."""
    ended = threading.Event()

    def check() -> None:
        if ended.is_set():
            raise RuntimeError("cannot schedule new futures after shutdown")

    room = Admission(ExecutorLimits(max_jobs=1), check)
    room.enter(Demand())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(room.enter, Demand())
        while not room._line:
            pass
        ended.set()
        room.wake()
        with pytest.raises(RuntimeError, match="after shutdown"):
            waiting.result(10)
    refusing = Admission(ExecutorLimits(max_jobs=1, waits=False), lambda: None)
    refusing.enter(Demand())
    with pytest.raises(JobLimitError, match="1 jobs have not ended: max_jobs is 1"):
        refusing.enter(Demand())
    refusing.enter(Demand(), at_once=True)
