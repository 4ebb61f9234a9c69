"""What the fleet asks of `runner` itself, as a user would: machines are launched and listed.

Each is a process of its own: a launch that fails, or is killed, is none of the others' business,
and the same command again goes on with what was begun.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runner.errors import ExitCode, RecordError, RunnerError
from runner.fleet.machine_setup import MachineSetup
from runner.fleet.machines import machine_document
from runner.model.durations import format_duration
from runner.model.records import decode

AT_ONCE = 4
"""Launches: RunInstances has a rate of its own (EC2 User Guide, "Request throttling")."""

BOOT_AND_END = 3600.0
"""Seconds beside a machine's lifetime until its lifetime guard ends it: it boots, and stores what
its worker has said."""

LISTINGS = 3
"""Tries to list the machines that there are: one that isn't seen would be launched again."""


class MachineLaunches:
    """Launches of one job's machines."""

    def __init__(self, job: str, setup: MachineSetup, say: Callable[[str], None]) -> None:
        self._job = job
        self._setup = setup
        self._say = say

    def show_plan(self, name: str) -> int:
        """What one would be, on stdout; its exit code."""
        with tempfile.TemporaryDirectory() as folder:
            return subprocess.run([*self._words(Path(folder), name), "--dry-run"]).returncode

    def launch(self, names: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
        """The records of those that were launched, and the exit code of the first that failed.

        The first goes ahead: what is wrong with one is wrong with all, and it ships what all share.
        """
        if not names:
            return [], ExitCode.DONE
        with tempfile.TemporaryDirectory() as folder:
            first = self._one(Path(folder), names[0])
            if isinstance(first, int):
                return [], first
            with ThreadPoolExecutor(AT_ONCE) as pool:
                rest = list(pool.map(lambda name: self._one(Path(folder), name), names[1:]))
        records = [first, *(each for each in rest if not isinstance(each, int))]
        codes = [each for each in rest if isinstance(each, int)]
        if codes:
            self._say(f"{len(codes)} of {len(names)} could not be launched; the same again goes on")
        return records, codes[0] if codes else ExitCode.DONE

    def _one(self, folder: Path, name: str) -> dict[str, Any] | int:
        done = subprocess.run(
            [*self._words(folder, name), "--json"], stdout=subprocess.PIPE, text=True
        )
        if done.returncode != ExitCode.DONE:
            return done.returncode
        return _object(done.stdout, "runner launch")

    def _words(self, folder: Path, name: str) -> list[str]:
        path = folder / f"{name}.json"
        document = machine_document(self._job, name, self._setup)
        path.write_text(json.dumps(document, ensure_ascii=False))
        guard = ("--max-lifetime", format_duration(self._setup.lifetime + BOOT_AND_END))
        tag = ("--tag", f"runner-fleet={self._job}")
        words = ("--batch-queue", str(path), *self._setup.flags, *guard, *tag)
        return [*_runner("launch"), *words]


def list_machines(flags: Sequence[str]) -> list[dict[str, Any]]:
    """The machines of the region that is among these flags of a launch, as `runner ls` tells them.

    Raises RunnerError.
    """
    words = _runner("ls", "--json")
    if "--region" in flags:
        words += ["--region", flags[flags.index("--region") + 1]]
    for _ in range(LISTINGS):
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
        if done.returncode == ExitCode.DONE:
            break
    else:
        raise RunnerError("the machines that there are could not be listed")
    found = _object(done.stdout, "runner ls").get("found")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _runner(*words: str) -> list[str]:
    return [sys.executable, "-m", "runner", *words]


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        found = decode(text, f"the answer of `{what}`")
    except RecordError as error:
        raise RunnerError(str(error)) from None
    if not isinstance(found, dict):
        raise RunnerError(f"`{what}` answered {text[:80]!r}")
    return found
