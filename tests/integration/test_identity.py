"""Who a process is: a pid alone is never enough."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shim_pool import eventually

from runner.process.identity import (
    SHIM_MARK,
    Process,
    boot_id,
    is_shim,
    start_time,
    stat_fields,
)

SLEEP = "import time; time.sleep(60)"


def test_start_time_is_that_of_the_process() -> None:
    """A process that has a dead one's pid would be taken for it."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    with subprocess.Popen(["sleep", "60"]) as process:
        after = time.clock_gettime(time.CLOCK_BOOTTIME)
        start = start_time(process.pid)
        process.kill()
    ticks = os.sysconf("SC_CLK_TCK")
    assert start is not None
    assert before - 0.02 <= start / ticks <= after


def test_a_zombie_is_gone() -> None:
    """A dead child of somebody's would be waited for and signalled for ever."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    start = start_time(process.pid, dead=True)
    assert start_time(process.pid) is None and start is not None
    process.wait()
    assert start_time(process.pid, dead=True) is None


def test_a_name_with_brackets_is_no_problem(tmp_path: Path) -> None:
    """A program could shift the fields by its name, and be taken for another."""
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "60"]) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        eventually(lambda: stat.read_bytes().count(b")") == 2, "the odd program")
        fields = stat_fields(process.pid)
        process.kill()
    assert fields is not None and int(fields[1]) == os.getpid()


def test_only_a_shim_of_this_file_is_a_shim() -> None:
    """A stranger, or another queue's shim, would be signalled in place of ours."""
    words = [sys.executable, "-c", SLEEP, SHIM_MARK, "1:2"]
    with subprocess.Popen(words) as process:
        start = start_time(process.pid)
        assert start is not None
        identity = Process(process.pid, start)
        # The arguments appear a moment after the program.
        eventually(lambda: is_shim(identity, "1:2"), "a shim")
        others = is_shim(identity, "1:3")
        earlier = is_shim(identity._replace(start=start + 1), "1:2")
        process.kill()
    assert not others and not earlier
    assert not is_shim(identity, "1:2")


def test_one_that_only_mentions_the_mark_is_no_shim() -> None:
    """A search for shims, by its arguments, would look like one."""
    with subprocess.Popen([sys.executable, "-c", SLEEP, f"{SHIM_MARK} 1:2"]) as process:
        start = start_time(process.pid)
        assert start is not None
        eventually(Path(f"/proc/{process.pid}/cmdline").read_bytes, "its arguments")
        answer = is_shim(Process(process.pid, start), "1:2")
        process.kill()
    assert not answer


def test_what_cannot_be_looked_at_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a free descriptor every living job would be declared dead, and run again."""

    def none_left(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", none_left)
    with pytest.raises(OSError, match="Too many"):
        start_time(os.getpid())


def test_a_boot_has_one_id() -> None:
    """Every restart of the daemon would look like a reboot, and give up on living jobs."""
    assert boot_id() == boot_id()
    assert boot_id().startswith(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
