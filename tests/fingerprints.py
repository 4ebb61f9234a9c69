"""A job as its fingerprint sees it: a folder, what it depends on, and a command that is a function.

``run`` does what an engine does: it looks, and runs the job only where something has changed. The
job's results are made of all that it depends on, so whether a skip was right can be seen from them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runner.results.fingerprint.examination import (
    Examined,
    FileSet,
    Subject,
    complete,
    examine,
    retain,
    seal,
)
from runner.results.fingerprint.hash_cache import HashCache
from runner.results.folder import FolderStore

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where folders of tests are that need no disk."""


def nothing() -> None:
    """Nobody calls it off, nothing happens."""


@dataclass
class Job:
    """``top``: everything is below it. ``parts``: of its document."""

    top: Path
    patterns: tuple[str, ...] = ("in/**", "named", "links/**")
    results: tuple[str, ...] = ("out/*",)
    parts: dict[str, str] = field(default_factory=lambda: {"command": "c", "env.A": "1"})
    runs: int = 0
    started: int = 0

    def __post_init__(self) -> None:
        self.work = self.top / "work"
        for name in ("in", "out", "links"):
            (self.work / name).mkdir(parents=True, exist_ok=True)
        self.store = FolderStore(self.top / "store")
        self.cache = HashCache(self.top / "cache" / "hashes.db")

    def subject(self, **more: object) -> Subject:
        told = {
            "job_id": "j",
            "run_id": f"run-{self.runs}",
            "parts": dict(self.parts),
            "inputs": (FileSet(self.patterns, str(self.work)),),
            "results": FileSet(self.results, str(self.work)),
            "under_way": self.top / f"under-{self.runs}" / "j.json.gz",
            **more,
        }
        return Subject(**told)  # type: ignore[arg-type]

    def look(self, **more: object) -> Examined:
        """What a run that begins now would find."""
        return examine(self.subject(**more), [self.store], self.cache, nothing)

    def run(self, meanwhile: Callable[[], None] = nothing, *, fails: bool = False) -> bool:
        """One run; whether the command was started. ``meanwhile`` happens while it runs."""
        self.runs += 1
        subject = self.subject()
        found = examine(subject, [self.store], self.cache, nothing)
        if found.unchanged is not None:
            retain(subject, found.unchanged, 0, self.store)
            return False
        self.started += 1
        self.make()
        meanwhile()
        if not fails:
            seal(subject, 1, self.cache)
            complete(subject, 1, self.store, self.cache, nothing)
        return True

    def make(self) -> None:
        """What the command does."""
        for left in (self.work / "out").iterdir():
            left.unlink()
        (self.work / "out" / "result").write_text(self.made())
        (self.work / "out" / "second").write_text(f"second {self.made()}")

    def made(self) -> str:
        """The result that it has to have: of its document, and of all that it reads."""
        return hashlib.sha256(repr((sorted(self.parts.items()), self.read())).encode()).hexdigest()

    def read(self) -> list[tuple[str, str]]:
        """All files that its patterns mean, by a walk of the tests' own."""
        found = []
        for top in ("in", "links", "named"):
            start = self.work / top
            if start.is_file():
                found.append((top, _content(start)))
            for folder, folders, names in os.walk(start, followlinks=True):
                for name in (*names, *folders):
                    path = Path(folder, name)
                    found.append((str(path.relative_to(self.work)), _content(path)))
                # Once around a circle is enough: the kernel ends the walk somewhere near the 40th.
                above = os.path.realpath(folder)
                folders[:] = [
                    each
                    for each in folders
                    if not f"{above}/".startswith(f"{os.path.realpath(Path(folder, each))}/")
                ]
        return sorted(found)


def _content(path: Path) -> str:
    link = f"-> {os.readlink(path)} " if path.is_symlink() else ""
    if path.is_dir():
        return f"{link}folder"
    if not path.is_file():
        return f"{link}nothing"
    runs = "x" if os.stat(path).st_mode & 0o111 else "-"
    return f"{link}{runs}{path.read_text()}"


def write(job: Job, name: str, text: str) -> None:
    path = job.work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


CHANGES: dict[str, Callable[[Job], object]] = {
    "other bytes": lambda job: write(job, "in/a", "another"),
    "as many bytes": lambda job: write(job, "in/a", "1ne"),
    "as many bytes, and the time as before": lambda job: same_time(job.work / "in/a", "2ne"),
    "a new file": lambda job: write(job, "in/new", ""),
    "a file gone": lambda job: (job.work / "in/a").unlink(),
    "a file of another name": lambda job: (job.work / "in/a").rename(job.work / "in/c"),
    "two files for each other": lambda job: exchange(job.work / "in/a", job.work / "in/deep/b"),
    "a new folder": lambda job: (job.work / "in/folder").mkdir(),
    "what is named": lambda job: write(job, "named", "3"),
    "what is named, gone": lambda job: (job.work / "named").unlink(),
    "a file to be executed": lambda job: (job.work / "in/a").chmod(0o755),
    "a link in a file's place": lambda job: to_link(job.work / "in/a", "deep/b"),
    "a link to nothing": lambda job: (job.work / "in/lost").symlink_to("nowhere"),
    "the command": lambda job: job.parts.update({"command": "d"}),
    "a variable": lambda job: job.parts.update({"env.A": "2"}),
    "a new variable": lambda job: job.parts.update({"env.B": ""}),
    "a variable gone": lambda job: job.parts.pop("env.A"),
    "a result edited": lambda job: write(job, "out/result", "by hand"),
    "a result edited, and as large": lambda job: same_time(job.work / "out/result", "0" * 64),
    "a result gone": lambda job: (job.work / "out/result").unlink(),
    "a result more": lambda job: write(job, "out/third", ""),
}


def same_time(path: Path, text: str) -> None:
    """What `touch -r` after an edit does: size and mtime say nothing."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def exchange(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def to_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


NO_CHANGES: dict[str, Callable[[Job], object]] = {
    "another time": lambda job: os.utime(job.work / "in/a"),
    "written anew": lambda job: write(job, "in/a", "one"),
    "another inode": lambda job: (
        shutil.copy(job.work / "in/a", job.top / "a")
        and os.replace(job.top / "a", job.work / "in/a")
    ),
    "a hard link": lambda job: os.link(job.work / "in/a", job.top / "more"),
    "what no pattern matches": lambda job: write(job, "other", "x"),
    "results written anew": lambda job: write(job, "out/result", job.made()),
    "no cache": lambda job: shutil.rmtree(job.top / "cache"),
    "another run's note": lambda job: shutil.rmtree(job.top / "under-1", ignore_errors=True),
}

MEANWHILE = [
    "other bytes",
    "as many bytes",
    "as many bytes, and the time as before",
    "a new file",
    "a file gone",
    "a new folder",
    "what is named, gone",
]
