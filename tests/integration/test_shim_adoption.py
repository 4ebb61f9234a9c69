"""Real shims outlive their daemon; the next one finds out how their attempts ended."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from shim_pool import OK, Ended, Heard, Pool, alive, eventually, parent_of, play

from runner.process.adoption import FoundAttempt, Survivors, examine
from runner.process.identity import Process, boot_id, start_time
from runner.process.shim_records import AttemptClaim


def test_a_job_needs_no_daemon_to_end_well(tmp_path: Path) -> None:
    """Every restart of the daemon would cost the exit codes of all that runs."""

    async def story(pool: Pool) -> None:
        token = pool.start(f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; exit 9")
        await pool.heard.wait("started", token)
        shim = pool.claimed().claim
        pool.spawner.close()
        (tmp_path / "go").touch()
        end = eventually(lambda: pool.slots.read(0).exit, "the record")
        assert (end.kind, end.value) == ("exit", "9")
        assert shim is not None
        eventually(lambda: not alive(shim.pid), "the end of a shim that nobody needs")
        assert examine(pool.slots, 0, token, boot_id())[0] is FoundAttempt.ENDED

    play(tmp_path, story)


def test_idle_shims_and_the_forker_end_with_the_daemon(tmp_path: Path) -> None:
    """Every run would leave processes behind."""

    async def story(pool: Pool) -> None:
        tokens = [pool.start("echo $PPID; sleep 0.1", slot=slot) for slot in range(4)]
        for token in tokens:
            await pool.heard.wait("ended", token)
        shims = [int(pool.output(token)) for token in tokens]
        forker = parent_of(shims[0])
        pool.spawner.close()
        eventually(lambda: not any(alive(pid) for pid in [forker, *shims]), "their end")

    play(tmp_path, story)


async def adopt(pool: Pool, token: str, *, keep_background: bool = False) -> AsyncIterator[Heard]:
    """Be the daemon after the next: find the attempt and watch it."""
    async with Pool(pool.root) as after:
        survivors = Survivors(after.slots, after.spawner, after.heard)
        found, state = examine(after.slots, 0, token, boot_id())
        assert found is FoundAttempt.ALIVE
        survivors.adopt(token, 0, state, keep_background=keep_background, background=False)
        assert survivors.shim_of(token) is not None
        yield after.heard
        survivors.close()


def test_an_adopted_attempt_tells_its_true_end(tmp_path: Path) -> None:
    """A job that outlives its daemon would be run again, or its exit code be made up."""

    async def story(pool: Pool) -> None:
        token = pool.start(f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; exit 9")
        pid, since, _ = await pool.heard.wait("started", token)
        pool.claimed()
        pool.spawner.close()
        async for heard in adopt(pool, token):
            assert await heard.wait("started", token) == (pid, pytest.approx(since), True)
            (tmp_path / "go").touch()
            ended: Ended = await heard.wait("ended", token)
            assert ended.what == ("exit", "9") and ended.since == pytest.approx(since)

    play(tmp_path, story)


def test_an_adopted_background_tree_is_told_apart(tmp_path: Path) -> None:
    """After a restart a job that keeps a server would never end, or lose it."""

    async def story(pool: Pool) -> None:
        command = f"sleep 60 & echo $!; until [ -e {tmp_path}/go ]; do sleep 0.01; done"
        token = pool.start(command, keep_background=True)
        await pool.heard.wait("started", token)
        pool.claimed()
        pool.spawner.close()
        async for heard in adopt(pool, token, keep_background=True):
            (tmp_path / "go").touch()
            ended: Ended = await heard.wait("ended", token)
            assert ended.what == OK and ended.background
            server = int(pool.output(token))
            assert alive(server)
            os.kill(server, signal.SIGKILL)
            await heard.wait("background_ended", token)

    play(tmp_path, story)


@pytest.mark.parametrize("when", ["running", "leftovers", "background"])
def test_an_adopted_shim_that_is_killed_takes_its_tree_along(tmp_path: Path, when: str) -> None:
    """Orphans of an adopted attempt would run beside its next one."""
    tail = {"running": "sleep 60", "leftovers": "exit 5", "background": "exit 0"}[when]

    async def story(pool: Pool) -> None:
        keep = when == "background"
        command = f"(trap '' TERM; echo $BASHPID; exec sleep 60) & sleep 0.1; {tail}"
        token = pool.start(command, keep_background=keep)
        await pool.heard.wait("started", token)
        claim = pool.claimed().claim
        assert claim is not None
        stray = int(eventually(lambda: pool.output(token), "its child"))
        pool.spawner.close()
        async for heard in adopt(pool, token, keep_background=keep):
            if when != "running":
                eventually(lambda: pool.slots.read(0).exit, "its end")
            if keep:
                await heard.wait("ended", token)
            os.kill(claim.pid, signal.SIGKILL)
            if keep:
                await heard.wait("background_ended", token)
            else:
                ended: Ended = await heard.wait("ended", token)
                assert ended.what == (None if when == "running" else ("exit", "5"))
            assert not alive(stray)

    play(tmp_path, story)


def test_a_forged_claim_adopts_nobody(tmp_path: Path) -> None:
    """A stranger would be waited for, and killed at the timeout."""

    async def story(pool: Pool) -> None:
        own = Process(os.getpid(), start_time(os.getpid()) or 0)
        for claim in (
            AttemptClaim(own.pid, own.start, 1.0, boot_id()),
            AttemptClaim(own.pid, own.start + 1, 1.0, boot_id()),
            AttemptClaim(1, 0, 1.0, boot_id()),
            AttemptClaim(2**22, 5, 1.0, boot_id()),
        ):
            pool.slots.prepare(0, "forged")
            assert pool.slots.claim(0, "forged", claim)
            assert examine(pool.slots, 0, "forged", boot_id())[0] is FoundAttempt.GONE

    play(tmp_path, story)


def test_a_claim_of_another_boot_is_gone(tmp_path: Path) -> None:
    """After a reboot a pid of the boot before would be believed."""

    async def story(pool: Pool) -> None:
        token = pool.start("sleep 60")
        await pool.heard.wait("started", token)
        assert examine(pool.slots, 0, token, boot_id())[0] is FoundAttempt.ALIVE
        assert examine(pool.slots, 0, token, "another")[0] is FoundAttempt.GONE
        state = pool.claimed()
        assert state.command
        os.kill(state.command.pid, signal.SIGKILL)
        await pool.heard.wait("ended", token)

    play(tmp_path, story)


def test_an_intent_without_a_claim_is_void(tmp_path: Path) -> None:
    """A start that never came about would cost an attempt."""

    async def story(pool: Pool) -> None:
        pool.slots.prepare(0, "t-1")
        assert examine(pool.slots, 0, "t-1", boot_id())[0] is FoundAttempt.VOID
        assert examine(pool.slots, 0, "t-0", boot_id())[0] is FoundAttempt.VOID
        assert examine(pool.slots, 7, "t-7", boot_id())[0] is FoundAttempt.VOID

    play(tmp_path, story)


def test_a_record_that_is_lost_costs_no_result(tmp_path: Path) -> None:
    """A daemon that lives would doubt what its own shim has told it."""

    async def story(pool: Pool) -> None:
        token = pool.start(f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; exit 9")
        await pool.heard.wait("started", token)
        os.ftruncate(pool.slots.fd, 0)
        (tmp_path / "go").touch()
        assert (await pool.heard.wait("ended", token)).what == ("exit", "9")
        assert (await pool.run("true"))[0] == OK

    play(tmp_path, story)


def test_a_record_that_is_lost_lets_nothing_run_twice(tmp_path: Path) -> None:
    """A job whose record is gone would be started again beside itself."""

    async def story(pool: Pool) -> None:
        token = pool.start("sleep 60")
        pid, _, _ = await pool.heard.wait("started", token)
        pool.spawner.close()
        os.ftruncate(pool.slots.fd, 0)
        assert examine(pool.slots, 0, token, boot_id())[0] is FoundAttempt.GONE
        eventually(lambda: not alive(pid), "its end")

    play(tmp_path, story)


def test_a_shim_killed_under_a_lost_record_is_no_void_start(tmp_path: Path) -> None:
    """What has run would be said never to have begun, and its tree be forgotten."""

    async def story(pool: Pool) -> None:
        token = pool.start("sleep 60")
        pid, _, _ = await pool.heard.wait("started", token)
        claim = pool.claimed().claim
        assert claim is not None
        os.ftruncate(pool.slots.fd, 0)
        os.kill(claim.pid, signal.SIGKILL)
        assert (await pool.heard.wait("ended", token)).end is None
        assert not alive(pid)

    play(tmp_path, story)
