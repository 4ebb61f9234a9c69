"""What the real daemon writes into a journal: every event with its fields, and nothing secret."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from manager import Journal, stream_of
from test_daemon import simple, submit
from world import World

from runner.host.journal import Journal as Sender

DAEMON = """\
import sys
from pathlib import Path
from runner.host import journal
journal.SOCKET = Path(sys.argv.pop(1))
from runner.cli.main import main
sys.exit(main())
"""
"""The daemon, with another place for the journal's socket than systemd's."""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal")
    yield made
    made.close()


@contextmanager
def daemon_of(world: World, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    log = world.home / "stderr"
    log.touch()
    env = {**world.env, "JOURNAL_STREAM": stream_of(log)}
    with open(log, "ab") as stderr:
        started = subprocess.Popen(
            [sys.executable, "-c", DAEMON, str(path), "daemon"],
            cwd=world.home,
            env=env,
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        world.until((world.run_dir / "runner.sock").exists)
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()


def test_every_event_has_its_fields(world: World, journal: Journal) -> None:
    """`journalctl -u runner JOB=train` would find nothing, or show what is nobody's business."""
    with daemon_of(world, journal.path) as daemon:
        loud = simple("loud", "echo an-output; echo $TOKEN; exit 3", env={"TOKEN": "s3cr3t-of-job"})
        submit(world, loud, simple("ok"), on_failure="continue", env={"KEY": "s3cr3t-of-queue"})
        assert world.call("wait").returncode == 100
        daemon.terminate()
        world.until(lambda: journal.all and daemon.poll() is not None)
    assert world.stderr == "", "once, and not as plain lines too"
    records = journal.records
    by_event = {record["RUNNER_EVENT"]: record for record in records}
    assert {"daemon_started", "queue_opened", "queue_failed", "daemon_stopped"} <= by_event.keys()
    started = next(
        r for r in records if r["RUNNER_EVENT"] == "attempt_started" and r.get("JOB") == "loud"
    )
    assert (started["QUEUE"], started["ATTEMPT"], started["PRIORITY"]) == ("q", "1", "6")
    assert started["MESSAGE"] == f"q: loud started attempt=1 pid={started['PID']}"
    warnings = {r.get("JOB", "-"): r["MESSAGE"] for r in records if r["PRIORITY"] == "4"}
    assert warnings.keys() == {"loud", "-"} and "loud failed attempt=1" in warnings["loud"]
    assert {record["SYSLOG_IDENTIFIER"] for record in records} == {"runner"}
    everything = b"".join(journal.all)
    assert b"s3cr3t" not in everything and b"an-output" not in everything


def test_a_journal_that_hangs_holds_nobody_up(tmp_path: Path, journal: Journal) -> None:
    """A service could not be stopped, each of its last words waiting in vain."""
    sender = Sender(journal.path)
    begin = time.monotonic()
    taken = [sender.send({"MESSAGE": str(n)}) for n in range(400)]
    assert not taken[-1] and time.monotonic() - begin < 5
    count = len(journal.all)
    assert taken == [True] * count + [False] * (400 - count)
    assert sender.send({"MESSAGE": "again"}) and len(journal.all) == count + 1
    sender.close()


def test_without_its_socket_the_stream_is_still_there(world: World, tmp_path: Path) -> None:
    """Events would be lost while the journal is started again, or for good without one."""
    with daemon_of(world, tmp_path / "nobody") as daemon:
        submit(world, simple())
        assert world.call("wait").returncode == 0
        daemon.terminate()
        assert daemon.wait(20) == 0
    assert re.search(r"^q: ok completed attempt=1 .*in=", world.stderr, re.M), world.stderr


def test_large_and_many_lined_values_arrive(tmp_path: Path, journal: Journal) -> None:
    """The one record that matters, with the traceback, would be the one that is lost."""
    code = (
        "import sys; from pathlib import Path; from runner.host import journal\n"
        "from runner.cli.daemon_log import log_events; import structlog\n"
        "journal.SOCKET = Path(sys.argv[1]); outlet = log_events(); log = structlog.get_logger()\n"
        "try: raise ValueError('first\\nsecond')\n"
        "except ValueError: log.exception('broken', queue='q', large='x' * 1_000_000)\n"
        "log.warning('many', **{f'f{n}': 'y' * 20_000 for n in range(40)}); outlet.finish()"
    )
    log = tmp_path / "log"
    log.touch()
    with open(log, "ab") as stderr:
        subprocess.run(
            [sys.executable, "-c", code, str(journal.path)],
            stderr=stderr,
            env={**os.environ, "JOURNAL_STREAM": stream_of(log)},
            check=True,
        )
    (broken,) = journal.records
    assert broken["EXCEPTION"].endswith("ValueError: first\nsecond") and broken["PRIORITY"] == "3"
    assert broken["EXCEPTION"] in broken["MESSAGE"]
    assert broken["LARGE"].startswith("xxx") and broken["LARGE"].endswith("bytes cut)")
    assert log.read_text().startswith("runner many f0=yyy"), "too large for any datagram"


def test_a_person_at_a_terminal_reads_lines_of_words(world: World) -> None:
    """Who tries the daemon by hand would have to read logfmt."""
    ours, theirs = pty.openpty()
    try:
        daemon = world.start("daemon", stderr=theirs)
        os.close(theirs)
        world.until((world.run_dir / "runner.sock").exists)
        submit(world, simple())
        assert world.call("wait").returncode == 0
        daemon.terminate()
        assert daemon.wait(20) == 0
        text = read_all(ours)
    finally:
        os.close(ours)
    assert re.search(
        r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ q: ok completed attempt=1 exit_code=0 in=\S+\r$",
        text,
        re.M,
    )
    assert "event=" not in text and "attempt_intended" not in text


def read_all(fd: int) -> str:
    data, deadline = b"", time.monotonic() + 5
    while time.monotonic() < deadline and select.select([fd], [], [], 0.2)[0]:
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        if not piece:
            break
        data += piece
    return data.decode()
