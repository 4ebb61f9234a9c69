"""§12.2: ``run_if: failure`` looks at what came before a skipped job, too."""

from __future__ import annotations

import pytest
from core_driver import drive, job

from runner.core.events import RetryRequested, Signalled


def test_an_alarm_behind_a_job_that_was_skipped_for_a_failure_is_given() -> None:
    """A failed preparation would be told to nobody."""
    q = drive(
        job("prep"), job("train", "prep"), job("eval", "train"), job("alarm", "eval", "failure")
    )
    q.fail("prep")
    assert q.states == "prep:failed train:skipped eval:skipped alarm:running"


def test_what_a_stop_skipped_counts_if_something_before_it_failed() -> None:
    """An alarm would be given for a job that has nothing to do with the failure, or not given."""
    q = drive(
        job("bad"), job("after", "bad"), job("other"), job("behind", "other"),
        job("alarm", "after", "failure"), job("no-alarm", "behind", "failure"),
        on_failure="stop",
    )  # fmt: skip
    q.fail("bad")
    assert q.states == (
        "bad:failed after:skipped other:skipped behind:skipped alarm:running no-alarm:skipped"
    )
    assert q["no-alarm"].reason == "no dependency failed"


def test_a_failure_counts_behind_a_clean_up_that_ended_well() -> None:
    """What the stop has skipped behind a clean-up would hide the failure before it."""
    q = drive(
        job("bad"), job("clean", "bad", "always"), job("next", "clean"),
        job("alarm", "next", "failure"), on_failure="stop",
    )  # fmt: skip
    q.fail("bad")
    q.run()
    assert q["alarm"].status.value == "completed"


def test_a_cancel_or_an_unmet_condition_is_no_failure() -> None:
    """An alarm would be given for what a person has wanted, or for an alarm that wasn't given."""
    q = drive(
        job("a"), job("b", "a"), job("c", "b", "failure"),
        job("x"), job("y", "x", "failure"), job("z", "y", "failure"), job("w", "y"),
        job("v", "w", "failure"),
    )  # fmt: skip
    q.cancel("a")
    q.ends("a", Signalled("SIGTERM"))
    q.run()
    assert q.states == (
        "a:cancelled b:skipped c:skipped x:completed y:skipped z:skipped w:skipped v:skipped"
    )


@pytest.mark.parametrize(("fails", "expected"), [(True, "completed"), (False, "skipped")])
def test_an_alarm_waits_while_something_before_it_may_still_fail(
    fails: bool, expected: str
) -> None:
    """A stop skips at once: the alarm would be skipped, and then its ancestor fails."""
    q = drive(
        job("bad"), job("x", timeout=500.0), job("d", "x"), job("alarm", "d", "failure"),
        on_failure="stop", parallel=2,
    )  # fmt: skip
    q.started("x")
    q.fail("bad")
    assert q.states == "bad:failed x:running d:skipped alarm:pending"
    q.crash()
    q.session()
    q.started("x", adopted=True)
    q.told()
    assert q["alarm"].status.value == "pending"
    (q.fail if fails else q.ok)("x")
    q.run()
    assert q["alarm"].status.value == expected


def test_an_alarm_is_given_with_the_first_failure_before_it() -> None:
    """It would come only when the longest job before it has ended, too."""
    q = drive(
        job("bad"), job("long", timeout=500.0), job("short", timeout=500.0), job("d", "long short"),
        job("alarm", "d", "failure"), on_failure="stop", parallel=3,
    )  # fmt: skip
    q.fail("bad")
    assert q["alarm"].status.value == "pending"
    q.fail("short")
    assert q["alarm"].status.value == "running" and q["long"].status.value == "running"


def test_an_alarm_that_was_not_needed_is_judged_anew_after_a_rerun() -> None:
    """A second failure would be told to nobody."""
    q = drive(job("a"), job("b", "a"), job("alarm", "b", "failure"))
    q.run()
    assert (q.states, q.status) == ("a:completed b:completed alarm:skipped", "completed")
    q.crash()
    q.open(lambda now: RetryRequested(now, (q.at("a"),), completed=True, dependants=True))
    q.fail("a")
    assert q.states == "a:failed b:skipped alarm:running"


def test_a_failure_counts_though_something_behind_it_still_runs() -> None:
    """A job that is there for a failure would wait for cleaners that have nothing to do with it."""
    q = drive(
        job("notice", "merge", run_if="failure"),
        job("merge", "one two"),
        job("one", "train", run_if="failure"),
        job("two", "train", run_if="failure"),
        job("train"),
        on_failure="stop",
    )
    q.fail("train")
    assert (q.starts, q["merge"].status.value) == (["notice"], "skipped")
