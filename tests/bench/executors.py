"""The Executor beside what a user would pick instead, in one run: ``executors.py [CALLS] [TOOL…]``
(0 calls: the second table only).

Prints two Markdown tables for docs/guides/executor.md: what calls cost, and what `kill -9` of the
calling process leaves. The other tools are installed into ``.bench/executors``, an environment of
the benchmark's own; those that can't be are named as absent.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from executor_cases import COMMANDS, FETCH, KILLED, MARKED, NOOPS, SLEEPS, TOOLS
from measure import floor

CASES = Path(__file__).parent / "executor_cases.py"
VENV = Path(".bench/executors").absolute()

SLOW = {"submitit": 50}
"""Tools that take more than a second for a call: so many calls, and their time in proportion."""

LIMIT = 900
"""Seconds for one piece of work."""

_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of <linux/prctl.h>: orphans become children of this process."""


@dataclass(frozen=True)
class Tool:
    """``package``: what is installed for it; None: it is there."""

    name: str
    package: str | None = None

    @property
    def python(self) -> str:
        return sys.executable if self.package is None else str(VENV / "bin/python")

    def version(self) -> str | None:
        """What is installed of it, None: nothing."""
        if self.package is None:
            return ""
        name = self.package.partition("[")[0]
        program = f"import importlib.metadata as m; print(m.version({name!r}))"
        asked = subprocess.run([self.python, "-c", program], capture_output=True, text=True)
        return None if asked.returncode else " " + asked.stdout.strip()


NAMED = {
    "runner": Tool("runner.Executor, `state_dir`"),
    "fresh": Tool("ProcessPoolExecutor, a process for each call"),
    "warm": Tool("ProcessPoolExecutor, processes used again"),
    "joblib": Tool("joblib (loky)", "joblib"),
    "dask": Tool("dask LocalCluster", "dask[distributed]"),
    "submitit": Tool("submitit LocalExecutor", "submitit"),
    "parsl": Tool("parsl HighThroughputExecutor", "parsl"),
}


def install() -> None:
    """Each by itself, so that one that can't be had leaves the others."""
    if not VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    pip = [str(VENV / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
    for tool in NAMED.values():
        if tool.package is not None and tool.version() is None:
            subprocess.run([*pip, tool.package], check=False)


# -- processes ---------------------------------------------------------------------------------


def descendants() -> list[int]:
    """The processes below this one."""
    parents: dict[int, list[int]] = {}
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                stat = (each / "stat").read_text()
            except OSError:
                continue
            state, parent, *_ = stat.rpartition(")")[2].split()
            if state != "Z":
                parents.setdefault(int(parent), []).append(int(each.name))
    found, todo = [], [os.getpid()]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def memory() -> float:
    """MiB of all of them; what several share counts once (PSS)."""
    total = 0
    for pid in descendants():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


class Watch:
    """The most memory that all of them had at once, looked at twice a second."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            self.peak = max(self.peak, memory())

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def end_all() -> int:
    """Wait for what is left, kill what stays for 10 s; how many that were."""
    end, left = time.monotonic() + 10, set[int]()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return len(left)
        if pid == 0:
            if time.monotonic() > end:
                for each in descendants():
                    left.add(each)
                    os.kill(each, signal.SIGKILL)
            time.sleep(0.05)


class Group:
    """A control group (version 2) for one piece of work: what all its processes have used, also
    those that none has waited for. Without the right to make one: nothing is known."""

    def __init__(self) -> None:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        roots = [line.split()[4] for line in lines if " - cgroup2 " in line]
        self._where = Path(*roots[:1]) / f"executors-bench-{os.getpid()}"
        try:
            self._where.mkdir()
        except OSError:
            self._where = Path(os.devnull)

    def enter(self) -> None:
        """Of a new process, before it runs its program."""
        if self._where.is_dir():
            (self._where / "cgroup.procs").write_text(str(os.getpid()))

    def close(self) -> float | None:
        """Seconds of processors; all its processes must have ended."""
        if not self._where.is_dir():
            return None
        used = dict(line.split() for line in (self._where / "cpu.stat").read_text().splitlines())
        self._where.rmdir()
        return int(used["usage_usec"]) / 1e6


# -- measuring ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Seconds from the first call to the last result, and of processors, start and end included;
    MiB of the calling process, and of all, at most."""

    wall: float
    processor: float | None
    parent: float
    all: float


def environment() -> dict[str, str]:
    """parsl finds its programs by the PATH."""
    return {**os.environ, "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}"}


def command(key: str, what: str, count: str, folder: str) -> list[str]:
    return [NAMED[key].python, str(CASES), key, what, count, folder]


def measured(key: str, what: str, count: int) -> Cost | str:
    """What it cost, or the last line of its error."""
    calls = min(count, SLOW.get(key, count)) if what != SLEEPS else count
    group, watch = Group(), Watch()
    with tempfile.TemporaryDirectory(dir=Path(".bench").absolute()) as folder:
        program = command(key, what, str(calls), folder)
        try:
            done = subprocess.run(
                program,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                env=environment(),
                preexec_fn=group.enter,
            )
        except subprocess.TimeoutExpired:
            return f"not done after {LIMIT} s"
        finally:
            end_all()
            watch.close()
            used = group.close()
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["?"])[-1]
    found, times = json.loads(done.stdout.splitlines()[-1]), count / calls
    used = None if used is None else used * times
    return Cost(found["wall"] * times, used, found["peak"], watch.peak)


def left_by_kill(key: str) -> str:
    """What is left of four calls, two of which run, when their process is killed."""
    folder = Path(tempfile.mkdtemp(dir=Path(".bench").absolute()))
    try:
        program = command(key, KILLED, "0", str(folder))
        with subprocess.Popen(
            program, stdout=subprocess.PIPE, text=True, env=environment()
        ) as process:
            assert process.stdout is not None
            try:
                ids = json.loads(process.stdout.readline())
            finally:
                process.kill()
        began = len([*folder.glob("began-*")])
        end = time.monotonic() + 15
        while time.monotonic() < end and len([*folder.glob("ended-*")]) < MARKED:
            time.sleep(0.1)
        ended = len([*folder.glob("ended-*")])
        processes = len(descendants())
        fetched = fetch(key, folder, ids) if key in ("runner", "submitit") else "no way to ask"
        twice = sum(each.stat().st_size > 1 for each in folder.glob("ended-*"))
        after = len([*folder.glob("ended-*")])
        end_all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return (
        f"{began} of {MARKED} ran | {ended} | {processes} | {fetched} | "
        f"{after} of {MARKED}, {twice} twice"
    )


def fetch(key: str, folder: Path, ids: list[str]) -> str:
    program = command(key, FETCH, json.dumps(ids), str(folder))
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    if done.returncode:
        return "failed: " + done.stderr.strip().splitlines()[-1][:80]
    return f"{len(json.loads(done.stdout.splitlines()[-1]))} results"


# -- the tables --------------------------------------------------------------------------------

HEAD = (
    "| | 1,000 no-ops: wall · processor | 1,000 `true`: wall · processor | 50 × 1 s, ten at once | "
    "memory: caller · all |"
)
KILL_HEAD = (
    "| | at the kill | ended 15 s later | processes then | a new process gets "
    "| have run in the end |"
)


def row(key: str, title: str, calls: int) -> str:
    costs = [
        measured(key, what, n) for what, n in ((NOOPS, calls), (COMMANDS, calls), (SLEEPS, 50))
    ]
    noops, commands, sleeps = (
        each if isinstance(each, str) else f"{each.wall:.1f} s · {_seconds(each.processor)}"
        for each in costs
    )
    known = [each for each in costs if isinstance(each, Cost)]
    parent = max((each.parent for each in known), default=0)
    everything = max((each.all for each in known), default=0)
    cells = [title, noops, commands, sleeps, f"{parent:.0f} · {everything:.0f} MiB"]
    return f"| {' | '.join(cells)} |"


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} s"


def main(calls: int, keys: list[str]) -> None:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    Path(".bench").mkdir(exist_ok=True)
    install()
    end_all()
    found = {key: NAMED[key].version() for key in keys}
    titles = {
        key: f"{NAMED[key].name}{version}" for key, version in found.items() if version is not None
    }
    for key in [each for each in keys if each not in titles]:
        print(f"absent: {NAMED[key].name}")
    with tempfile.TemporaryDirectory(dir=Path(".bench").absolute()) as folder:
        print(
            f"the durable floor: {floor(Path(folder), 200) * 1000:.1f} ms; load {os.getloadavg()}"
        )
    if calls:
        print(HEAD, "|---|---|---|---|---|", sep="\n")
        for key, title in titles.items():
            print(row(key, title, calls), flush=True)
    print("", KILL_HEAD, "|---|---|---|---|---|---|", sep="\n")
    for key, title in titles.items():
        print(f"| {title} | {left_by_kill(key)} |", flush=True)
    print(f"load {os.getloadavg()}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:] or [*TOOLS])
