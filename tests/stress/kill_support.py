"""A queue in a world of its own, that can be run, killed at any instant, and looked at afterwards.

Owns folders, command lines and processes of the kill matrix; what must be true of the end is
``kill_proof``'s. It starts the real commands, and ends only what it started: by pid, or by the
token or slot file of its own queue.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kill_timing import PATIENCE
from kill_traces import SLOT, Attempt, Line, attempt_in, is_locked, kill, pids, told_by

Build = Callable[[Path], dict[str, Any]]


class Endable(Protocol):
    """A process that was started elsewhere, for this world."""

    def end(self, number: int) -> int:
        """Signal it, unless it has ended, and wait."""


@dataclass
class World:
    """One queue with its state, logs, results and evidence below ``root``."""

    root: Path
    build: Build
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    launched: list[Endable] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.document = self.build(self.proof)
        for folder in ("once", "alone", "out"):
            (self.proof / folder).mkdir(parents=True)
        (self.proof / "log").touch()
        self.run_dir.mkdir()
        self.write(self.document)
        user = 'job_user = "root"\n' if os.geteuid() == 0 else ""
        places = {"state_dir": self.state, "log_dir": self.logs, "run_dir": self.run_dir}
        text = user + "".join(f"{name} = {json.dumps(str(p))}\n" for name, p in places.items())
        (self.root / "runner.toml").write_text(text)

    # -- places ------------------------------------------------------------------------------

    @property
    def proof(self) -> Path:
        return self.root / "proof"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def logs(self) -> Path:
        return self.root / "log"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def run_dir(self) -> Path:
        return self.root / "r"

    @property
    def queue_id(self) -> str:
        return str(self.document["queue_id"])

    @property
    def queue_dir(self) -> Path:
        return self.state / "queues" / self.queue_id

    @property
    def path(self) -> Path:
        return self.root / "queue.json"

    def write(self, document: dict[str, Any]) -> None:
        """The document that the next command is given."""
        self.document = document
        self.path.write_text(json.dumps(document))

    # -- commands ----------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("RUNNER_")}
        return own | {"RUNNER_CONFIG": str(self.root / "runner.toml")}

    def run_words(self, *flags: str) -> list[str]:
        return ["run", str(self.path), "--results", str(self.results), *flags]

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "runner", *words]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a real command; what it says goes to ``output``."""
        with open(self.root / "output", "ab") as output:
            process = subprocess.Popen(
                self.command(*words),
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.processes.append(process)
        return process

    def run(self, *flags: str) -> int:
        """Run the queue to its end; the exit code."""
        return self.start(*self.run_words(*flags)).wait(PATIENCE)

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        """One request to the daemon. Raises OSError or ValueError when it dies over it."""
        folder = os.open(self.run_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                # By way of the descriptor: the name of a socket has at most 107 bytes (unix(7)).
                client.connect(f"/proc/self/fd/{folder}/runner.sock")
                client.sendall(json.dumps({"v": 1, "request": request, **fields}).encode() + b"\n")
                answer: dict[str, Any] = json.loads(client.makefile().readline())
        finally:
            os.close(folder)
        return answer

    def submit(self, again: str = "resume") -> dict[str, Any]:
        return self.ask("submit", document=self.path.read_text(), again=again)

    # -- looking -----------------------------------------------------------------------------

    def daemon_answers(self) -> bool:
        try:
            return bool(self.ask("ping"))
        except (OSError, ValueError):
            return False

    def projection(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.queue_dir / "queue-state.json").read_text())
        return state

    def stored(self, query: str, folder: Path | None = None) -> Any:
        """What the query finds in the database; None before there is anything."""
        path = (folder or self.queue_dir) / "state.db"
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
                row = database.execute(query).fetchone()
        except sqlite3.DatabaseError:
            # Not there yet, or just being moved aside: a database without its log.
            return None
        return json.loads(row[0]) if row else None

    def stored_run_id(self, folder: Path | None = None) -> str | None:
        record = self.stored("SELECT record FROM queue", folder)
        return None if record is None else str(record["run_id"])

    def stored_document(self) -> Any:
        return self.stored("SELECT value FROM meta WHERE key = 'document'")

    def stored_job(self, job_id: str) -> Any:
        """A job's record; None if nothing has happened to it."""
        jobs = (self.stored_document() or {}).get("jobs", [])
        [index, *_] = [*(i for i, job in enumerate(jobs) if job["job_id"] == job_id), -1]
        return self.stored(f"SELECT record FROM jobs WHERE idx = {index}")

    def status(self) -> str | None:
        """The queue's status in the database; None before there is one."""
        record = self.stored("SELECT record FROM queue")
        return None if record is None else str(record.get("status", "pending"))

    def ended(self) -> bool:
        return self.status() in ("completed", "failed", "cancelled")

    def let_go(self) -> None:
        """What jobs with ``until_let_go`` wait for."""
        (self.proof / "go").touch()

    def said(self, job_id: str, what: str) -> bool:
        """Whether the job has told this of itself."""
        return any((line.job_id, line.what) == (job_id, what) for line in self.evidence())

    def evidence(self) -> list[Line]:
        """All that the jobs have told, in the order it happened."""
        lines = (line.split() for line in (self.proof / "log").read_text().splitlines())
        return [Line(float(up), run, job, int(n), what) for up, run, job, n, what in lines]

    def is_taken_up(self) -> bool:
        """Whether a foreground run holds the queue."""
        return is_locked(self.state / "locks" / f"{self.queue_id}.lock")

    def slot_files(self) -> list[Path]:
        """The slot files of this queue, and of its runs that were set aside."""
        return list((self.state / "queues").glob("*/attempts"))

    def leftovers(self) -> list[int]:
        """Shims, forkers and processes of jobs that are alive."""
        marks = [str(self.state).encode(), str(self.proof).encode()]
        for path in self.slot_files():
            stat = path.stat()
            marks.append(f"{stat.st_dev}:{stat.st_ino}".encode())
        return [pid for pid in pids() if any(mark in told_by(pid) for mark in marks)]

    def shims(self) -> list[int]:
        """Shims and forkers: what has been left and is no job."""
        proof = str(self.proof).encode()
        return [pid for pid in self.leftovers() if proof not in told_by(pid)]

    def attempts(self) -> list[Attempt]:
        """The attempts that are claimed and have not ended, as the slot file tells it."""
        found = []
        for path in self.slot_files():
            content = path.read_bytes()
            for offset in range(0, len(content), SLOT):
                if (attempt := attempt_in(content[offset : offset + SLOT])) is not None:
                    found.append(attempt)
        return found

    def close(self) -> None:
        """End everything that was started here, and what that has started."""
        for launched in self.launched:
            launched.end(signal.SIGKILL)
        for process in self.processes:
            process.kill()
            process.wait()
        while left := self.leftovers():
            for pid in left:
                kill(pid)


@contextmanager
def world(root: Path, build: Build) -> Iterator[World]:
    """A world of its own; whatever happens, nothing of it is left running."""
    made = World(root, build)
    try:
        yield made
    finally:
        made.close()
