"""Attempts on record that a state knows nothing of: found, told from others, ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from shim_pool import Pool, alive, eventually, play

from runner.engine.strays import end_stray, strays
from runner.process.identity import boot_id
from runner.process.shim_records import ShimRecordFile

NOBODY: frozenset[str] = frozenset()


def test_a_living_attempt_that_nobody_knows_is_ended_whole(tmp_path: Path) -> None:
    """A database that was restored from a copy runs a job beside its living attempt."""

    async def story(pool: Pool) -> None:
        token = pool.start("sleep 60 & echo $! > child; trap 'echo told > told' TERM; wait; exit 0")
        known = pool.start("sleep 60", slot=1)
        child = int(pool.file("child"))
        await pool.heard.wait("started", known)
        stray_shim, known_shim = pool.claimed(0).claim, pool.claimed(1).claim
        pool.spawner.close()
        [stray] = strays(pool.slots, boot_id(), {known})
        assert (stray.slot.token, stray.shim) == (token, stray_shim and stray_shim.shim)
        assert end_stray(pool.slots, stray, None, None, 5.0)
        assert not alive(child)
        assert pool.file("told") == "told"
        assert known_shim is not None and alive(known_shim.pid)
        assert list(strays(pool.slots, boot_id(), {known})) == []

    play(tmp_path, story)


def test_the_tree_of_a_dead_shim_is_a_stray_too(tmp_path: Path) -> None:
    """What a killed shim left of an attempt that nobody knows runs on beside the next."""

    async def story(pool: Pool) -> None:
        pool.start("echo $$ > self; exec sleep 60")
        command, claim = int(pool.file("self")), pool.claimed().claim
        assert claim is not None
        pool.spawner.close()
        os.kill(claim.pid, signal.SIGKILL)
        eventually(lambda: not alive(claim.pid), "the shim's end")
        [stray] = strays(pool.slots, boot_id(), NOBODY)
        assert stray.shim is None
        assert end_stray(pool.slots, stray, None, None)
        assert not alive(command)

    play(tmp_path, story)


def test_what_has_ended_or_is_of_another_boot_is_none(tmp_path: Path) -> None:
    """Each start would look through all processes for attempts that ended long ago."""

    async def story(pool: Pool) -> None:
        await pool.run("true")
        token = pool.start("sleep 60", slot=1)
        await pool.heard.wait("started", token)
        assert [s.slot.token for s in strays(pool.slots, boot_id(), NOBODY)] == [token]
        # One shim carries both out, and still lives.
        assert list(strays(pool.slots, boot_id(), {token})) == []
        assert list(strays(pool.slots, "another boot", NOBODY)) == []

    play(tmp_path, story)


def test_a_start_that_nobody_knows_cannot_come_about(tmp_path: Path) -> None:
    """A shim that was held up claims an attempt of a state that is gone."""
    slots = ShimRecordFile.open(str(tmp_path / "attempts"))
    slots.prepare(0, "t-1")
    assert list(strays(slots, boot_id(), NOBODY)) == []
    assert slots.read(0).voided
    slots.close()
