"""How queues and jobs are put into words and tables."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from runner.cli.exit_codes import of_queue
from runner.cli.rows import duration, elapsed, why
from runner.cli.table import render, window
from runner.cli.text import clean, columns, headline, told
from runner.cli.watch import line
from runner.core.states import PENDING, JobState, JobStatus, QueueState
from runner.core.story import StoryEntry
from runner.service.views import Snapshot


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ümläut → 日本", "plain ümläut → 日本"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udcff\x7f\x9b", r"\udcff\x7f\x9b"),
    ],
)
def test_control_characters_are_spelled_out(text: str, shown: str) -> None:
    """A name could clear the screen, or show itself backwards."""
    assert clean(text) == shown


def test_columns_are_aligned_and_nothing_is_cut() -> None:
    """A long id would push the next column out of line."""
    assert columns(("A", "BB"), [("long", "x"), ("y", "\x07")]) == "A     BB\nlong  x\ny     \\x07"
    assert columns(("A", "BB"), []) == "A  BB"


def test_a_headline_says_the_state_and_why() -> None:
    """`wait` would end with a code and no reason."""
    queue = {"queue_id": "q", "status": "failed", "reason": "job 'a' failed"}
    assert headline(queue) == "q failed: job 'a' failed"
    assert headline({"queue_id": "q", "status": "running", "paused": True}) == "q running, paused"
    assert told({"completed": 3, "failed": 0, "running": 1}) == "3 completed, 1 running"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0021, "2ms"), (1.26, "1.3s"), (59.96, "1m0s"), (61.4, "1m1s"), (7322.7, "2h2m3s")],
)
def test_times_are_as_exact_as_they_are_long(seconds: float, shown: str) -> None:
    """An hour would be told to the microsecond."""
    assert duration(seconds) == shown


def test_a_running_job_shows_how_much_of_its_time_is_gone() -> None:
    """Nobody could see that a job is about to time out."""
    job = {"status": "running", "elapsed_seconds": 61.4, "timeout": "2h0m0s"}
    assert elapsed(job) == "1m1s of 2h0m0s"
    assert elapsed({"status": "completed", "duration_seconds": 2.0}) == "2s"
    assert elapsed({"status": "pending", "timeout": "1s"}) == "-"


def test_a_reason_is_told_with_what_comes_next() -> None:
    """A job in backoff would look like one that is forgotten."""
    job = {"error_message": "exit status 1", "reason": "retry 1 of 2", "next_attempt_at": "T"}
    assert why(job) == "exit status 1; retry 1 of 2; next attempt at T"
    assert why({"pid": 5}) == "PID 5" and why({}) == ""


@pytest.mark.parametrize(
    ("queue", "code"),
    [
        ({"status": "completed"}, 0),
        ({"status": "completed", "results_incomplete": True}, 105),
        ({"status": "failed", "results_incomplete": True}, 100),
        ({"status": "cancelled"}, 103),
        ({"status": "interrupted"}, 104),
        ({"status": "interrupted", "worker": "the daemon"}, 101),
        ({"status": "interrupted", "queued": "the daemon"}, 101),
        ({"status": "running"}, 101),
        ({"status": "pending"}, 101),
    ],
)
def test_every_outcome_has_its_exit_code(queue: dict[str, Any], code: int) -> None:
    """A script would take one outcome for another."""
    assert of_queue(queue) == code


def test_an_event_is_one_line_in_words() -> None:
    """A person would have to read records; a job's words could break the line."""
    detail = {"attempt": 2, "duration": 61.23, "error_message": "no\n\x1b"}
    entry = StoryEntry(0.0, 0, "attempt_failed", detail)
    assert line(entry, ["a"]) == r"a failed attempt=2 error_message=no\n\x1b in=1m1s"
    assert line(StoryEntry(0.0, None, "queue_running"), []) == "queue running"


def snapshot(*statuses: str) -> Snapshot:
    jobs = [PENDING if s == "pending" else JobState(status=JobStatus(s)) for s in statuses]
    counts = {status: sum(job.status is status for job in jobs) for status in JobStatus}
    ids = [f"j{n}" for n in range(len(jobs))]
    return Snapshot("q", "q", QueueState("r"), ids, ["1m0s"] * len(jobs), jobs, counts, None)


def test_a_small_table_shows_what_matters_in_order() -> None:
    """What runs would be below the edge of the terminal."""
    many = ["completed"] * 50 + ["failed"] + ["completed"] * 9 + ["running"] + ["pending"] * 50
    assert window(snapshot(*many), 4) == [50, 60, 61, 62]
    assert window(snapshot(*many), 200) == list(range(len(many)))
    assert window(snapshot(*["running"] * 9), 3) == [0, 1, 2]
    assert window(snapshot(*["completed"] * 9, "pending"), 3) == [0, 1, 9]


def test_a_table_takes_nothing_for_markup() -> None:
    """A reason in brackets would vanish, a control sequence act."""
    job = {"job_id": "a", "status": "failed", "attempt": 1, "error_message": "[red]x\x1b[0m"}
    queue = {"queue_id": "q", "status": "failed", "counts": {"failed": 1}, "reason": "[b]y"}
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(render(queue, [job]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert r"[red]x\x1b[0m" in shown and "[b]y" in shown and "\x1b" not in shown
