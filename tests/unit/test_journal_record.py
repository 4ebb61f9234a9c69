"""How an event is written for the journal (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.cli.daemon_log import record
from runner.host.journal import LONGEST, encode, field_name, is_journal


def test_a_plain_value_is_a_line_and_any_other_is_counted() -> None:
    """A value with a newline would be read as fields of the sender's choice."""
    assert encode({"A": "x=y"}) == b"A=x=y\n"
    assert encode({"A": "1\nB=2"}) == b"A\n" + (5).to_bytes(8, "little") + b"1\nB=2\n"
    assert encode({"A": "ü\udcff"}) == "A=ü\\udcff\n".encode()


def test_a_value_that_is_too_long_is_cut_and_says_so() -> None:
    """The journal would refuse the whole record."""
    made = encode({"A": "ü" * LONGEST}).decode()
    assert len(made.encode()) < LONGEST + 40 and made.endswith(f"… ({LONGEST} bytes cut)\n")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("exit_code", "EXIT_CODE"),
        ("_PID", "PID"),
        ("1a-b", "A_B"),
        ("ü", "FIELD"),
        ("x" * 99, "X" * 64),
    ],
)
def test_any_name_becomes_one_that_the_journal_takes(name: str, field: str) -> None:
    """The journal drops a field whose name it doesn't like."""
    assert field_name(name) == field


def test_a_record_has_a_line_for_people_and_a_field_for_each_value() -> None:
    """`journalctl -o json` would not say which job an entry speaks of."""
    event = {"level": "info", "event": "attempt_ended", "queue": "q", "job": "train", "attempt": 2}
    assert record({**event, "timed_out": False, "duration": 2.04, "reason": None}) == {
        "MESSAGE": "q: train ended attempt=2 timed_out=False reason=None in=2s",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "runner",
        "RUNNER_EVENT": "attempt_ended",
        "QUEUE": "q",
        "JOB": "train",
        "ATTEMPT": "2",
        "TIMED_OUT": "false",
        "DURATION": "2.04",
    }


def test_no_value_takes_the_place_of_the_message() -> None:
    """One event's own field would hide what has happened."""
    made = record(
        {"level": "error", "event": "x", "message": "m", "priority": 9, "exception": "a\nb"}
    )
    assert made["MESSAGE"] == "runner x message=m priority=9\na\nb" and made["PRIORITY"] == "3"
    assert made["RUNNER_MESSAGE"] == "m" and made["RUNNER_PRIORITY"] == "9"
    assert made["EXCEPTION"] == "a\nb"


def test_the_journal_is_where_the_variable_says_and_still_there(tmp_path: Path) -> None:
    """`runner daemon 2>file` in a unit would leave the file empty."""
    with open(tmp_path / "log", "w") as file:
        found = os.fstat(file.fileno())
        told = f"{found.st_dev}:{found.st_ino}"
        assert is_journal(file.fileno(), {"JOURNAL_STREAM": told})
        for other in ("", "1:2", "x", f"{told}0", told.replace(":", " ")):
            assert not is_journal(file.fileno(), {"JOURNAL_STREAM": other})
        assert not is_journal(file.fileno(), {})
    assert not is_journal(9999, {"JOURNAL_STREAM": told})
