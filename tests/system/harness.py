"""The real ``runner run`` in folders of its own: started, watched, killed, and cleaned up after.

It knows the command line, the state folder and what a job's processes carry in their environment.
It signals only what it started itself, or what that has left behind: processes that bear this
bench's mark, have one of its files open, or are shims of one of its record files.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

MARK = "TEST_BENCH_MARK"
"""In the environment of all that a bench starts; jobs of ``run`` inherit it."""

TOKEN = b"RUNNER_ATTEMPT_TOKEN="

Document = dict[str, Any]
T = TypeVar("T")


def eventually(look: Callable[[], T | None], what: str, seconds: float = 15.0) -> T:
    """Poll until ``look`` gives something true, and return that; fails if it never does."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"still not after {seconds} s: {what}"
        time.sleep(0.01)  # reason: the poll's own interval
    return found


def queue(*jobs: Document, **more: Any) -> Document:
    """A document with defaults that suit short tests; jobs may leave out their timeout."""
    return {
        "queue_id": "q",
        "queue_name": "q",
        "global_timeout": "2m",
        "on_failure": "continue",
        "term_grace": "300ms",
        "jobs": [{"timeout": "1m", **job} for job in jobs],
        **more,
    }


class Bench:
    """Folders, documents and processes of one test. Use it in a ``with``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state_dir = root / "state"
        self.log_dir = root / "log"
        self.document = root / "queue.json"
        self.mark = uuid.uuid4().hex
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for process in self._started:
            process.kill()
            process.wait()
        self.end_leftovers()

    # -- running -----------------------------------------------------------------------------

    def write(self, document: Document) -> None:
        """The document that the next run is given."""
        self.document.write_text(json.dumps(document))

    def command(self, *flags: str) -> list[str]:
        """The command line of a run of the document."""
        where = ["--state-dir", str(self.state_dir), "--log-dir", str(self.log_dir)]
        return [sys.executable, "-m", "runner", "run", str(self.document), *where, *flags]

    def start(self, *flags: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a run in a session of its own; what it says goes to ``output``."""
        return self.spawn(self.command(*flags), **environment)

    def spawn(self, words: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        """Start any command as ``start`` does."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("RUNNER_")}
        with open(self.root / "output", "ab") as output:
            process = subprocess.Popen(
                words,
                cwd=self.root,
                env=own | {MARK: self.mark} | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def run(self, document: Document, *flags: str, seconds: float = 60.0) -> int:
        """Run a document to its end; the exit code. pytest shows what was said if a test fails."""
        self.write(document)
        code = self.start(*flags).wait(seconds)
        print(self.output())
        return code

    def output(self) -> str:
        """All that was said by what was started."""
        return (self.root / "output").read_text(errors="replace")

    # -- looking -----------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The parsed queue-state.json; empty before there is one."""
        try:
            text = (self.state_dir / "queue-state.json").read_text()
        except FileNotFoundError:
            return {}
        found: dict[str, Any] = json.loads(text)
        return found

    def job(self, job_id: str) -> dict[str, Any]:
        """One job's part of the state; empty before there is any."""
        found = [job for job in self.state().get("jobs", []) if job["job_id"] == job_id]
        return dict(found[0]) if found else {}

    def record(self, job: int, queue_id: str = "q") -> dict[str, Any]:
        """A job's record in the database, by its place in the document: newer than the file."""
        path = self.state_dir / "queues" / queue_id / "state.db"
        try:
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        except sqlite3.OperationalError:
            return {}
        try:
            row = connection.execute("SELECT record FROM jobs WHERE idx = ?", (job,)).fetchone()
        except sqlite3.OperationalError:
            # It is just being made.
            return {}
        finally:
            connection.close()
        return dict(json.loads(row[0])) if row else {}

    def log(self, job_id: str, stream: str = "stdout") -> bytes:
        """The newest attempt's log; empty before there is one."""
        try:
            return (self.log_dir / "jobs" / f"{job_id}-{stream}.log").read_bytes()
        except FileNotFoundError:
            return b""

    # -- what is left ------------------------------------------------------------------------

    def living(self) -> dict[int, str]:
        """Every process that this bench has brought about, pid → command line."""
        shims = self._shim_marks()
        own = {os.getpid(), os.getppid()}
        found = {}
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) not in own and self._is_ours(int(name), shims):
                found[int(name)] = (
                    _read(int(name), "cmdline").replace(b"\0", b" ").decode("latin-1")
                )
        return found

    def carriers(self) -> dict[int, str]:
        """Those of them that carry the token of an attempt: processes of jobs."""
        living = self.living().items()
        return {pid: line for pid, line in living if TOKEN in _read(pid, "environ")}

    def nothing_left(self, seconds: float = 5.0) -> None:
        """Assert that all that was ever started is gone, or goes within so many seconds."""
        try:
            eventually(lambda: not self.living(), "the end of everything", seconds)
        except AssertionError:
            raise AssertionError(f"left over: {self.living()}") from None

    def end_leftovers(self) -> None:
        """Kill all of it."""
        while living := self.living():
            for pid in living:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def _shim_marks(self) -> list[bytes]:
        files = (self.state_dir / "queues").glob("*/attempts")
        return [f"\0{s.st_dev}:{s.st_ino}\0".encode() for s in (file.stat() for file in files)]

    def _is_ours(self, pid: int, shims: list[bytes]) -> bool:
        command = _read(pid, "cmdline")
        if not command:
            return False  # a zombie, or a thread of the kernel
        if f"{MARK}={self.mark}".encode() in _read(pid, "environ").split(b"\0"):
            return True
        if b"\0runner-shim\0" in command and any(command.endswith(mark) for mark in shims):
            return True
        return any(link.startswith(f"{self.root}/") for link in _links(pid))


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _links(pid: int) -> list[str]:
    """Its working folder and its open files: one that cleared its environment has them still."""
    places = [f"/proc/{pid}/cwd"]
    try:
        places += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        pass
    found = []
    for place in places:
        try:
            found.append(os.readlink(place))
        except OSError:
            pass
    return found
