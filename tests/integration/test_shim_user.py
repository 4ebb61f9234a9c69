"""Commands that run as another user than their shims, and what that user can't do to a shim."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from shim_pool import Pool, alive, eventually

from runner.process import login, tree
from runner.process.identity import SHIM_MARK, Process, is_shim, start_time, users_of
from runner.process.shim_protocol import User
from runner.process.tree import TOKEN_VARIABLE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts jobs as another user")

ROOT = login.Folder(b"/")
NOBODY = User(65534, 65534, (65534, 64123))

SIGNALS = "exec grep -E '^Sig(Blk|Ign):' /proc/self/status"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can pass through; ``work`` in it is the user's own."""
    made = Path(tempfile.mkdtemp(prefix="user-"))
    made.chmod(0o711)
    (made / "work").mkdir()
    os.chown(made / "work", NOBODY.uid, NOBODY.gid)
    yield made
    shutil.rmtree(made)


def test_a_command_has_the_users_rights_and_no_others(place: Path) -> None:
    """A job would keep a right of root's, or miss a group of its user's."""

    async def main() -> None:
        async with Pool(place, user=NOBODY) as pool:
            look = "grep -E '^(Uid|Gid|Groups|CapPrm|CapEff|CapAmb|NoNewPrivs):' /proc/self/status"
            how, out = await pool.run(f"{look}; umask", cwd=str(place / "work"))
            assert how == ("exit", "0")
            *status, mask = [line.split() for line in out.decode().splitlines()]
            assert {name: values for name, *values in status} == {
                "Uid:": 4 * ["65534"],
                "Gid:": 4 * ["65534"],
                "Groups:": ["64123", "65534"],
                "CapPrm:": [16 * "0"],
                "CapEff:": [16 * "0"],
                "CapAmb:": [16 * "0"],
                "NoNewPrivs:": ["0"],
            }
            assert mask == ["0022"]

    asyncio.run(main())


def test_a_command_inherits_three_descriptors_and_no_signal_setting(place: Path) -> None:
    """A job could write its own record, or would be deaf to SIGTERM."""

    async def main() -> None:
        async with Pool(place, user=NOBODY) as pool:
            _, out = await pool.run("ls -l /proc/$$/fd; true", cwd="/")
            assert [line.split()[8] for line in out.decode().splitlines()[1:]] == ["0", "1", "2"]
            _, signals = await pool.run(SIGNALS, cwd="/")
            # A session of its own: nobody else's terminal, nobody else's group.
            session = await pool.run("cut -d' ' -f5,6 /proc/$$/stat; echo $$", cwd="/")
            group, leader, pid = session[1].split()
            assert group == leader == pid
        async with Pool(place) as pool:
            assert (await pool.run(SIGNALS))[1] == signals
            assert b"SigBlk:\t0000000000000000" in signals

    asyncio.run(main())


def test_the_folder_is_entered_with_the_users_rights(place: Path) -> None:
    """A job would begin in a folder that its user can't look into, or nobody would know why not."""
    closed = place / "closed"
    closed.mkdir(mode=0o700)

    async def main() -> None:
        async with Pool(place, user=NOBODY) as pool:
            for folder, why in ((closed, "(Permission denied)"), (place / "x", "does not exist")):
                how, _ = await pool.run("true", cwd=str(folder))
                assert how == ("unrunnable", f"working directory {folder} {why}")
            how, _ = await pool.run("x" * 131_072, cwd="/")
            assert how is not None and "too large for this system" in how[1]

    asyncio.run(main())


def test_an_oom_score_is_the_daemons_alone(place: Path) -> None:
    """Of a protected daemon's jobs the kernel would kill none, and sshd in their place."""
    score = Path("/proc/self/oom_score_adj")
    before = score.read_text()

    async def main() -> None:
        for user in (None, NOBODY):
            async with Pool(place, user=user) as pool:
                _, out = await pool.run("cat /proc/self/oom_score_adj", cwd="/")
                assert out == b"0\n"
                shim = pool.claimed().claim
                assert shim is not None
                assert Path(f"/proc/{shim.pid}/oom_score_adj").read_text() == "500\n"

    score.write_text("500")
    try:
        asyncio.run(main())
    finally:
        score.write_text(before)


def test_a_job_can_neither_signal_nor_imitate_its_shim(place: Path) -> None:
    """It would outlive its timeout, or be adopted in the place of a shim that was killed."""

    async def main() -> None:
        async with Pool(place, user=NOBODY) as pool:
            how, out = await pool.run(
                "for signal in KILL STOP TERM; do kill -$signal $PPID || echo refused; done",
                cwd="/",
            )
            assert how == ("exit", "0") and out == b"refused\n" * 3

    asyncio.run(main())


def test_what_looks_like_a_shim_is_one_only_with_our_rights() -> None:
    """A job that escaped its session would be taken for a shim, and left alive."""
    words = ["/bin/bash", "-c", "echo; read", SHIM_MARK, "1:2"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    for user, believed in ((NOBODY.uid, False), (0, True)):
        with subprocess.Popen(words, user=user, cwd="/", **pipes) as process:
            assert process.stdout is not None and process.stdout.readline() == b"\n"
            found = Process(process.pid, start_time(process.pid) or 0)
            assert users_of(process.pid) == {user}
            assert is_shim(found, "1:2") is believed
            process.kill()


def test_a_token_counts_only_in_processes_that_the_job_can_have_made() -> None:
    """A stranger who got hold of a token, and bears it, would be killed with the job."""
    environment = {TOKEN_VARIABLE: "t-1", "PATH": os.defpath}
    started = [subprocess.Popen(["sleep", "60"], env=environment, user=user) for user in (65534, 1)]
    try:
        job, stranger = started
        for process in started:
            eventually(Path(f"/proc/{process.pid}/environ").read_bytes, "its environment")
        everybodys = tree.LostTree("t-1", None, "1:2", tree.makers(None))
        assert {each.pid for each in tree.orphans(everybodys)} == {job.pid, stranger.pid}, "root's"
        lost = everybodys._replace(makers=tree.makers(NOBODY))
        assert [process.pid for process in tree.orphans(lost)] == [job.pid]
        assert tree.kill_orphans(lost) == 1
        assert job.wait() == -signal.SIGKILL and alive(stranger.pid)
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_killed_shims_command_is_found_and_ended(place: Path) -> None:
    """A user's job would live on beside its next attempt."""

    async def main() -> None:
        async with Pool(place, user=NOBODY) as pool:
            token = pool.start("setsid sleep 60 & sleep 60", cwd="/")
            pid, _, _ = await pool.heard.wait("started", token)
            claim = pool.claimed().claim
            assert claim is not None
            os.kill(claim.pid, signal.SIGKILL)
            ended = await pool.heard.wait("ended", token)
            assert ended.end is None and not alive(pid)

    asyncio.run(main())


def test_a_signal_before_the_program_begins_waits_for_it(place: Path) -> None:
    """A cancel in a job's first moment would be lost, and the job be killed without its grace."""
    told = os.open(place / "out", os.O_CREAT | os.O_RDWR)
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    if not children.exists():
        pytest.skip("this kernel doesn't tell a process's children")

    others = set(children.read_text().split())

    def terminate_the_new_one() -> None:
        while not (new := set(children.read_text().split()) - others):
            pass
        os.kill(int(new.pop()), signal.SIGTERM)

    # As a shim: it ignores what is sent to it.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        for _ in range(20):
            thread = threading.Thread(target=terminate_the_new_one)
            thread.start()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside a thread
                command = (b"/bin/sleep", b"20")
                pid = login.start(login.Login(NOBODY, False), ROOT, command, {}, told, told)
            thread.join()
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(told)
