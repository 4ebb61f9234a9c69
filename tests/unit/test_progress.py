"""What counts as an upload's progress, and what doesn't."""

from __future__ import annotations

import pytest

from runner.aws.request_body import Body, begin_sending
from runner.results.upload.progress import Progress


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_only_what_was_never_sent_before_is_progress(clock: Clock) -> None:
    """A store that refuses each body at its end would be tried for ever, busy and in vain."""
    made = Progress(clock)
    for count in (1, 2, 3):
        clock.now += 10
        made.sent("k", 0, count)
        assert made.seconds_without() == 0
    for count in (1, 2, 3):
        clock.now += 10
        made.sent("k", 0, count)
    assert made.seconds_without() == 30
    made.sent("k", 8, 1)
    assert made.seconds_without() == 0
    clock.now += 5
    made.made()
    assert made.seconds_without() == 0


def test_work_on_this_machine_is_not_waiting(clock: Clock) -> None:
    """A terabyte that is nearly stored would be cut while it is compared with what is there."""
    made = Progress(clock)
    clock.now += 3
    with made.working():
        clock.now += 500
        with made.working():
            clock.now += 500
            assert made.seconds_without() == 3
        clock.now += 500
    assert made.seconds_without() == 3
    with made.working():
        clock.now += 7
        made.made()
        clock.now += 7
    assert made.seconds_without() == 0
    clock.now += 1
    assert made.seconds_without() == 1


def test_a_body_tells_what_was_sent_and_not_what_was_read(clock: Clock) -> None:
    """Reading a body to sign it would be taken for sending it."""
    told: list[int] = []
    data = bytes(range(256)) * 4096
    body = Body(data, told.append)
    assert len(body) == len(data)

    class Request:
        def __init__(self, body: object) -> None:
            self.body = body

    def read() -> bytes:
        return b"".join(iter(lambda: body.read(16 << 10), b""))

    assert read() == data and not told
    body.seek(0)
    begin_sending(Request(body))
    begin_sending(Request(b"bytes"))
    assert read() == data
    assert told == sorted(told) and told[-1] == len(data)
    before = len(told)
    body.seek(0)
    assert read() == data and len(told) == before
    assert body.seek(0, 2) == len(data) and body.tell() == len(data)
