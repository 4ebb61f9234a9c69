"""One POST, whatever the other end makes of it; a program, whatever it does."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from receiver import Manner, Receiver

from runner.core.notice_forms import Message
from runner.core.states import NoticeState
from runner.host.programs import run_program
from runner.host.webhooks import NoAnswerError, post
from runner.model.notify import EXEC
from runner.rights import Rights
from runner.service.notices.delivery import Sender

SECRET = "verysecret"
NOBODY = Rights(65534, 65534, (65534,))
MESSAGE = Message(NoticeState("a" * 32, "failed", "x", time.time()), "q", "n", "r")
SENDER = Sender({"PATH": "/usr/bin:/bin"}, lambda: None)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_what_is_sent(receiver: Receiver) -> None:
    """A receiver could not drop doubles, nor know what came."""
    attempt = SENDER.deliver(receiver.url(SECRET), MESSAGE)
    assert (attempt.error, attempt.told) == (None, "HTTP 200: ok")
    (came,) = receiver.received
    assert came.key == came.body["id"] == "a" * 32
    assert came.headers["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("manner", "error", "hopeless"),
    [
        (502, "HTTP 502", False),
        (429, "HTTP 429", False),
        (404, "HTTP 404", True),
        (302, "HTTP 302: redirects are not followed", True),
        ("reset", "no connection: connection reset by peer", False),
        ("close", "it closed the connection without an answer", False),
        ("garbage", "its answer is not HTTP (BadStatusLine)", False),
    ],
)
def test_rude_answers(receiver: Receiver, manner: Manner, error: str, hopeless: bool) -> None:
    """A notice would be taken for told, or its URL stand in a log."""
    receiver.manner = lambda *_: manner
    attempt = SENDER.deliver(receiver.url(SECRET), MESSAGE)
    assert (attempt.error, attempt.hopeless) == (error, hopeless)
    assert len(receiver.received) == 1


@pytest.mark.parametrize("manner", ["hang", "drip"])
def test_a_try_ends_in_time(receiver: Receiver, manner: Manner) -> None:
    """A server that sends a byte a second would hold a try for hours."""
    receiver.manner = lambda *_: manner
    begun = time.monotonic()
    with pytest.raises(NoAnswerError, match="no answer within"):
        post(receiver.url(), b"{}", {"Idempotency-Key": "k"}, 0.3)
    assert time.monotonic() - begun < 5


def test_nobody_there(receiver: Receiver) -> None:
    """The reason would be a traceback."""
    receiver.close()
    assert SENDER.deliver(receiver.url(), MESSAGE).error == "no connection: connection refused"
    told = SENDER.deliver("https://nobody.invalid/x", MESSAGE)
    assert told.error == "the name of its host is not known"


def program(folder: Path, text: str) -> str:
    path = folder / "tell"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_program_is_told_by_its_input(tmp_path: Path) -> None:
    """What is told would stand in `ps`, for each user of the machine to read."""
    kept, said = tmp_path / "kept", tmp_path / "said"
    path = program(
        tmp_path, f'cat > {kept}; echo "$# $RUNNER_NOTICE_EVENT $RUNNER_NOTICE_ID $PWD" > {said}'
    )
    assert SENDER.deliver(EXEC + path, MESSAGE).error is None
    assert json.loads(kept.read_bytes())["queue_id"] == "q"
    assert said.read_text().split() == ["0", "failed", "a" * 32, "/"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("echo no >&2; exit 3", "exit status 3: no"),
        ("kill -9 $$", "signal 9"),
        ("sleep 60", "did not end within 0 s"),
        ("sleep 60 & exit 3", "exit status 3"),
        ("sleep 60 & exit 0", None),
    ],
)
def test_programs_that_fail(tmp_path: Path, text: str, error: str | None) -> None:
    """A program that hangs would hold up a try for ever, or live on."""
    assert run_program(program(tmp_path, text), b"{}", SENDER.environment, None, 0.4) == error


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """The reason would be a traceback."""
    told = run_program(str(tmp_path / "none"), b"", {}, None, 1.0)
    assert told == "can't be run: No such file or directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs a program as another user")
def test_a_program_has_the_job_users_rights() -> None:
    """What the settings name would run as root, on the word of a job."""
    # Not below pytest's folders: those are root's alone.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = program(folder, 'echo "$(id -u) $(id -G) $(grep CapEff /proc/self/status)"; exit 9')
        told = run_program(path, b"", {"PATH": "/usr/bin:/bin"}, NOBODY, 5.0)
    assert told == "exit status 9: 65534 65534 CapEff:\t0000000000000000"
