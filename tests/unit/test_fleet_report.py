"""The page of all tasks: one file, nothing from outside, nothing of a task is markup."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from runner.fleet.job_views import FailureGroup, JobProgress
from runner.fleet.machine_costs import JobCost
from runner.fleet.records import (
    Backlog,
    FleetJob,
    JobOptions,
    ReportedTask,
    StateTotals,
    TaskState,
)
from runner.fleet.report_page import LISTED_FAILURES, LISTED_WORKERS, JobReport, page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;\x1b[31m\u202e"
VOID = {"meta", "input", "rect"}
ALLOWED = {
    "class", "id", "lang", "charset", "http-equiv", "content", "name", "type", "placeholder",
    "aria-label", "value", "hidden", "viewbox", "preserveaspectratio", "role", "x", "y", "width",
    "height",
}  # fmt: skip


class Strict(HTMLParser):
    """Refuses tags that don't match, and whatever could load or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= ALLOWED, (tag, attrs)
        self.attributes.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def task(
    key: str, state: TaskState, worker: str = "w-1", reason: str | None = None
) -> ReportedTask:
    return ReportedTask(key, state, 1, 1000.0, 2500.0, worker, reason)


def report(tasks: list[ReportedTask], total: int | None = None, **more: Any) -> JobReport:
    job = FleetJob(1, "j", "{}", JobOptions(command="true"), **more)
    totals = [StateTotals(TaskState.DONE, 3, 30, 1, 7500.0, 3)]
    failures = [FailureGroup(TaskState.TERMINAL_FAILED, HOSTILE, 2)]
    progress = JobProgress(
        job, totals, Backlog(0, 0, 0), 0.5, 0.0, [], [], failures, JobCost(1.0, 0.5)
    )
    return JobReport(progress, tasks, len(tasks) if total is None else total, 2000.0, "db", "1")


def data_of(text: str) -> Any:
    (packed,) = re.findall(r'<script id="tasks" type="text/plain">([^<]*)</script>', text)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_nothing_that_a_task_says_is_markup() -> None:
    """A task's key or error would run a script in the browser of whoever reads the report."""
    failed = task(HOSTILE, TaskState.TERMINAL_FAILED, HOSTILE, HOSTILE)
    text = page(report([failed, task("a", TaskState.DONE)], paused=HOSTILE))
    found = Strict(text)
    assert "alert(1)" not in "".join(found.texts["script"])
    assert any("alert(1)" in cell for cell in found.texts["td"])
    assert "\x1b" not in text
    assert "\u202e" not in text
    told = data_of(text)
    assert told["key"][0].startswith("</script><script>")
    assert [told["reasons"][at] for at in told["reason"] if at is not None] == [told["key"][0]]


def test_only_its_own_script_and_style_may_run() -> None:
    """The page would fetch from a network, or run what was slipped in."""
    found = Strict(page(report([task("a", TaskState.DONE)])))
    (policy,) = [each["content"] for each in found.attributes if "http-equiv" in each]
    script = next(text for text in found.texts["script"] if "use strict" in text)
    for kind, text in (("script", script), ("style", found.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in (policy or "")
    assert (policy or "").startswith("default-src 'none'; ")
    assert not re.search(r"https?:|//[a-z]", "".join(found.texts["script"] + found.texts["style"]))


def test_the_search_has_what_is_told_of_each_task() -> None:
    """A row of the search would tell of another task."""
    tasks = [
        ReportedTask("k", TaskState.RETRYABLE_FAILED, 2, 1001.5, None, None, "why"),
        ReportedTask("l", TaskState.PENDING, 0, None, None, None, None),
        ReportedTask("m", TaskState.DONE, 1, 1700.0, 12.6, "w", None),
    ]
    told = data_of(page(report(tasks)))
    assert told["key"] == ["k", "l", "m"]
    assert [told["states"][at] for at in told["state"]] == ["retryable_failed", "pending", "done"]
    assert (told["base"], told["ended"], told["duration"]) == (
        1001, [0, None, 699], [None, None, 13],
    )  # fmt: skip
    assert (told["attempts"], told["worker"], told["reason"]) == (
        [2, 0, 1], [None, None, 0], [0, None, None],
    )  # fmt: skip


@pytest.mark.parametrize("state", [TaskState.DONE, TaskState.PENDING])
def test_a_job_without_ends_or_failures_has_a_page(state: TaskState) -> None:
    """A report of a job that has just begun would be an error."""
    begun = ReportedTask("k", state, 0, None, None, None, None)
    assert "None has ended." in page(report([begun]))
    Strict(page(report([])))


def test_what_a_page_leaves_out_it_says() -> None:
    """Whoever reads it would take a part for all."""
    many = LISTED_FAILURES + 5
    tasks = [task(f"k{n}", TaskState.TERMINAL_FAILED, f"w{n}", "x" * 5000) for n in range(many)]
    text = page(report(tasks, total=9_999_999))
    assert f"The first {LISTED_FAILURES:,} of {many:,}" in text
    assert f"The first {LISTED_WORKERS:,} of {many:,} workers" in text
    assert f"This page holds {many:,} of 9,999,999 tasks" in text
    assert len(text) < 700_000
