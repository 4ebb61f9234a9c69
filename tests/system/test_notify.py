"""What systemd is told of the real daemon, by the socket that it would give it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from manager import Manager
from test_daemon import begun, gate, release, simple, starts, submit
from world import World, talk

from runner.host import notify

WATCHDOG = 0.6
"""Seconds of patience that the daemon is told to have with it."""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def supervised(world: World, manager: Manager, **more: str) -> subprocess.Popen[bytes]:
    """A daemon as systemd would start it; it is ready."""
    started = world.start("daemon", env={"NOTIFY_SOCKET": str(manager.path), **more})
    world.until(lambda: "READY=1" in manager.told)
    return started


def beats(manager: Manager) -> int:
    return manager.told.count("WATCHDOG=1")


def test_ready_means_that_both_sockets_answer_and_jobs_are_adopted(
    world: World, manager: Manager
) -> None:
    """Whoever starts after it would find nobody, or take a living job for a lost one."""
    first = supervised(world, manager)
    for name in ("runner.sock", "runner-ro.sock"):
        assert talk(world.run_dir / name, {"request": "ping"})["pid"] == first.pid
    submit(world, gate(world, "a"))
    begun(world, "a")
    first.kill()
    first.wait()
    seen = len(manager.told)
    variables = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "1000000"}
    world.start("daemon", env=variables)
    world.until(lambda: any(text.startswith("STATUS=") for text in manager.told[seen:]))
    assert "READY=1" in manager.told[seen:]
    first_words = next(text for text in manager.told[seen:] if text.startswith("STATUS="))
    assert first_words.startswith("STATUS=q: "), "and not that there is no queue"
    assert world.ask("status")["queue"]["status"] == "running"
    world.until(lambda: manager.status == "q: 0 of 1 job done, 1 running")
    assert starts(world, "a") == 1
    release(world, "a")
    assert world.call("wait").returncode == 0
    assert manager.told.count("READY=1") == 2, "once a start"


def test_status_follows_the_queue(world: World, manager: Manager) -> None:
    """`systemctl status` would show yesterday's progress, or keep the system busy with it."""
    supervised(world, manager)
    world.until(lambda: manager.status == "no queue to work on")
    many = [simple(f"j{n}") for n in range(60)]
    begin = time.monotonic()
    submit(world, simple("bad", "false"), *many, gate(world, "a"), on_failure="continue")
    begun(world, "a")
    world.until(lambda: manager.status == "q: 61 of 62 jobs done, 1 running, 1 failed")
    world.call("pause")
    world.until(lambda: manager.status.endswith(", 1 failed, paused"))
    release(world, "a")
    world.call("unpause")
    assert world.call("wait").returncode == 100
    world.until(lambda: manager.status == "no queue to work on")
    told = sum(text.startswith("STATUS=") for text in manager.told)
    assert told <= time.monotonic() - begin + 3


def test_status_says_what_a_queue_waits_for(world: World, manager: Manager) -> None:
    """A queue that can't begin would look like no queue at all."""
    supervised(world, manager, AWS_EC2_METADATA_DISABLED="true", AWS_ENDPOINT_URL="http://[::1]:9")
    submit(world, simple(), result_s3_bucket="not-there")
    world.until(lambda: manager.status.startswith("q waits: "))


def test_a_loop_that_hangs_gives_no_sign_of_life(world: World, manager: Manager) -> None:
    """A daemon that hangs would be taken for a living one for ever, or a busy one for dead."""
    daemon = supervised(world, manager, WATCHDOG_USEC=str(int(WATCHDOG * 1e6)))
    submit(world, *[simple(f"j{n}") for n in range(30)])
    begin, before = time.monotonic(), beats(manager)
    world.until(lambda: beats(manager) >= before + 4)
    took = time.monotonic() - begin
    assert 2 * WATCHDOG / 2 < took < 4 * WATCHDOG, "at half of the time there is"
    daemon.send_signal(signal.SIGSTOP)
    try:
        world.until(lambda: stopped(daemon.pid))
        hangs = beats(manager)
        time.sleep(2 * WATCHDOG)  # nothing comes: there is no condition to wait for
        assert beats(manager) == hangs
    finally:
        daemon.send_signal(signal.SIGCONT)
    world.until(lambda: beats(manager) > hangs)


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_the_watchdog_of_another_process_is_not_ours(world: World, manager: Manager) -> None:
    """A daemon below some other service would speak for it."""
    supervised(world, manager, WATCHDOG_USEC="10000", WATCHDOG_PID="1")
    submit(world, simple())
    assert world.call("wait").returncode == 0
    assert beats(manager) == 0


@pytest.mark.parametrize("how", ["SIGTERM", "stop"])
def test_the_end_is_told_before_it_comes(world: World, manager: Manager, how: str) -> None:
    """systemd would take an orderly end for a crash, or cut a job's grace short."""
    daemon = supervised(world, manager)
    submit(world, gate(world, "a"))
    begun(world, "a")
    if how == "SIGTERM":
        daemon.terminate()
    else:
        assert world.call("stop").returncode == 0
    assert daemon.wait(20) == 0
    told = manager.told
    assert told.count("STOPPING=1") == 1 and "READY=1" not in told[told.index("STOPPING=1") :]
    if how == "SIGTERM":
        assert manager.status == "detached: jobs go on, and the next start adopts them"
    else:
        assert manager.status.endswith("; ending its jobs")
        assert any(text.startswith("EXTEND_TIMEOUT_USEC=") for text in told)


def test_a_hangup_is_a_reload_that_changes_nothing(world: World, manager: Manager) -> None:
    """`systemctl reload` would wait for an answer for ever, or end the daemon."""
    daemon = supervised(world, manager)
    seen = len(manager.told)
    daemon.send_signal(signal.SIGHUP)
    world.until(lambda: "READY=1" in manager.told[seen:])
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", manager.told[seen:][-2])
    # A thread writes it.
    world.until(lambda: "event=nothing_reloaded" in world.stderr)
    assert daemon.poll() is None


def test_jobs_know_nothing_of_the_manager(world: World, manager: Manager) -> None:
    """A job that starts a service of its own would report it ready in the daemon's name."""
    supervised(world, manager, WATCHDOG_USEC="60000000", LISTEN_FDS="0")
    parent = r"tr '\0' '\n' </proc/$PPID/environ"
    submit(world, simple("a", f"env > {world.home}/env; {parent} > {world.home}/shim"))
    assert world.call("wait").returncode == 0
    for name in ("env", "shim"):
        text = (world.home / name).read_text()
        assert "PATH=" in text
        assert not re.search("NOTIFY|WATCHDOG|LISTEN", text), text


def test_without_a_manager_there_is_no_cost() -> None:
    """Every daemon started by hand would load, and wake up, for nobody."""
    code = (
        "import sys; from runner.host.notify import Notifier; import asyncio\n"
        "async def main():\n"
        "    told = Notifier(lambda: 'x'); told.ready(); told.changed(); told.stopping()\n"
        "    told.ready_within(1.0); told.reloaded()\n"
        "    assert not asyncio.get_running_loop()._scheduled\n"
        "asyncio.run(main()); assert 'sdnotify' not in sys.modules"
    )
    env = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_a_manager_that_is_busy_is_told_later_and_briefly(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY would be lost while systemd is executed anew, and the start be called a failure."""
    monkeypatch.setattr(notify, "AGAIN_AFTER", 0.02)
    monkeypatch.setattr(notify, "STATUS_EVERY", 0.0)
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    full = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    full.setblocking(False)
    with full, suppress(BlockingIOError):
        while True:
            full.sendto(b"X", str(manager.path))

    async def main() -> None:
        progress = iter(["one", "two", "three ü"])
        told = notify.Notifier(lambda: next(progress))
        told.ready()
        for _ in range(3):
            told.changed()
            await asyncio.sleep(0.005)
        assert set(manager.told) == {"X"}
        async with asyncio.timeout(10):
            while manager.status != "three ü":
                await asyncio.sleep(0.01)
        told.close()

    asyncio.run(main())
    assert [text for text in manager.told if text != "X"] == ["READY=1", "STATUS=three ü"]


def test_who_is_asked_to_stop_while_it_starts_is_never_ready(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd would start what waits for a service that is gone in a moment."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))

    async def main() -> None:
        told = notify.Notifier(lambda: "x")
        told.stopping()
        told.ready()
        told.close()

    asyncio.run(main())
    assert manager.told == ["STOPPING=1"]
