"""What a person sees on a terminal while a queue runs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest
from world import RUNNER, World

LONG = {"job_id": "long", "command": "touch began; exec sleep 60", "timeout": "2m"}
OK = {"job_id": "ok", "command": "true", "timeout": "1m"}
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")


class Terminal:
    """A terminal with one command on it; ``shown`` is all that it has received."""

    def __init__(
        self, world: World, *arguments: str, columns: int = 100, lines: int = 30, **env: str
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.shown = ""
        # The size is the terminal's own, whatever the tests' own one has.
        ours = {name: v for name, v in world.env.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [*RUNNER, *arguments],
            cwd=world.home,
            env={**ours, "TERM": "xterm-256color", **env},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def read(self) -> None:
        """Take what is there now."""
        while select.select([self.master], [], [], 0)[0]:
            self.shown += os.read(self.master, 65_536).decode()

    def until(self, pattern: str) -> str:
        """Read until a text is on the screen, in one picture."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            select.select([self.master], [], [], 0.1)
            self.read()
            if found := re.search(pattern, SEQUENCE.sub("", self.shown)):
                return found[0]
        raise AssertionError(f"{pattern!r} never came:\n{self.shown[-3000:]!r}")

    def end(self) -> int:
        """Wait for the command, reading on; its exit code."""
        deadline = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < deadline:
            select.select([self.master], [], [], 0.05)
            self.read()
        self.read()
        return self.process.wait(1)

    @property
    def picture(self) -> list[str]:
        """The lines of the last picture, from its heads on, without control sequences."""
        last = self.shown[self.shown.rfind("JOB ") :]
        return SEQUENCE.sub("", last).replace("\r", "").rstrip("\n").split("\n")

    @property
    def is_sane(self) -> bool:
        """The cursor can be seen, and the terminal's modes are as they were."""
        cursor = re.findall(r"\x1b\[\?25([hl])", self.shown)
        return termios.tcgetattr(self._slave) == self.before and (not cursor or cursor[-1] == "h")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)


@pytest.fixture
def terminals(world: World) -> Iterator[list[Terminal]]:
    """Keeps terminals until the end of the test."""
    kept: list[Terminal] = []
    yield kept
    for each in kept:
        each.close()


def test_a_run_shows_a_live_table_and_ctrl_c_leaves_the_terminal_sane(
    world: World, terminals: list[Terminal]
) -> None:
    """A user would see nothing of what goes on, or be left without a cursor."""
    failed = {"job_id": "bad", "command": "exit 3", "timeout": "1m"}
    world.document(failed, LONG, {**OK, "depends_on": ["long"]}, on_failure="continue")
    terminals.append(terminal := Terminal(world, "run", "q.json"))
    world.until_file("began")
    terminal.until(r"JOB +STATE +ATTEMPT +ELAPSED +EXIT +REASON")
    terminal.until(r"bad +failed +1 +\S+ +3 +command execution failed: exit status 3")
    terminal.until(r"long +running +1 +1\.\d+s of 2m0s +- +PID \d+")
    assert "\x1b[?25l" not in terminal.shown
    terminal.until(r"ok +pending +0 +- +-")
    assert COLOUR.search(terminal.shown)
    terminal.type(b"\x03")
    assert terminal.end() == 130
    terminal.until(r"runner run: Ctrl-C: ending the running jobs; the same command resumes")
    terminal.until(r"q: interrupted")
    terminal.until(r"to resume it, give the same command")
    assert terminal.is_sane


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_every_table_fits_its_terminal(
    world: World, terminals: list[Terminal], columns: int
) -> None:
    """A long id would leave one letter of a state, and the jobs below the edge would be lost."""
    name = "preprocess-imagenet-2012-shard-000001-of-000128-with-augmentation-v3-and-more"
    bad = {"job_id": name, "command": "exit 3", "timeout": "1m"}
    jobs = [{**OK, "job_id": f"j{n}"} for n in range(29)]
    world.document(bad, *jobs, on_failure="continue", max_parallel_jobs=8)
    terminals.append(run := Terminal(world, "run", "q.json", columns=columns, lines=24))
    assert run.end() == 100
    verbs = (["status"], ["status", "--all"], ["status", "--watch"], ["queues"])
    shown = [Terminal(world, *verb, columns=columns, lines=24) for verb in verbs]
    terminals.extend(shown)
    assert all(each.end() == 0 for each in shown)
    for each in (run, shown[2]):
        assert re.match(r"prepro\S+ +failed", each.picture[1])
        more = [n for n, line in enumerate(each.picture) if re.match(r"\+1\d more: 1\d comp", line)]
        assert more and more[0] < 22
    for each in (*shown[:3], run):
        assert all(len(line) <= columns for line in each.picture if "runner run:" not in line)
    status, every, _, queues = (SEQUENCE.sub("", each.shown) for each in shown)
    assert re.search(r"^prepro\S+ +failed", status, re.M)
    assert "+29 completed (--all shows all)" in status and "\nj28 " not in status
    assert status.rstrip().endswith("Jobs:        29 completed, 1 failed")
    assert "\nj28 " in every and "failed" in queues.splitlines()[1]


def test_a_word_of_ours_is_told_once(world: World, terminals: list[Terminal]) -> None:
    """What was said before the table came would be there again below it."""
    assert world.call("run", world.document(OK)).returncode == 0
    terminals.append(again := Terminal(world, "run", "q.json", "--fresh"))
    assert again.end() == 0
    assert again.shown.count("the former run is kept as q.") == 1
    terminals.append(idle := Terminal(world, "run", "q.json"))
    assert idle.end() == 0
    assert idle.shown.count("q had ended before (completed): nothing was started") == 1


def test_no_color_is_heard(world: World, terminals: list[Terminal]) -> None:
    """Who can't read our colours could not turn them off."""
    world.document(OK)
    terminals.append(run := Terminal(world, "run", "q.json", NO_COLOR="1"))
    assert run.end() == 0
    run.until(r"ok +completed +1")
    terminals.append(watch := Terminal(world, "status", "--watch", NO_COLOR="1"))
    assert watch.end() == 0
    watch.until(r"ok +completed +1")
    assert not COLOUR.search(run.shown + watch.shown)
    assert run.is_sane and watch.is_sane


def test_a_dumb_terminal_gets_plain_lines(world: World, terminals: list[Terminal]) -> None:
    """A console that knows no sequences would be full of them."""
    world.document(OK)
    terminals.append(terminal := Terminal(world, "run", "q.json", TERM="dumb"))
    assert terminal.end() == 0
    assert "\x1b" not in terminal.shown and "ok completed attempt=1" in terminal.shown


def test_a_watch_is_a_live_table_too(world: World, terminals: list[Terminal]) -> None:
    """A queue of the daemon could only be looked at once."""
    run = world.start("run", world.document(LONG, *({**OK, "job_id": f"j{n}"} for n in range(99))))
    world.until_file("began")
    terminals.append(terminal := Terminal(world, "status", "--watch", "--exit-code"))
    terminal.until(r"q: running \(99 pending, 1 running\)")
    terminal.until(r"long +running +1 +\S+ of 2m0s")
    terminal.until(r"j9 +pending")
    assert world.call("cancel", "--all").returncode == 0
    assert terminal.end() == 103
    terminal.until(r"q: cancelled \(100 cancelled\)")
    assert run.wait(20) == 103 and terminal.is_sane


def test_a_stopped_terminal_stops_no_queue(world: World, terminals: list[Terminal]) -> None:
    """A Ctrl-S, or a selection with the mouse, would stop a night's work."""
    gate = {"job_id": "gate", "command": "touch began; until [ -e go ]; do sleep 0.02; done"}
    jobs = [{**OK, "job_id": f"j{n}"} for n in range(20)]
    world.document({**gate, "timeout": "1m"}, *jobs)
    terminals.append(terminal := Terminal(world, "run", "q.json"))
    world.until_file("began")
    terminal.until(r"gate +running")
    terminal.type(b"\x13")
    (world.home / "go").touch()
    world.until(lambda: {job["status"] for job in world.jobs().values()} == {"completed"})
    terminal.type(b"\x11")
    assert terminal.end() == 0
    terminal.until(r"q: completed \(21 completed\)")


def test_a_log_has_both_streams_under_headings(world: World, terminals: list[Terminal]) -> None:
    """A person would see an empty log of a job that had told on stderr why it failed."""
    told = {"job_id": "told", "command": "echo out; printf 'err 1\nerr 2' >&2", "timeout": "1m"}
    assert world.call("run", world.document(told, {**OK, "job_id": "quiet"})).returncode == 0
    shown = [
        Terminal(world, "logs", *words)
        for words in (["told"], ["told", "-n", "1"], ["told", "--stderr"], ["quiet"])
    ]
    terminals.extend(shown)
    assert all(each.end() == 0 for each in shown)
    both, last, stderr, quiet = (each.shown.replace("\r", "") for each in shown)
    assert both == "==> stdout, attempt 1 <==\nout\n==> stderr, attempt 1 <==\nerr 1\nerr 2"
    assert last == "==> stdout, attempt 1 <==\nout\n==> stderr, attempt 1 <==\nerr 2"
    assert stderr == "err 1\nerr 2"
    assert quiet == "runner logs: attempt 1 of quiet has written nothing\n"


def test_a_job_is_followed_from_before_its_start_through_its_attempts(
    world: World, terminals: list[Terminal]
) -> None:
    """Who follows a job would have to ask again for each attempt, and too early not at all."""
    gate = {"job_id": "gate", "command": "touch began; until [ -e go ]; do sleep 0.02; done"}
    flaky = {
        "job_id": "flaky",
        "command": "echo out $JOB_ATTEMPT; echo err $JOB_ATTEMPT >&2; test $JOB_ATTEMPT = 3",
        "timeout": "1m",
        "depends_on": ["gate"],
        "retry": {"max_attempts": 3, "base_delay": "10ms"},
    }
    run = world.start("run", world.document({**gate, "timeout": "1m"}, flaky))
    world.until_file("began")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    piped = subprocess.Popen(
        [*RUNNER, "logs", "flaky", "-f", "--stdout"], env=world.env, cwd=world.home, **pipes
    )
    assert piped.stderr is not None
    assert "flaky is pending: waiting" in piped.stderr.readline()
    terminals.append(terminal := Terminal(world, "logs", "flaky", "-f"))
    terminal.until("runner logs: flaky is pending: waiting for it to start")
    (world.home / "go").touch()
    out, notes = piped.communicate(timeout=30)
    assert out == "out 1\nout 2\nout 3\n" and "attempt 2 has ended" in notes
    assert terminal.end() == piped.returncode == run.wait(20) == 0
    terminal.until("runner logs: attempt 1 has ended")
    for attempt in (1, 2, 3):
        assert f"==> stderr, attempt {attempt} <==\nerr {attempt}" in terminal.shown.replace(
            "\r", ""
        )


def test_a_log_is_followed_to_its_end(world: World) -> None:
    """`logs -f` would end too early, or never."""
    command = "for i in 1 2 3; do echo $i; until [ -e go$i ]; do sleep 0.02; done; done; echo end"
    run = world.start("run", world.document({"job_id": "a", "command": command, "timeout": "1m"}))
    world.until(lambda: world.jobs().get("a", {}).get("status") == "running")
    logs = world.start("logs", "-f", "a", stdout=subprocess.PIPE)
    assert logs.stdout is not None
    for n in (1, 2, 3):
        assert logs.stdout.readline() == b"%d\n" % n
        (world.home / f"go{n}").touch()
    assert logs.stdout.read() == b"end\n"
    assert logs.wait(20) == 0 and run.wait(20) == 0
