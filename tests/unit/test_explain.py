"""Why jobs wait, or have failed: the reasons, their codes and the next steps."""

from __future__ import annotations

from typing import Any

import pytest

from runner.core.consequences import HELD
from runner.core.explain import PlannedJob, Situation, of_job, of_queue


def row(name: str, status: str = "pending", **more: Any) -> dict[str, Any]:
    return {"job_id": name, "status": status, **more}


def situation(
    *rows: dict[str, Any], most: int | None = 1, queue: dict[str, Any] | None = None, **after: str
) -> Situation:
    """``after``: what a job depends on."""
    plan = {
        each["job_id"]: PlannedJob(each["job_id"], tuple(after.get(each["job_id"], "").split()))
        for each in rows
    }
    whole = {"queue_id": "q", "status": "running", "worker": "a daemon", **(queue or {})}
    return Situation(whole, rows, plan, most, "--queue q")


def codes(now: Situation, name: str) -> list[str]:
    return [reason.code for reason in of_job(now, now.by_id[name])]


def test_all_reasons_of_a_job_are_told() -> None:
    """A person would mend one thing, and find the job waiting for the next."""
    now = situation(
        row("a", "running", started_at="2026-01-01T00:00:00Z"),
        row("b"),
        row("c", reason=HELD),
        row("d", reason="retry 1 of 2 in 5s", next_attempt_at="2026-01-01T00:00:09Z"),
        b="a",
    )
    assert codes(now, "b") == ["dependency"]
    assert "'a' (running since 2026-01-01T00:00:00Z)" in of_job(now, now.by_id["b"])[0].text
    assert codes(now, "c") == ["hold", "slot"]
    assert of_job(now, now.by_id["c"])[0].steps == ("`runner release c --queue q`",)
    assert codes(now, "d") == ["backoff", "slot"]
    assert of_job(now, now.by_id["d"])[0].until == "2026-01-01T00:00:09Z"
    assert codes(now, "a") == []


def test_what_was_skipped_leads_to_what_failed_first() -> None:
    """Of a chain of skipped jobs one would have to go back by hand."""
    now = situation(
        row("a", "failed", exit_code=1, error_message="command execution failed: exit status 1"),
        row("b", "skipped", reason="dependency 'a' failed"),
        row("c", "skipped", reason="dependency 'b' was skipped"),
        b="a",
        c="b",
    )
    (reason,) = of_job(now, now.by_id["c"])
    assert (reason.code, reason.holders) == ("dependency_failed", ("a",))
    assert reason.steps == ("mend a, then `runner retry a --queue q`",)


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"exit_code": 1}, "exit_code"),
        ({"exit_code": 127}, "command_not_found"),
        ({"timed_out": True, "signal": "SIGTERM"}, "timeout"),
        ({"signal": "SIGKILL", "oom_killed": True}, "out_of_memory"),
        ({"signal": "SIGSEGV"}, "signal"),
        ({"array": {"size": 3}}, "failed"),
        ({}, "failed"),
    ],
)
def test_a_failure_has_its_code(told: dict[str, Any], code: str) -> None:
    """Programs that go by the codes would miss a kind of failure."""
    assert codes(situation(row("a", "failed", **told)), "a") == [code]


def test_what_holds_up_all_jobs_is_told_of_the_queue() -> None:
    """It would be told of each of a hundred thousand jobs, or of none."""
    paused = situation(row("a"), queue={"paused": True})
    assert [reason.code for reason in of_queue(paused)] == ["paused"]
    left = situation(row("a"), queue={"worker": None})
    assert [reason.code for reason in of_queue(left)] == ["no_worker"]
    line = situation(row("a"), queue={"worker": None, "queued": "x", "blocked": "waits for 'p'"})
    assert [reason.code for reason in of_queue(line)] == ["queue_waits"]
    assert of_queue(situation(row("a"), queue={"status": "completed", "worker": None})) == []
