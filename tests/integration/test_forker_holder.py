"""Sessions that come one after the other share a forker, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from shim_pool import BASE, OK, Pool, alive, eventually, parent_of

from runner.process.forker_client import ForkerHolder


def _session(
    root: Path, holder: ForkerHolder, name: str, base: Mapping[str, str] | None = None
) -> Pool:
    folder = root / name
    folder.mkdir()
    holder.lay_out(root / "shared", folder / "attempts")
    return Pool(folder, base, forkers=holder)


async def _forker(pool: Pool, name: str) -> int:
    """The forker's pid, of a session whose commands are told this name."""
    ended, output = await pool.run("echo $NAME $PPID")
    told, shim = output.split()
    assert ended == OK and told == name.encode()
    return parent_of(int(shim))


def test_a_forker_serves_one_session_after_the_other(tmp_path: Path) -> None:
    """Each task of a fleet would start an interpreter, or find the variables of the one before."""

    async def story(holder: ForkerHolder) -> None:
        forkers = set()
        for name in ("first", "second", "third"):
            pool = _session(tmp_path, holder, name, {**BASE, "NAME": name})
            try:
                assert not any(slot.token for _, slot in pool.slots.all())
                forkers.add(await _forker(pool, name))
            finally:
                pool.close()  # and not `end`, which kills the forker, too
        assert len(forkers) == 1
        holder.close()
        (forker,) = forkers
        eventually(lambda: not alive(forker), "the end of the forker")

    with closing(ForkerHolder()) as holder:
        asyncio.run(story(holder))


@pytest.mark.parametrize("how", ["busy", "killed"])
def test_a_session_that_leaves_something_shares_nothing(tmp_path: Path, how: str) -> None:
    """What a task has left running could not be told from the next one's, or ended with it."""

    async def story(holder: ForkerHolder) -> None:
        async with _session(tmp_path, holder, "first", {**BASE, "NAME": "a"}) as pool:
            forker = await _forker(pool, "a")
            if how == "busy":
                token = pool.start("exec cat > /dev/null < /dev/zero")
                command = pool.claimed().command
                assert command is not None
            pool.spawner.close()
            if how == "killed":
                os.kill(forker, signal.SIGKILL)
                # One that is about to die may still take what is sent to it.
                while alive(forker):
                    await asyncio.sleep(0.01)  # reason: the poll's own interval
            async with _session(tmp_path, holder, "second", {**BASE, "NAME": "b"}) as later:
                assert await _forker(later, "b") != forker
                if how == "busy":
                    assert later.slots.mark != pool.slots.mark
                    assert alive(command.pid) and pool.slots.read(0).token == token

    with closing(ForkerHolder()) as holder:
        asyncio.run(story(holder))


def test_where_a_file_has_one_name_each_session_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker on a file system without hard links could run nothing."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    async def story(holder: ForkerHolder) -> None:
        for name in ("first", "second"):
            async with _session(tmp_path, holder, name, {**BASE, "NAME": name}) as pool:
                await _forker(pool, name)

    monkeypatch.setattr(os, "link", refuse)
    with closing(ForkerHolder()) as holder:
        asyncio.run(story(holder))
