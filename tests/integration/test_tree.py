"""A tree of processes is found whole and ended whole, and nobody else is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shim_pool import alive, eventually

from runner.process import tree
from runner.process.identity import Process, start_time, stat_fields

FORK_AWAY = """
import os, time
for generation in range(500):
    if os.fork():
        os.wait()
        os._exit(0)
    os.setsid()
time.sleep(60)
"""
"""A new generation in a new session, again and again."""


OURS = tree.makers(None)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are killed, with their sessions, at the end of the test."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def shell(started: list[subprocess.Popen[bytes]], command: str, **more: str) -> Process:
    """A bash in a session of its own."""
    process = subprocess.Popen(
        ["/bin/bash", "-c", command],
        start_new_session=True,
        env={"PATH": os.defpath, **more},
    )
    started.append(process)
    return Process(process.pid, start_time(process.pid) or 0)


def named(marker: Path) -> int:
    """The pid that a process has written down."""
    eventually(lambda: marker.exists() and marker.read_text().endswith("\n"), "a pid")
    return int(marker.read_text())


def test_parents_come_first(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """A shell whose child is ended before itself would go on with its next command."""
    marker = tmp_path / "pid"
    root = shell(started, f"bash -c 'sleep 60 & echo $! >{marker}; wait'; true")
    leaf = named(marker)
    found = [process.pid for process in tree.descendants(root)]
    assert len(found) == 2 and found[-1] == leaf and root.pid not in found


def test_a_stranger_with_the_same_pid_has_no_descendants(
    started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """The children of whoever got a dead shim's pid would be killed."""
    marker = tmp_path / "pid"
    root = shell(started, f"sleep 60 & echo $! >{marker}; wait")
    child = named(marker)
    assert tree.kill(root._replace(start=root.start - 1)) == 0
    assert alive(child)


def test_terminate_reaches_a_stopped_one(
    started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """A stopped process would sit out its grace, with no chance to save anything."""
    marker, saved, script = (tmp_path / name for name in ("pid", "saved", "script"))
    script.write_text(
        f"trap 'echo >{saved}; exit' TERM; echo $$ >{marker}; kill -STOP $$; sleep 60"
    )
    root = shell(started, f"bash {script}; true")
    pid = named(marker)
    eventually(lambda: (stat_fields(pid) or [""])[0] == "T", "its stop")
    assert tree.terminate(root) == 1
    eventually(saved.exists, "its trap")


def test_what_a_trap_begins_may_end_its_work(
    started: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that saves its work on SIGTERM would have the very `cp` ended that saves it."""
    marker, saved, script = (tmp_path / name for name in ("pid", "saved", "script"))
    save = f"sleep 0.2 && echo >{saved}"
    script.write_text(f"trap '{save}; exit' TERM; echo $$ >{marker}; while :; do :; done")
    root = shell(started, f"bash {script}; true")
    pid = named(marker)
    send = tree.send

    def slowly(process: Process, *signals: int) -> None:
        send(process, *signals)
        if process.pid == pid:
            eventually(lambda: len(tree.descendants(root)) == 2, "what the trap begins")

    monkeypatch.setattr(tree, "send", slowly)
    assert tree.terminate(root) == 1
    eventually(saved.exists, "what the trap saves")


def test_kill_is_faster_than_forking(
    started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """A process that forks away all the time would never be met."""
    (tmp_path / "fork.py").write_text(FORK_AWAY)
    root = shell(started, f"{sys.executable} {tmp_path / 'fork.py'}; true")
    eventually(lambda: len(tree.descendants(root)) > 5, "some generations")
    tree.kill(root)
    eventually(lambda: not tree.descendants(root), "the end of all")


def test_orphans_are_known_by_session_or_token(
    started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """What a killed shim leaves behind would live on beside the attempt after it."""
    by_session, by_token, stranger = (tmp_path / name for name in ("a", "b", "c"))
    command = shell(
        started,
        f"env -u {tree.TOKEN_VARIABLE} sleep 60 & echo $! >{by_session};"
        f"setsid sleep 60 & echo $! >{by_token}; wait",
        **{tree.TOKEN_VARIABLE: "mine"},
    )
    shell(started, f"sleep 60 & echo $! >{stranger}; wait", **{tree.TOKEN_VARIABLE: "mine-2"})
    pids = [named(path) for path in (by_session, by_token, stranger)]
    assert tree.kill_orphans(tree.LostTree("mine", command, "1:2", OURS)) == 3
    eventually(lambda: not alive(pids[0]) and not alive(pids[1]), "their end")
    assert alive(pids[2])


@pytest.mark.parametrize("ends", ["named_fields", "_carries"])
def test_who_forks_and_ends_during_a_look_hides_nobody(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """A child forked after the listing, by who ended before its turn, would live on unseen."""
    parent = subprocess.Popen(
        ["/bin/bash", "-c", "read line; sleep 60 >/dev/null & echo $!"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={"PATH": os.defpath, tree.TOKEN_VARIABLE: "mine"},
    )
    started.append(parent)
    assert parent.stdin is not None and parent.stdout is not None
    stdin, stdout = parent.stdin, parent.stdout
    child: list[int] = []
    real = getattr(tree, ends)

    def asked(pid: int | str, *more: object) -> object:
        if int(pid) == parent.pid and not child:
            stdin.close()
            child.append(int(stdout.readline()))
            os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
        return real(pid, *more)

    monkeypatch.setattr(tree, ends, asked)
    # Its command is not on record: nothing but the token tells whose the child is.
    tree.kill_orphans(tree.LostTree("mine", None, "1:2", OURS))
    stdout.close()
    assert child and not alive(child[0])


def test_a_session_of_another_with_this_pid_is_left_alone(
    started: list[subprocess.Popen[bytes]],
) -> None:
    """Whoever got the pid of a dead command would be killed with all of its session."""
    stranger = shell(started, "sleep 60; true")
    assert tree.orphans(tree.LostTree("mine", stranger._replace(start=1), "1:2", OURS)) == []


def test_nobody_ends_a_tree_of_which_he_is_part() -> None:
    """A claim that names an ancestor of the daemon would end the daemon, and all beside it."""
    parent = os.getppid()
    assert tree.descendants(Process(parent, start_time(parent) or 0)) == []


def test_a_signal_meets_this_process_or_none(started: list[subprocess.Popen[bytes]]) -> None:
    """A signal for a dead process would meet the one that has its pid now."""
    process = shell(started, "sleep 60")
    assert not tree.send(process._replace(start=process.start + 1), signal.SIGKILL)
    assert alive(process.pid)
    assert tree.send(process, signal.SIGKILL)
    started[0].wait()
    assert not tree.send(process, signal.SIGKILL)


def test_without_descriptors_nothing_is_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that could not be sent would pass for one that was not needed."""

    def none_left(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", none_left)
    with pytest.raises(OSError, match="Too many"):
        tree.send(Process(os.getpid(), 1), signal.SIGCONT)


def test_a_look_that_has_begun_is_too_old_for_who_comes_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that was forked after the look would be missed by who trusts it."""
    begun, go = threading.Semaphore(0), threading.Semaphore(0)
    made: list[object] = []

    class Slow:
        def __init__(self) -> None:
            made.append(self)
            begun.release()
            assert go.acquire(timeout=10)

    monkeypatch.setattr(tree, "_Table", Slow)
    looks = tree._Looks()
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(looks.take)
        assert begun.acquire(timeout=10)
        asked = threading.Semaphore(0)

        def late() -> object:
            asked.release()
            return looks.take()

        others = [threads.submit(late) for _ in range(3)]
        for _ in others:
            assert asked.acquire(timeout=10)
        go.release(4)
        taken = [other.result(10) for other in others]
        assert first.result(10) is made[0]
    assert made[0] not in taken
    assert len(made) <= 4


def test_many_trees_can_be_ended_at_once(
    started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Threads that share a look would mix up whose tree is whose."""
    roots = [shell(started, f"sleep 60 & echo $! >{tmp_path}/{n}; wait") for n in range(20)]
    children = [named(tmp_path / str(n)) for n in range(20)]
    with ThreadPoolExecutor(10) as threads:
        counts = list(threads.map(tree.kill, roots[:10]))
    assert counts == [1] * 10
    eventually(lambda: not any(alive(pid) for pid in children[:10]), "their end")
    assert all(alive(pid) for pid in children[10:])
