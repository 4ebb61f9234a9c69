"""The circuit breaker: when a service that doesn't answer is left alone, and for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.batch.circuit_breaker import Circuit, CircuitBreaker

FAILURES, LASTING, COOL, LONGEST = 3, 5.0, 10.0, 40.0


def breaker() -> CircuitBreaker:
    return CircuitBreaker(FAILURES, LASTING, COOL, LONGEST)


def opened(now: float = 0.0) -> CircuitBreaker:
    made = breaker()
    for at in (now - LASTING, now - LASTING):
        assert not made.failed(at, "no answer")
    assert made.failed(now, "no answer")
    return made


def test_it_opens_after_failures_in_a_row_that_last() -> None:
    """One dropped connection, or twenty at one moment, would send all jobs elsewhere."""
    made = breaker()
    for _ in range(20):
        assert not made.failed(100.0, "no answer") and made.take(100.0)
    assert made.failed(105.0, "no answer")
    assert made.circuit(105.0) is Circuit.OPEN and not made.take(105.0)
    assert (made.wait(106.0), made.why) == (9.0, "no answer")
    again = breaker()
    for at in range(0, 100, 10):
        again.failed(at, "no answer")
        again.failed(at + 9, "no answer")
        again.succeeded()
    assert again.circuit(100.0) is Circuit.CLOSED and again.why is None


def test_one_call_tries_a_circuit_that_was_open() -> None:
    """All that waited would be sent at once to a service that has just come back, or hasn't."""
    made = opened()
    assert [made.take(at) for at in (9.9, 10.0, 10.0, 19.9)] == [False, True, False, False]
    assert made.take(20.0)  # of the first nothing was told
    assert not made.failed(21.0, "no answer")
    assert [made.take(at) for at in (30.0, 40.9, 41.0)] == [False, False, True]
    made.succeeded()
    assert made.circuit(41.0) is Circuit.CLOSED and made.take(41.0)


def test_calls_that_began_before_it_opened_change_nothing() -> None:
    """A hundred calls under way would make the pause the longest one."""
    made = opened()
    for _ in range(100):
        assert not made.failed(1.0, "late")
    assert made.wait(0.0) == COOL
    made.failed(COOL, "another call")  # nobody has tried it, and it is away still
    assert made.circuit(COOL) is Circuit.OPEN and made.wait(COOL) == 2 * COOL


Step = tuple[str, float]


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "failed", "succeeded"]), st.floats(0.0, 50.0)),
        max_size=60,
    )
)
def test_whatever_happens_it_is_asked_again(steps: list[Step]) -> None:
    """A region would never be used again, or be asked by thousands while it is away."""
    made, now, tried = breaker(), 0.0, float("-inf")
    for what, pause in steps:
        now += pause
        before = made.circuit(now)
        if what == "take":
            assert made.take(now) is (before is not Circuit.OPEN)
            if before is Circuit.HALF_OPEN:
                assert now - tried >= COOL and not made.take(now)
                tried = now
        elif what == "failed":
            has_opened = made.failed(now, "no answer")
            assert has_opened is (before is Circuit.CLOSED and made.circuit(now) is Circuit.OPEN)
        else:
            made.succeeded()
            tried = float("-inf")
            assert made.circuit(now) is Circuit.CLOSED
        assert made.wait(now) <= LONGEST
    assert made.take(now + LONGEST)
