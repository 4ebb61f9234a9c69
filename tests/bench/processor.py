"""Processor time of a job, ours and its own: other load changes it less than the time it takes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from measure import RUNNER, Lab, Report, chain, process, until

COUNT = 2000
TICK = os.sysconf("SC_CLK_TCK")


def per_job(report: Report, root: Path) -> None:
    """Driver and shim, of what ``bash -c true`` takes itself, over a chain of so many."""
    lab = Lab(root)
    begun, done = lab.root / "begun", lab.root / "done"
    jobs = chain(COUNT)
    jobs[0]["command"] = f"touch {begun}; sleep 1"
    jobs[-1]["command"] = f"touch {done}; exec sleep 60"
    folders = ["--state-dir", str(lab.state), "--log-dir", str(lab.root / "logs")]
    command = [*RUNNER, "run", str(lab.document(jobs)), *folders]
    with process(command, stdout=subprocess.DEVNULL, cwd=lab.root) as run:
        until(begun.exists, alive=run)
        time.sleep(0.3)  # reason: what follows a start is over
        before = _used(run.pid)
        until(done.exists, 300, 0.05, alive=run)
        driver, shim, job = (
            (now - then) / COUNT * 1e3 for now, then in zip(_used(run.pid), before, strict=True)
        )
        run.terminate()
        run.wait(60)
    detail = f"driver {driver:.2f} + shim {shim:.2f} ms, the job {job:.2f} ms"
    report.add("processor time a job, of the job's own", (driver + shim) / job, 1.0, "×", detail)


def _used(driver: int) -> tuple[float, float, float]:
    """Seconds of the driver, of its shim, and of the commands that the shim has waited for."""
    (forker,) = _children(driver)
    (shim,) = _children(forker)
    return _seconds(driver, 11), _seconds(shim, 11), _seconds(shim, 13)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _seconds(pid: int, first: int) -> float:
    """User and system time, which are beside each other in /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[first]) + int(fields[first + 1])) / TICK


CASES: dict[str, Callable[[Report, Path], None]] = {"processor": per_job}
