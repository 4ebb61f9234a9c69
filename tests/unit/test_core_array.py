"""Arrays: N attempts of one job, with retries of their own; it ends with the last of them."""

from __future__ import annotations

from typing import Any

import pytest
from core_driver import Driver, document, drive, job

from runner.core import events as ev
from runner.core.states import JobStatus
from runner.model.document import JobSpec
from runner.model.placement import ArraySpec


def array(
    name: str,
    size: int,
    after: str = "",
    *,
    parallel: int | None = None,
    stop: bool = False,
    **more: Any,
) -> JobSpec:
    """An array; ``x[]`` in ``after`` is waited for element by element."""
    elementwise = tuple(sorted(each[:-2] for each in after.split() if each.endswith("[]")))
    spec = ArraySpec(size, parallel, stop, elementwise)
    return job(name, after.replace("[]", ""), array=spec, **more)


def test_elements_start_in_order_and_count_as_jobs_do() -> None:
    """An array would run at once, or in any order, beside the queue's limit."""
    core = drive(job("a"), array("x", 3), job("b"), parallel=2)
    assert core.starts == ["a", "x[0]"]
    core.ok("x[0]")
    assert core.starts == ["x[1]"]
    core.ok("a")
    core.ok("x[1]", "x[2]")
    assert core.order == ["a", "x[0]", "x[1]", "x[2]", "b"]
    core.run()
    assert core.status == "completed"


def test_dependants_wait_for_the_whole() -> None:
    """A merge would begin with the first of the elements, or after a part of them."""
    core = drive(array("x", 3), job("merge", "x"), parallel=4)
    core.ok("x[2]", "x[0]")
    assert "merge" not in core.order
    core.ok("x[1]")
    assert core.starts == ["merge"]


def test_an_array_waits_for_another_whole_or_element_by_element() -> None:
    """`x` and `x[]` would mean the same."""
    core = drive(array("x", 2), array("y", 2, "x[]"), array("z", 2, "x"), parallel=9)
    core.ok("x[1]")
    assert core.starts == ["y[1]"]
    core.ok("x[0]")
    assert core.starts == ["y[0]", "z[0]", "z[1]"]


def test_retries_are_an_elements_own() -> None:
    """One element that fails twice would use up the budget of all."""
    core = drive(array("x", 3, retry=2), parallel=3, on_failure="continue")
    for name in ("x[0]", "x[1]", "x[2]"):
        core.fail(name)
    core.tick(5.0)
    core.ok("x[0]", "x[1]", "x[2]")
    assert core.status == "completed"
    assert {core[f"x[{n}]"].attempt for n in range(3)} == {2}


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_the_others_still_run_after_a_failure(on_failure: str) -> None:
    """One bad sample of a thousand would throw the others away."""
    core = drive(array("x", 3), job("merge", "x"), job("other"), on_failure=on_failure)
    core.fail("x[0]")
    core.ok("x[1]", "x[2]")
    assert core["merge"].status is JobStatus.SKIPPED
    if on_failure == "stop":
        assert core["merge"].reason == core["other"].reason == "job 'x' failed"
    else:
        assert core["merge"].reason == "dependency 'x' failed"
        core.ok("other")
    assert core.status == "failed" and core.core.queue.reason == "job 'x' failed"


def test_array_stop_starts_no_other_element() -> None:
    """A thousand elements with the same fault would all be paid for."""
    core = drive(array("x", 5, stop=True, retry=2), job("after", "x", "always"), parallel=2)
    core.fail("x[0]")
    core.fail("x[2]")
    core.tick(5.0)
    core.ok("x[1]")
    core.fail("x[0]")
    # What waited for its next attempt has its last result; what had not begun is skipped.
    assert core.states == (
        "x[0]:failed x[1]:completed x[2]:failed x[3]:running x[4]:skipped after:pending"
    )
    core.fail("x[3]")
    assert core["x[3]"].status is JobStatus.FAILED and core["x[3]"].attempt == 1
    assert core.starts == ["after"]


def test_array_stop_leaves_what_runs_and_other_jobs_alone() -> None:
    """A failure would end its siblings, or the jobs beside it."""
    core = drive(array("x", 4, stop=True), job("other"), parallel=2, on_failure="continue")
    core.fail("x[0]")
    assert core.states == "x[0]:failed x[1]:running x[2]:skipped x[3]:skipped other:running"
    assert core["x[3]"].reason == "job 'x[0]' failed"
    core.ok("x[1]", "other")
    assert core.status == "failed"


def test_array_parallel_is_kept_and_others_go_ahead() -> None:
    """An array would take all places of the queue, or hold up what comes after it."""
    core = drive(array("x", 4, parallel=2), job("b"), parallel=4)
    assert core.starts == ["x[0]", "x[1]", "b"]
    core.ok("x[1]")
    assert core.starts == ["x[2]"]
    core.cancel("x[3]")
    core.ok("x[0]", "x[2]", "b")
    assert core.status == "cancelled"


def test_a_place_is_free_again_after_whatever_end() -> None:
    """With one of its waiting elements cancelled an array of two at once would stand still."""
    core = drive(array("x", 4, parallel=1), parallel=4)
    core.pause()
    core.cancel("x[1]")
    core.ok("x[0]")
    core.pause(False)
    assert core.starts == ["x[2]"]
    core.run()


def test_one_element_is_retried() -> None:
    """`retry x[1]` would run all of them, or none."""
    core = drive(array("x", 3), job("merge", "x"), parallel=3, on_failure="continue")
    core.ok("x[0]", "x[2]")
    core.fail("x[1]")
    assert core.status == "failed"
    core.crash()
    core.open(lambda now: ev.RetryRequested(now, (core.at("x[1]"),)))
    assert core.starts == ["x[1]"]
    core.ok("x[1]", "merge")
    assert core.status == "completed"


def test_a_retry_lifts_what_array_stop_has_skipped() -> None:
    """The failed element would be mended, and the rest of the array never run."""
    core = drive(array("x", 3, stop=True), on_failure="continue")
    core.fail("x[0]")
    core.crash()
    core.open(lambda now: ev.RetryRequested(now, (core.at("x[0]"),)))
    core.run()
    assert core.states == "x[0]:completed x[1]:completed x[2]:completed"


def test_elements_survive_a_crash_as_jobs_do() -> None:
    """A restart would begin the array anew."""
    core = drive(array("x", 3), job("merge", "x"), parallel=2)
    core.ok("x[0]")
    core.started("x[1]")
    core.crash()
    core.session()
    core.started("x[1]", adopted=True)
    core.void("x[2]")
    core.told()
    assert core.starts == ["x[2]"]
    core.ok("x[2]")
    core.ends("x[1]", ev.Exited(0))
    assert core.starts == ["merge"]


def test_an_array_grows_by_an_update() -> None:
    """Ten more samples would mean to run all of them again."""
    from runner.core.run_mode import RunMode
    from runner.core.update import carry_over

    old = document(array("x", 2), job("merge", "x"))
    core = Driver(old).open()
    core.run()
    new = document(array("x", 3), job("merge", "x"))
    again = RunMode(rerun_changed=True)
    queue, jobs = carry_over(old, new, core.core.queue, dict(enumerate(core.core.jobs)), again)
    core.load(queue, jobs, new)
    core.open()
    assert core.starts == ["x[2]"]
    core.ok("x[2]", "merge")
    assert core.status == "completed" and core["merge"].attempt == 2
