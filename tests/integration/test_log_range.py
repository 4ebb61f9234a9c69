"""Which part of a log is meant."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.results.download.log_range import Range

BASE = datetime(2026, 11, 28, 9, 0, 0, tzinfo=UTC).timestamp()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def write(fd: int, data: bytes) -> bytes:
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)
    return data


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"one", b"one\n", b"\n\n\n", b"one\ntwo\nthree", b"one\n\ntwo\n", b"x" * 600_000],
)
def test_the_last_lines_are_those_of_tail(log: int, data: bytes) -> None:
    """A person would see one line too many, or half of one."""
    write(log, data)
    lines = data.splitlines(keepends=True)
    for count in range(5):
        wanted = b"".join(lines[len(lines) - min(count, len(lines)) :]) if count else b""
        assert data[Range(lines=count).begin(log) :] == wanted, count
    assert data[Range(count=2).begin(log) :] == data[-2:]


def test_lines_are_counted_across_blocks(log: int) -> None:
    """Of a long log some of the lines that were asked for would be missing."""
    draw = random.Random(4)
    lines = [b"x" * draw.randrange(2000) + b"\n" for _ in range(1000)]
    data = write(log, b"".join(lines))
    for count in (1, 250, 251, 600, 999, 1000, 2000):
        assert data[Range(lines=count).begin(log) :] == b"".join(lines[-count:])


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S,250+00:00", "[%Y-%m-%d %H:%M:%S.5 +0000]"],
)
def test_what_is_since_a_time_begins_with_the_first_line_that_bears_it(log: int, form: str) -> None:
    """The lines of a traceback would be cut off, or an hour of old ones shown."""

    def line(second: int) -> bytes:
        stamp = datetime.fromtimestamp(BASE + second, UTC).strftime(form)
        return f"{stamp} step {second}\n  and a line without\n".encode()

    lines = [line(second) for second in range(20_000)]
    data = write(log, b"".join(lines))
    for second in (0, 1, 777, 12_345, 19_999):
        begin = Range(since=BASE + second).begin(log)
        assert data[begin:] == b"".join(lines[second:]), second
    assert Range(since=BASE + 30_000).begin(log) == len(data)
    assert data[Range(lines=2, since=BASE).begin(log) :] == lines[-1]


def test_a_log_without_times_is_shown_if_it_was_written_to_since(log: int) -> None:
    """What a job has told a minute ago would be left out for want of a date."""
    data = write(log, b"loss 0.1\nloss 0.2\n")
    assert Range(since=BASE).begin(log, BASE + 1) == 0
    assert Range(since=BASE).begin(log, BASE - 1) == len(data)
    assert Range(since=BASE).begin(log) == 0
