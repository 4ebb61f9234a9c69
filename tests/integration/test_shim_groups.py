"""Attempts with control groups of their own, on whatever cgroup v2 this machine has."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from shim_pool import OK, Ended, Pool, alive, eventually

from runner.engine.signals import signal_attempt
from runner.host import jobs_unit
from runner.process import cgroup
from runner.process.adoption import FoundAttempt, examine
from runner.process.cgroup import Group
from runner.process.identity import boot_id
from runner.process.shim_protocol import User

NOBODY = User(65534, 65534, (65534,))


def _root() -> Path | None:
    """Where groups can be made here."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 ") and os.access(fields.split()[4], os.W_OK):
            return Path(fields.split()[4])
    return None


ROOT = _root()
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or ROOT is None, reason="control groups are made by root, in cgroup v2"
)


@pytest.fixture
def unit() -> Iterator[Path]:
    """A folder such as systemd delegates, with the process in it that it was started with."""
    assert ROOT is not None
    folder = ROOT / f"runner-test-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    holder = subprocess.Popen(["sleep", "infinity"])
    try:
        (folder / "cgroup.procs").write_text(str(holder.pid))
        jobs_unit.prepare(folder)
        assert str(holder.pid) in (folder / cgroup.SHIMS / "cgroup.procs").read_text().split()
        yield folder
    finally:
        with suppress(OSError):
            (folder / "cgroup.kill").write_text("1")
        holder.wait()
        eventually(lambda: "populated 0" in (folder / "cgroup.events").read_text(), "all ended")
        for path, _, _ in os.walk(folder, topdown=False):
            os.rmdir(path)


def groups(unit: Path) -> list[str]:
    return [path.name for path in (unit / cgroup.ATTEMPTS).iterdir() if path.is_dir()]


@pytest.mark.parametrize("user", [None, NOBODY], ids=["own", "user"])
def test_an_attempt_has_a_group_while_it_runs(
    tmp_path: Path, unit: Path, user: User | None
) -> None:
    """What a job starts could not be told from the rest, or groups would pile up."""

    async def main() -> None:
        async with Pool(tmp_path, user=user, unit=str(unit)) as pool:
            how, out = await pool.run("cat /proc/self/cgroup; cat < /proc/$PPID/cgroup", cwd="/")
            assert how == OK
            own, shims = [x for x in out.decode().splitlines() if x.startswith("0::")]
            assert own.endswith(f"/{unit.name}/attempts/{pool.heard.said[-1][1]}")
            assert shims.endswith(f"/{unit.name}/shims")
            assert groups(unit) == []
            assert (await pool.run("exit 7", cwd="/"))[0] == ("exit", "7")
            how, _ = await pool.run("true", cwd="/nowhere/at/all")
            assert how and how[0] == "unrunnable"
            assert groups(unit) == []

    asyncio.run(main())


def test_what_it_used_is_counted(tmp_path: Path, unit: Path) -> None:
    """Nobody would know what to ask of the next machine."""
    # Orphans' time is counted too, so it has to be more than the command's own.
    burn = "for i in $(seq 60000); do :; done"

    async def main() -> None:
        for more in ({"unit": str(unit)}, {}):
            folder = tmp_path / str(len(more))
            folder.mkdir()
            async with Pool(folder, **more) as pool:
                token = pool.start(f"(( {burn} ) & ); {burn}; exit 3", cwd="/")
                ended: Ended = await pool.heard.wait("ended", token)
                assert ended.end is not None
                used = ended.end.usage
                assert used is not None
                assert 0.02 < used.cpu_seconds < 30
                assert 1 << 20 < used.max_rss < 1 << 30
                assert used.oom_kills == 0
                on_disk = pool.slots.read(0).exit
                assert on_disk is not None and on_disk.usage == used

    asyncio.run(main())


def test_a_tree_that_forks_for_its_life_ends_at_once(tmp_path: Path, unit: Path) -> None:
    """A fork bomb would outrun whoever looks for its processes one by one."""
    # Every generation ends at once and leaves two: nobody who looks at it finds it there.
    bomb = "f() { f & f & }; ulimit -u 400; f; sleep 60"

    async def main() -> None:
        async with Pool(tmp_path, user=NOBODY, unit=str(unit)) as pool:
            token = pool.start(bomb, cwd="/")
            slot = await asyncio.to_thread(pool.claimed)
            assert slot.claim is not None
            group = Group(str(unit), token)
            procs = Path(group.path) / "cgroup.procs"
            await asyncio.to_thread(
                eventually, lambda: len(procs.read_text().split()) > 50, "it has grown"
            )
            args = (pool.slots, 0, token, slot.claim.shim, group)
            await asyncio.to_thread(signal_attempt, *args, True)
            ended: Ended = await pool.heard.wait("ended", token)
            assert ended.what == ("signal", "SIGKILL")
            assert groups(unit) == []

    asyncio.run(main())


def test_a_dead_shims_group_is_ended_whole(tmp_path: Path, unit: Path) -> None:
    """What hides from every look (own session, clean environment) would run on beside the next."""
    hide = f"env -i setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' & sleep 60"

    async def main() -> None:
        async with Pool(tmp_path, unit=str(unit)) as pool:
            token = pool.start(hide, cwd="/")
            slot = await asyncio.to_thread(pool.claimed)
            hidden = int(await asyncio.to_thread(pool.file, "pid"))
            assert slot.claim is not None
            os.kill(slot.claim.pid, signal.SIGKILL)
            ended: Ended = await pool.heard.wait("ended", token)
            assert ended.end is None
            assert not alive(hidden)
            assert groups(unit) == []

    asyncio.run(main())


def test_the_next_daemon_finds_living_groups_as_they_were(tmp_path: Path, unit: Path) -> None:
    """A restart would end what it should adopt, or leave what a killed shim left."""

    async def main() -> None:
        before = Pool(tmp_path, unit=str(unit))
        try:
            token = before.start("sleep 60", cwd="/")
            await asyncio.to_thread(before.claimed)
            (unit / cgroup.ATTEMPTS / "stale").mkdir()
            before.close()
            jobs_unit.prepare(unit)
            assert groups(unit) == [token]
            async with Pool(tmp_path, unit=str(unit)) as after:
                group = Group(str(unit), token)
                found, state = examine(after.slots, 0, token, boot_id(), None, group)
                assert found is FoundAttempt.ALIVE and state.claim is not None
                await asyncio.to_thread(
                    signal_attempt, after.slots, 0, token, state.claim.shim, group, True
                )
                await asyncio.to_thread(
                    eventually, lambda: after.slots.read(0).exit is not None, "its end"
                )
                await asyncio.to_thread(eventually, lambda: groups(unit) == [], "no group")
        finally:
            with suppress(OSError):
                before.end()

    asyncio.run(main())


def test_without_the_unit_jobs_run_all_the_same(tmp_path: Path, unit: Path) -> None:
    """Somebody stops the jobs' unit, and no job would ever start again."""
    gone = unit / "gone"

    async def main() -> None:
        async with Pool(tmp_path, unit=str(gone)) as pool:
            assert (await pool.run("exit 5", cwd="/"))[0] == ("exit", "5")

    asyncio.run(main())
    unready = unit / cgroup.ATTEMPTS
    began = time.monotonic()
    unready.rmdir()

    async def unmade() -> None:
        async with Pool(tmp_path, unit=str(unit)) as pool:
            assert (await pool.run("exit 6", cwd="/"))[0] == ("exit", "6")

    asyncio.run(unmade())
    assert time.monotonic() - began < 5


def test_groups_that_outlived_a_kill_start_jobs_again(tmp_path: Path, unit: Path) -> None:
    """Every command after it would be killed at birth, and the queue be called failed."""
    holder = (unit / cgroup.SHIMS / "cgroup.procs").read_text().split()
    os.kill(int(holder[0]), signal.SIGKILL)
    eventually(lambda: "populated 0" in (unit / "cgroup.events").read_text(), "its end")
    (unit / "cgroup.kill").write_text("1")
    jobs_unit.prepare(unit)

    async def main() -> None:
        async with Pool(tmp_path, unit=str(unit)) as pool:
            assert (await pool.run("exit 5", cwd="/"))[0] == ("exit", "5")

    asyncio.run(main())
