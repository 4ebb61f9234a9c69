"""How queues and jobs are put into words and tables."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from runner.cli.exit_codes import of_queue
from runner.cli.show.job_rows import duration, elapsed, why
from runner.cli.show.live_table import choose, render, room_for_jobs, window
from runner.cli.show.queue_status import show
from runner.cli.show.run_view import line
from runner.cli.show.terminal import Screen
from runner.cli.show.text import clean, counted, format_counts, headline, per_hour
from runner.core.history import StoryEntry
from runner.core.states import PENDING, JobState, JobStatus, QueueState
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


def test_a_headline_says_the_state_and_why() -> None:
    """`wait` would end with a code and no reason."""
    queue = {"queue_id": "q", "status": "failed", "reason": "job 'a' failed"}
    assert headline(queue) == "q failed: job 'a' failed"
    assert headline({"queue_id": "q", "status": "running", "paused": True}) == "q running, paused"
    assert format_counts({"completed": 3, "failed": 0, "running": 1}) == "3 completed, 1 running"
    assert counted(1, "job") == "1 job" and counted(12_000, "job") == "12,000 jobs"


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
    assert elapsed({**job, "timeout": "1m0s"}) == "1m1s, over 1m0s"
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
    retried = StoryEntry(0.0, 0, "attempt_failed", {"attempt": 1, "then": "retry 1 of 2 in 5s"})
    assert line(retried, ["a"]) == "a failed attempt=1; retry 1 of 2 in 5s"


def test_a_price_is_told_in_plain_digits() -> None:
    """`$1e-05 an hour` is no price."""
    prices = {0.0416: "$0.0416", 1.2: "$1.20", 3.0: "$3.00", 0.00001: "$0.00001", 0: "$0.00"}
    assert all(
        per_hour(price) == f"{format_counts} an hour" for price, format_counts in prices.items()
    )
    assert per_hour(1e-7) == "less than $0.00001 an hour"


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


def drawn(queue: dict[str, Any], jobs: list[dict[str, Any]], width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(queue, jobs, width))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_table_that_is_too_long_says_how_many_more_there_are() -> None:
    """Twelve of thirty jobs would be missing without a word."""
    queue = {"queue_id": "q", "status": "running", "counts": {"completed": 28, "running": 2}}
    jobs = [{"job_id": f"j{n}", "status": "completed", "attempt": 1} for n in range(18)]
    assert drawn(queue, jobs, 80).splitlines()[-1] == "+12 more: 10 completed, 2 running"
    only = render(queue, jobs, 80, ["completed"]).plain
    assert only.splitlines()[-1] == "+10 more: 10 completed"
    chosen = choose([{**jobs[0], "status": s} for s in ("completed", "failed", "running")], 2)
    assert [job["status"] for job in chosen] == ["failed", "running"]


def test_a_table_has_no_more_lines_than_its_terminal() -> None:
    """The heads, or how many more there are, would be scrolled away."""
    counts = {"failed": 300, "completed": 200}
    queue = {"queue_id": "q" * 90, "status": "failed", "counts": counts, "reason": "it " * 30}
    job = {"job_id": "j" * 60, "status": "failed", "attempt": 1, "error_message": "x " * 200}
    for screen in (Screen(40, 24), Screen(80, 24), Screen(200, 50)):
        jobs = [job] * room_for_jobs(queue, screen)
        assert len(drawn(queue, jobs, screen.columns).splitlines()) == screen.lines - 1


def test_a_long_status_is_collapsed_to_what_matters_with_its_summary_last() -> None:
    """Of 500 jobs the one that failed would be scrolled away, and the summary with it."""
    counts = {"completed": 490, "failed": 1, "pending": 9}
    queue = {"queue_id": "q", "queue_name": "n", "status": "failed", "counts": counts}
    done = {"status": "completed", "attempt": 1, "exit_code": 0}
    jobs = [{**done, "job_id": f"j{n}"} for n in range(490)]
    jobs[7] |= {"results_uploaded": False, "result_error": "'m.pt' matches nothing"}
    jobs.append({"job_id": "bad", "status": "failed", "attempt": 1, "exit_code": 3})
    jobs += [{"job_id": f"p{n}", "status": "pending", "attempt": 0} for n in range(9)]
    answer = {"queue": queue, "jobs": jobs}
    lines = show(answer, Screen(80, 24), collapse=True).splitlines()
    assert len(lines) < 24 and lines[-1] == "Jobs:        490 completed, 1 failed, 9 pending"
    assert [line.split()[0] for line in lines[1:3]] == ["j7", "bad"]
    assert "+489 completed (--all shows all)" in lines
    assert "p8 " in "\n".join(lines)
    everything = show(answer, Screen(80, 24)).splitlines()
    assert sum(line.startswith("j") for line in everything) == 490
    assert everything[-1] == lines[-1]
    few = show({"queue": queue, "jobs": jobs[:3]}, Screen(80, 24), collapse=True).splitlines()
    assert few[0].startswith("Queue ID:") and few[-1].startswith("j2")


def test_a_table_takes_nothing_for_markup() -> None:
    """A reason in brackets would vanish, a control sequence act."""
    job = {"job_id": "a", "status": "failed", "attempt": 1, "error_message": "[red]x\x1b[0m"}
    queue = {"queue_id": "q", "status": "failed", "counts": {"failed": 1}, "reason": "[b]y"}
    shown = drawn(queue, [job], 100)
    assert r"[red]x\x1b[0m" in shown and "[b]y" in shown and "\x1b" not in shown
