"""What a command leaves running, and what becomes of it when its shim is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from shim_pool import OK, Ended, Pool, alive, eventually, parent_of, play


def test_leftovers_get_their_time_and_then_go(tmp_path: Path) -> None:
    """A child that is about to end would be killed, or one that isn't would stay."""

    async def story(pool: Pool) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        token = pool.start("(sleep 0.6; echo saved) & exit 4")
        await pool.heard.wait("started", token)
        assert loop.time() - begun < 0.55, "the news of the start waited for the leftovers"
        ended: Ended = await pool.heard.wait("ended", token)
        assert ended.what == ("exit", "4") and pool.output(token) == b"saved\n"
        assert ended.end and ended.since and ended.end.mono - ended.since < 0.55
        _, output = await pool.run("(trap 'echo told; exit' TERM; sleep 60 & wait) &")
        assert output == b"told\n"
        begun = loop.time()
        _, output = await pool.run("(trap '' TERM; echo $BASHPID; while :; do sleep 1; done) &")
        assert 2.5 < loop.time() - begun < 5
        assert not alive(int(output))

    play(tmp_path, story)


def test_a_kept_tree_is_told_apart_from_its_command(tmp_path: Path) -> None:
    """A server that a job sets up would hold its job up, or be ended with it."""

    async def story(pool: Pool) -> None:
        token = pool.start("sleep 60 & echo $!", keep_background=True)
        ended: Ended = await pool.heard.wait("ended", token)
        assert ended.what == OK and ended.background
        server = int(pool.output(token))
        assert alive(server) and pool.spawner.knows(token)
        os.kill(server, signal.SIGKILL)
        await pool.heard.wait("background_ended", token)
        assert not pool.spawner.knows(token)
        kept = pool.start("sleep 60 & exit 3", keep_background=True)
        ended = await pool.heard.wait("ended", kept)
        assert ended.what == ("exit", "3") and not ended.background

    play(tmp_path, story)


@pytest.mark.parametrize("shim_dies", ["before the next daemon", "after it has begun"])
def test_a_hidden_tree_is_found_by_the_daemon_after_the_next(
    tmp_path: Path, shim_dies: str
) -> None:
    """With its daemon gone, what hides from every look runs on beside the next attempt."""
    hidden = f"env -i setsid -f sh -c 'echo $$ >{tmp_path}/hidden; exec sleep 60' </dev/null"

    async def story(pool: Pool) -> None:
        token = pool.start(f"{hidden} >/dev/null 2>&1; sleep 60")
        await pool.heard.wait("started", token)
        stray, claim = int(pool.file("hidden")), pool.claimed().claim
        assert claim is not None
        forker = parent_of(claim.pid)
        pool.spawner.close()
        if shim_dies == "before the next daemon":
            os.kill(claim.pid, signal.SIGKILL)
            eventually(lambda: not alive(claim.pid), "its end")
        async with Pool(tmp_path) as after:
            await after.run("true", slot=1)
            if alive(claim.pid):
                os.kill(claim.pid, signal.SIGKILL)
                eventually(lambda: not alive(claim.pid), "its end")
            after.spawner.reap(token, 0, background=False)
            ended: Ended = await after.heard.wait("ended", token)
            assert ended.end is None
            assert not alive(stray)
            eventually(lambda: not alive(forker), "the end of a forker that has no children")
            assert await after.run("true", slot=1) == (OK, b"")

    play(tmp_path, story)


def test_a_killed_shim_takes_its_tree_along(tmp_path: Path) -> None:
    """What nobody watches any more would run on beside the next attempt."""

    async def story(pool: Pool) -> None:
        hidden = f"env -i setsid -f sh -c 'echo $$ >{tmp_path}/hidden; exec sleep 60' </dev/null"
        token = pool.start(f"{hidden} >/dev/null 2>&1; sleep 60")
        pid, _, _ = await pool.heard.wait("started", token)
        stray = int(pool.file("hidden"))
        claim = pool.claimed().claim
        assert claim is not None
        os.kill(claim.pid, signal.SIGKILL)
        ended: Ended = await pool.heard.wait("ended", token)
        assert ended.end is None and ended.since is not None
        assert not alive(pid) and not alive(stray)

    play(tmp_path, story)


def test_other_trees_outlive_a_killed_shim(tmp_path: Path) -> None:
    """One job that kills its shim would take the others with it."""

    async def story(pool: Pool) -> None:
        other = pool.start("sleep 60 & sleep 60", slot=1)
        pid, _, _ = await pool.heard.wait("started", other)
        killer = pool.start("kill -KILL $PPID; sleep 60")
        assert (await pool.heard.wait("ended", killer)).end is None
        assert alive(pid) and ("ended", other) not in [s[:2] for s in pool.heard.said]
        os.kill(pid, signal.SIGTERM)
        assert (await pool.heard.wait("ended", other)).what == ("signal", "SIGTERM")

    play(tmp_path, story)


def test_a_shim_that_is_signalled_gets_no_other_attempt(tmp_path: Path) -> None:
    """A signal that comes late would end the job that came after the one it was meant for."""

    async def story(pool: Pool) -> None:
        token = pool.start("echo $PPID; sleep 0.1")
        await pool.heard.wait("started", token)
        held = pool.spawner.hold(token)
        await pool.heard.wait("ended", token)
        assert held is not None and held.pid == int(pool.output(token))
        assert pool.spawner.hold(token) is None
        _, output = await pool.run("echo $PPID")
        assert int(output) != held.pid
        eventually(lambda: not alive(held.pid), "its end")

    play(tmp_path, story)
