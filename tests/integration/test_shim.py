"""Real shims: what a command is given, and how its end is told."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
from shim_pool import BASE, OK, Ended, Pool, play

from runner.process import limits

LONG = "ü" * 80


def test_a_command_has_three_descriptors(tmp_path: Path) -> None:
    """Locks, the database, sockets or a caller's files would live on in the jobs."""
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)

    async def story(pool: Pool) -> None:
        ended, output = await pool.run("exec ls -l /proc/self/fd")
        assert ended == OK
        words = [line.split() for line in output.decode().splitlines() if "->" in line]
        # ls itself has the folder open.
        lines = {w[-3]: w[-1] for w in words if not w[-1].startswith("/proc/")}
        assert lines.keys() == {"0", "1", "2"}
        assert lines["0"] == "/dev/null"
        assert lines["1"].endswith(".out") and lines["2"].endswith(".err")

    try:
        play(tmp_path, story)
    finally:
        os.close(inherited)


def test_a_command_starts_with_clean_signals(tmp_path: Path) -> None:
    """A pipe's writer would not end with its reader, or SIGTERM would not end a job."""

    async def story(pool: Pool) -> None:
        _, output = await pool.run("grep -E '^(Sig|Shd)(Pnd|Blk|Ign)' /proc/self/status")
        found = {line.split()[0]: int(line.split()[1], 16) for line in output.splitlines()}
        assert len(found) == 4
        # glibc's posix_spawn ignores its own two, 32 and 33; nobody else can use them.
        assert all(mask & ~(1 << 31 | 1 << 32) == 0 for mask in found.values()), found
        ended, _ = await pool.run("yes | head -1; exit ${PIPESTATUS[0]}")
        assert ended == ("exit", "141")

    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        play(tmp_path, story)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGTERM, previous)


def test_a_command_has_a_session_a_folder_and_a_umask(tmp_path: Path) -> None:
    """A terminal's signals would reach jobs, or their files would be writable by all."""

    async def story(pool: Pool) -> None:
        command = "umask; pwd; ps -o pid=,sid=,pgid=,tty= -p $$; cat"
        _, output = await pool.run(command)
        mask, folder, numbers = output.decode().splitlines()
        pid, session, group, terminal = numbers.split()
        assert (mask, folder) == ("0022", str(tmp_path))
        assert pid == session == group and terminal == "?"

    previous = os.umask(0o077)
    try:
        play(tmp_path, story)
    finally:
        os.umask(previous)


def test_the_environment_arrives_byte_by_byte(tmp_path: Path) -> None:
    """A caller's variable that is no UTF-8 would be changed, lost, or break the start."""
    odd = b"\xff\xfe=\xe9\n \xed\xa0\x80"
    base = {**BASE, "ODD": os.fsdecode(odd), "OVER": "base", "EMPTY": ""}

    async def story(pool: Pool) -> None:
        own = {"OWN": "ü 𝄞 = \t", "OVER": "own"}
        _, output = await pool.run("cat /proc/$$/environ; true", environment=own)
        found = dict(pair.split(b"=", 1) for pair in output.split(b"\0") if pair)
        del found[b"RUNNER_ATTEMPT_TOKEN"]
        assert found == {
            b"PATH": os.defpath.encode(),
            b"HOME": b"/",
            b"ODD": odd,
            b"OVER": b"own",
            b"OWN": "ü 𝄞 = \t".encode(),
            b"EMPTY": b"",
        }

    play(tmp_path, story, base=base)


def test_a_command_gets_the_limit_of_descriptors_that_we_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that use select(2) would crash under the daemon's own high limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(limits, "_given", None)

    async def story(pool: Pool) -> None:
        _, output = await pool.run("ulimit -Sn; ulimit -Hn")
        hard = "unlimited" if before[1] == resource.RLIM_INFINITY else str(before[1])
        assert output.decode().split() == ["512", hard]

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        limits.allow_descriptors(1024)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1024
        limits.allow_descriptors(2048)
        play(tmp_path, story)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_request_may_be_larger_than_a_socket_takes_at_once(tmp_path: Path) -> None:
    """A long command with a large environment would be cut off, or block the daemon."""

    async def story(pool: Pool) -> None:
        own = {f"LARGE_{number}": "x" * 100_000 for number in range(10)}
        command = f": {'y' * 131_000}\nenv | wc -c"
        ended, output = await pool.run(command, environment=own)
        assert ended == OK and int(output) > 1_000_000

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("true", OK),
        ("exit 255", ("exit", "255")),
        ("exit 137", ("exit", "137")),
        ("kill -KILL $$", ("signal", "SIGKILL")),
        ("kill -TERM $$", ("signal", "SIGTERM")),
        ("ulimit -c 0; kill -SEGV $$", ("signal", "SIGSEGV")),
        ("kill -36 $$", ("signal", "SIGRTMIN+2")),
        ("sleep 0.05; exit 7", ("exit", "7")),
    ],
)
def test_an_end_is_told_as_what_it_is(tmp_path: Path, command: str, what: Any) -> None:
    """A signal would pass for an exit code, or the other way round."""

    async def story(pool: Pool) -> None:
        token = pool.start(command)
        ended: Ended = await pool.heard.wait("ended", token)
        pid, since, adopted = await pool.heard.wait("started", token)
        assert ended.what == what and not ended.background and not adopted and pid > 0
        assert ended.end is not None and ended.since == since
        assert 0 < ended.end.mono - since < 5
        state = pool.slots.read(0)
        assert state.command and state.command.pid == pid
        assert state.exit and (state.exit.kind, state.exit.value) == what

    play(tmp_path, story)


def test_a_shim_is_used_again(tmp_path: Path) -> None:
    """Every attempt would cost a new shim."""

    async def story(pool: Pool) -> None:
        shims = set()
        for _ in range(5):
            _, output = await pool.run("echo $PPID")
            shims.add(output)
        assert len(shims) == 1

    play(tmp_path, story)


def test_a_large_environment_is_unrunnable(tmp_path: Path) -> None:
    """A start that can never succeed would be tried for ever."""

    async def story(pool: Pool) -> None:
        own = {f"LARGE_{number}": "x" * 100_000 for number in range(200)}
        ended, _ = await pool.run("true", environment=own)
        assert ended is not None and ended[0] == "unrunnable" and "too large" in ended[1]
        assert (await pool.run("true"))[0] == OK

    play(tmp_path, story)


@pytest.mark.parametrize("name", ["none", "a file", "f/g", "loop", LONG, "x" * 300], ids=range(6))
def test_a_folder_that_cannot_be_entered_is_unrunnable(tmp_path: Path, name: str) -> None:
    """A wrong working directory would be retried, or its message be lost on its way."""
    (tmp_path / "a file").touch()
    (tmp_path / "f").touch()
    (tmp_path / "loop").symlink_to("loop")
    folder = str(tmp_path / name)

    async def story(pool: Pool) -> None:
        ended, _ = await pool.run("true", cwd=folder)
        assert ended is not None and ended[0] == "unrunnable"
        assert ended[1].startswith(f"working directory {folder} ")
        assert ended[1].endswith("does not exist") == (name in ("none", LONG))
        record = pool.slots.read(0).exit
        assert record is not None and record.kind == "unrunnable"

    play(tmp_path, story)
