"""What the benchmarks share: a fresh folder, the real commands, and honest statistics."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

RUNNER = [sys.executable, "-m", "runner"]


@dataclass
class Figure:
    """One measured ratio or bound."""

    name: str
    value: float
    bound: float
    unit: str
    detail: str = ""

    @property
    def holds(self) -> bool:
        return self.value <= self.bound


@dataclass
class Report:
    """All figures of one run of the benchmarks."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: float, bound: float, unit: str, detail: str = "") -> None:
        figure = Figure(name, value, bound, unit, detail)
        self.figures.append(figure)
        print(line(figure), flush=True)

    def to_json(self) -> str:
        rows = [
            {"name": f.name, "value": f.value, "bound": f.bound, "unit": f.unit, "holds": f.holds}
            | ({"detail": f.detail} if f.detail else {})
            for f in self.figures
        ]
        return json.dumps({"figures": rows}, indent=2)


def line(figure: Figure) -> str:
    mark = "ok  " if figure.holds else "OVER"
    value = f"{figure.value:.2f} {figure.unit}"
    return f"{mark} {figure.name:<58} {value:>12}   ≤ {figure.bound:g}   {figure.detail}"


class Lab:
    """A new folder for one measurement. It is removed at the end of all, not in between.

    Some file systems create files slowly for a while where many were deleted.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(tempfile.mkdtemp(dir=root))
        self.state = self.root / "state"

    def document(self, jobs: list[dict[str, object]], **queue: object) -> Path:
        path = self.root / "queue.json"
        base = {"queue_id": "bench", "queue_name": "bench", "global_timeout": "4h"}
        path.write_text(json.dumps({**base, "on_failure": "stop", "jobs": jobs, **queue}))
        return path

    def run_command(self, document: Path, *more: str) -> list[str]:
        folders = ["--state-dir", str(self.state), "--log-dir", str(self.root / "logs")]
        return [*RUNNER, "run", str(document), *folders, "--results", str(self.root / "out"), *more]

    def run(self, document: Path, *more: str) -> float:
        """Run to the end; the wall seconds it took."""
        begun = time.perf_counter()
        done = subprocess.run(
            self.run_command(document, *more), stdout=subprocess.DEVNULL, cwd=self.root, check=False
        )
        took = time.perf_counter() - begun
        assert done.returncode == 0, done.returncode
        return took


def chain(length: int, command: str = "true") -> list[dict[str, object]]:
    """A chain of no-op jobs."""
    jobs: list[dict[str, object]] = []
    for index in range(length):
        job: dict[str, object] = {"job_id": f"j{index}", "command": command, "timeout": "1m"}
        if index:
            job["depends_on"] = [f"j{index - 1}"]
        jobs.append(job)
    return jobs


def floor(folder: Path, count: int) -> float:
    """Seconds per ``bash -c true`` between two 150-byte appends with fdatasync."""
    fd = os.open(folder / "floor", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    begun = time.perf_counter()
    for _ in range(count):
        os.write(fd, b"x" * 150)
        os.fdatasync(fd)
        pid = os.posix_spawn("/bin/bash", ["bash", "-c", "true"], os.environ)
        os.waitpid(pid, 0)
        os.write(fd, b"x" * 150)
        os.fdatasync(fd)
    os.close(fd)
    return (time.perf_counter() - begun) / count


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median(values: list[float]) -> float:
    return statistics.median(values)


@contextmanager
def folder() -> Iterator[Path]:
    """The folder of all measurements, below the checkout's ignored ``.bench``."""
    root = Path(".bench").absolute()
    root.mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=root))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def process(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended, by its pid, with the block."""
    started = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()


def until(
    condition: Callable[[], object],
    seconds: float = 60.0,
    every: float = 0.002,
    alive: subprocess.Popen[bytes] | None = None,
) -> None:
    """Poll until the condition holds, as long as the process it depends on lives."""
    deadline = time.perf_counter() + seconds
    while not condition():
        assert alive is None or alive.poll() is None, "the process ended before"
        assert time.perf_counter() < deadline, "it never came about"
        time.sleep(every)  # reason: polls a condition of another process
