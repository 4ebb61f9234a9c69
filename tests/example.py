"""A copy of an example, run with the real command as a user would run it.

It knows the command line, the state file and where results lie; it must not look into the product.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples"

_MADE_BY_RUNS = shutil.ignore_patterns(".venv", "__pycache__", "out", "warehouse", "work")


@dataclass(frozen=True)
class Example:
    """`folder` is where it runs, `document` its queue's file name there.

    State and logs are kept in `kept`, outside of the folder; results go to its `out`.
    """

    folder: Path
    kept: Path
    document: str = "queue.json"

    @property
    def results(self) -> Path:
        """The result store; a job's files are in `jobs/<job_id>` there."""
        return self.folder / "out"

    @property
    def log_dir(self) -> Path:
        """What `--log-dir` names."""
        return self.kept / "log"

    @property
    def state(self) -> dict[str, Any]:
        """The parsed queue-state.json."""
        state: dict[str, Any] = read_json(self.kept / "state/queue-state.json")
        return state

    def job(self, job_id: str) -> dict[str, Any]:
        """One job's part of the state."""
        [job] = [job for job in self.state["jobs"] if job["job_id"] == job_id]
        return dict(job)

    def statuses(self) -> dict[str, str]:
        """Each job's status."""
        return {job["job_id"]: job["status"] for job in self.state["jobs"]}

    def command(self, *flags: str) -> list[str]:
        """The command line that runs it, from its folder."""
        state_dir, log_dir = str(self.kept / "state"), str(self.log_dir)
        where = ["--state-dir", state_dir, "--log-dir", log_dir, "--results", "out"]
        return [sys.executable, "-m", "runner", "run", self.document, *where, *flags]

    def run(self, *flags: str, **env: str) -> int:
        """Run it to its end and return the exit code; pytest shows the output of a failed test."""
        done = subprocess.run(
            self.command(*flags),
            cwd=self.folder,
            env=environment(**env),
            capture_output=True,
            text=True,
            timeout=600,
        )
        print(done.stdout, done.stderr, sep="\n")
        return done.returncode


def environment(**more: str) -> dict[str, str]:
    """The caller's, with this interpreter as `python3`, as in an activated venv."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("RUNNER_")}
    return own | {"PATH": f"{Path(sys.executable).parent}:{own['PATH']}"} | more


def copy_examples(to: Path) -> Path:
    """Copy the whole folder, less what earlier runs made in it."""
    return Path(shutil.copytree(EXAMPLES, to / "examples", ignore=_MADE_BY_RUNS))


def copy_folder(name: str, to: Path) -> Example:
    """Copy an example that has a folder of its own."""
    folder = shutil.copytree(EXAMPLES / name, to / name, ignore=_MADE_BY_RUNS)
    return Example(Path(folder), to / "kept")


def copy_document(name: str, to: Path) -> Example:
    """Copy an example that is only a document."""
    folder = to / "elsewhere"
    folder.mkdir()
    shutil.copy(EXAMPLES / name, folder)
    return Example(folder, to / "kept", name)


def read_json(path: Path) -> Any:
    """Parse a file."""
    return json.loads(path.read_text(encoding="utf-8"))
