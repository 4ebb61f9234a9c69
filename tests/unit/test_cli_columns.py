"""How tables fit the width of a terminal."""

from __future__ import annotations

import pytest

from runner.cli.show import job_rows
from runner.cli.show import live_table as live
from runner.cli.show.columns import Column, Cut, cells_of, fit, line, pad, shortened, table, wrap
from runner.cli.show.machines import COLUMNS as FLEET
from runner.cli.verbs import queues

PLAIN = (Column("A"), Column("BB"))
WHY = "command execution failed: exit status 3; retry 1 of 2 in 5s"
LONG = "preprocess-imagenet-2012-shard-000001-of-000128-with-augmentation"


def test_columns_are_aligned_and_nothing_is_cut_without_a_width() -> None:
    """A long id would push the next column out of line."""
    assert table(PLAIN, [("long", "x"), ("y", "\x07")], None) == [
        "A     BB",
        "long  x",
        "y     \\x07",
    ]
    assert table(PLAIN, [], None) == ["A  BB"]
    wide = table(job_rows.COLUMNS, [(LONG * 3, "failed", "1", "3", "1s", "yes", WHY * 9)], None)
    assert LONG * 3 in wide[1] and WHY * 9 in wide[1]


def test_a_queue_that_nobody_works_on_says_why() -> None:
    """A queue with a damaged record would be listed as running for ever, without a word."""
    damaged = {"queue_id": "q", "status": "running", "blocked": "state.db: the record of job 99"}
    unreadable = {"queue_id": "r", "error": "state.db: file is not a database"}
    failed = {"queue_id": "s", "status": "failed", "reason": "job 'a' failed"}
    rows = queues.rows_of([damaged, unreadable, failed])
    assert [(row[1], row[-1]) for row in rows] == [
        ("running", "state.db: the record of job 99"),
        ("unreadable", "state.db: file is not a database"),
        ("failed", "job 'a' failed"),
    ]


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize(
    ("columns", "row", "whole"),
    [
        (job_rows.COLUMNS, (LONG, "interrupted", "12", "SIGKILL", "2s of 2h0m0s", "no", WHY), 1),
        (live.COLUMNS, (LONG, "interrupted", "12", "2s of 2h0m0s", "SIGKILL", WHY), 1),
        (queues.COLUMNS, (LONG, "interrupted", *["2026-11-20T12:23:52Z"] * 2, WHY), 1),
        (
            FLEET,
            tuple(f"i-0a1b2c3d4e5f60718|{LONG}|request open|g5.48xlarge|on-demand".split("|"))
            + tuple(f"eu-west-1a|22h11m|≥ $123.03|OVERDUE 2d|terminate|{WHY}".split("|")),
            2,
        ),
    ],
)
def test_a_state_is_whole_however_long_the_id(
    columns: tuple[Column, ...], row: tuple[str, ...], whole: int, width: int
) -> None:
    """`completed` and `cancelled` would both be `c…`, or a line longer than the terminal."""
    lines = table(columns, [row], width)
    assert all(cells_of(each) <= width for each in lines)
    assert row[whole] in lines[1]
    assert lines[1].startswith(row[0][:5])
    # A reason is wrapped, never cut.
    assert WHY in " ".join(" ".join(each[-60:].split()) for each in lines) or width < 200
    one = line(columns, fit(columns, [row], width, one_line=True), row)
    assert cells_of(one) <= width and row[whole] in one


def test_an_id_gives_way_before_a_reason() -> None:
    """A reason would be broken into pieces of six letters beside an id in full."""
    row = ("nightly-eval-llama-3-8b-instruct-mmlu", "failed", "1", "1s", "3", WHY)
    widths = fit(live.COLUMNS, [row], 80, one_line=True).widths
    assert widths[5] >= 20 and 12 <= widths[0] < len(row[0])
    assert fit(live.COLUMNS, [row], 200, one_line=True).widths[0] == len(row[0])


def test_a_reason_without_room_has_lines_of_its_own() -> None:
    """On a narrow terminal nobody could read why a job failed."""
    lines = table(job_rows.COLUMNS, [("train", "failed", "1", "3", "1s", "yes", WHY)], 40)
    assert " ".join(" ".join(lines[2:]).split()) == WHY
    assert all(each.startswith("    ") for each in lines[2:])


def test_texts_are_cut_by_what_they_take_on_a_terminal() -> None:
    """A name in Japanese would be twice as wide as its column."""
    assert shortened("shard-000001-of-000128", 12, Cut.MIDDLE) == "shard-…00128"
    assert shortened("abcdef", 6) == "abcdef" and shortened("abcdefg", 6) == "abcde…"
    assert cells_of("日本語") == 6 and cells_of("e\u0301") == 1
    assert cells_of(shortened("日本語日本語", 8, Cut.MIDDLE)) <= 8
    assert pad("日本", 6) == "日本  "
    assert wrap("a bb ccc dddddd e", 4) == ["a bb", "ccc", "dddd", "dd e"]
    assert wrap("", 4) == [""] and wrap("abcdefgh", 4) == ["abcd", "efgh"]
