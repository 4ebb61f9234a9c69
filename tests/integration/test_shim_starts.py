"""Starts that don't come about: nothing is lost, left behind or run twice."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
from pathlib import Path

import pytest
from shim_pool import OK, Pool, alive, eventually, parent_of, play

from runner.process import spawner


@pytest.mark.parametrize("taken", ["out", "err"])
def test_a_void_start_leaves_no_logs(tmp_path: Path, taken: str) -> None:
    """The next start would find a log in its way that nobody has written."""

    async def story(pool: Pool) -> None:
        paths = {name: tmp_path / f"log.{name}" for name in ("out", "err")}
        paths[taken].write_text("somebody's")
        token = pool.start("true", stdout=str(paths["out"]), stderr=str(paths["err"]))
        reason = await pool.heard.wait("voided", token)
        assert reason == f"File exists: {paths[taken]}"
        assert [path.name for path in paths.values() if path.exists()] == [paths[taken].name]
        assert paths[taken].read_text() == "somebody's"
        assert (await pool.run("true"))[0] == OK

    play(tmp_path, story)


def test_a_command_is_given_to_the_shell_that_was_asked_for(tmp_path: Path) -> None:
    """A job for `sh`, or for a strict bash, would run in another shell without a word."""

    async def story(pool: Pool) -> None:
        strict = ("/bin/bash", "-euo", "pipefail", "-c")
        assert (await pool.run("false; true"))[0] == OK
        assert (await pool.run("false; true", shell=strict))[0] == ("exit", "1")
        show = "tr '\\0' ' ' < /proc/$$/cmdline; :"
        ended, output = await pool.run(show, shell=("/bin/sh", "-c"))
        assert ended == OK and output.startswith(b"/bin/sh -c tr ")
        ended, output = await pool.run("true", shell=("/nowhere/sh", "-c"))
        told = "command could not be run: /nowhere/sh: No such file or directory"
        assert (ended, output) == (("unrunnable", told), b"")

    play(tmp_path, story)


def test_a_folder_of_logs_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """Somebody who tidies up would stop the queue."""

    async def story(pool: Pool) -> None:
        log = tmp_path / "gone" / "too" / "a.out"
        ended, _ = await pool.run("echo here", stdout=str(log))
        assert ended == OK and log.read_text() == "here\n"

    play(tmp_path, story)


def test_without_descriptors_a_start_is_refused(tmp_path: Path) -> None:
    """A daemon short of descriptors would lose an attempt, or its forker."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def story(pool: Pool) -> None:
        lowest = os.open("/dev/null", os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
        try:
            with pytest.raises(OSError, match="Too many") as caught:
                pool.start("true")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert caught.value.errno == errno.EMFILE
        assert (await pool.run("true"))[0] == OK

    play(tmp_path, story)


def test_a_start_may_be_forbidden_before_its_claim(tmp_path: Path) -> None:
    """A job that was cancelled in the moment of its start would run all the same."""

    async def story(pool: Pool) -> None:
        _, output = await pool.run("echo $PPID")
        os.kill(int(output), signal.SIGSTOP)
        token = pool.start(f"touch {tmp_path / 'ran'}")
        assert pool.slots.void(0, token)
        os.kill(int(output), signal.SIGCONT)
        assert await pool.heard.wait("voided", token) is None
        assert not (tmp_path / "ran").exists()

    play(tmp_path, story)


def test_an_idle_shim_that_was_killed_is_replaced(tmp_path: Path) -> None:
    """A start would be lost with the shim that it was given to."""

    async def story(pool: Pool) -> None:
        _, output = await pool.run("echo $PPID")
        shim = int(output)
        os.kill(shim, signal.SIGKILL)
        eventually(lambda: not alive(shim), "its end")
        # The socket is not read before this one is written to it.
        token = pool.start("true")
        assert await pool.heard.wait("voided", token) is None
        ended, output = await pool.run("echo $PPID")
        assert ended == OK and int(output) != shim

    play(tmp_path, story)


def test_a_forker_that_was_killed_is_replaced(tmp_path: Path) -> None:
    """No job could be started any more."""

    async def story(pool: Pool) -> None:
        token = pool.start("sleep 60")
        pid, _, _ = await pool.heard.wait("started", token)
        shim = pool.claimed().claim
        assert shim is not None
        forker = parent_of(shim.pid)
        os.kill(forker, signal.SIGKILL)
        eventually(lambda: not alive(forker), "its end")
        assert (await pool.run("true", slot=1))[0] == OK
        os.kill(pid, signal.SIGKILL)
        assert (await pool.heard.wait("ended", token)).what == ("signal", "SIGKILL")

    play(tmp_path, story)


def test_what_a_forker_had_not_read_when_it_died_is_started_anew(tmp_path: Path) -> None:
    """A start would be lost, or be held up, with a forker that dies at a bad moment."""

    async def story(pool: Pool) -> None:
        first = pool.start("sleep 60")
        await pool.heard.wait("started", first)
        state = pool.claimed()
        assert state.claim and state.command
        forker = parent_of(state.claim.pid)
        os.kill(forker, signal.SIGSTOP)
        token = pool.start("true", slot=1)
        os.kill(forker, signal.SIGKILL)
        assert await pool.heard.wait("voided", token) is None
        assert (await pool.run("true", slot=1))[0] == OK
        os.kill(state.command.pid, signal.SIGKILL)
        await pool.heard.wait("ended", first)

    play(tmp_path, story)


def test_a_shim_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job would be about to start for ever."""
    monkeypatch.setattr(spawner, "LOOK_AFTER", 0.05)
    monkeypatch.setattr(spawner, "OVERDUE_AFTER", 0.2)

    async def story(pool: Pool) -> None:
        _, output = await pool.run("echo $PPID")
        os.kill(int(output), signal.SIGSTOP)
        token = pool.start(f"touch {tmp_path / 'ran'}")
        assert "did not answer" in await pool.heard.wait("voided", token)
        eventually(lambda: not alive(int(output)), "the end of the shim")
        assert (await pool.run("true"))[0] == OK
        assert not (tmp_path / "ran").exists()

    play(tmp_path, story)


def test_a_start_is_told_of_even_by_a_shim_that_cannot_speak(tmp_path: Path) -> None:
    """A job that stops its shim at once would have no timeout."""

    async def story(pool: Pool) -> None:
        token = pool.start("echo $$; kill -STOP $PPID; sleep 60")
        pid, since, _ = await pool.heard.wait("started", token)
        claim = pool.slots.read(0).claim
        assert claim is not None and since == claim.mono
        # Its start may be told before its first word is written.
        while not (said := pool.output(token).strip()):
            await asyncio.sleep(0.01)
        command = int(said)
        assert pid in (None, command)
        os.kill(claim.pid, signal.SIGCONT)
        os.kill(command, signal.SIGKILL)
        await pool.heard.wait("ended", token)
        assert [said[0] for said in pool.heard.said] == ["started", "ended"]

    play(tmp_path, story)
