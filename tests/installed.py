"""A root of the lab with the product installed: what a test's machines start from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

from lab import Machine
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
RUNNER = "/opt/runner/bin/runner"
JOB_USER = "worker"

_COMMAND = """#!/usr/bin/python3 -P
import sys

sys.path.insert(0, "/opt/runner/lib")
from runner.cli.main import main

main()
"""


def install(disk: Path) -> None:
    """Put this checkout, and what it depends on, on a disk; the service is enabled."""
    lib = disk / "opt/runner/lib"
    lib.mkdir(parents=True)
    for source in [REPOSITORY / "runner", *_dependencies()]:
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, lib / source.name)
    (disk / "opt/runner/bin").mkdir()
    command = disk / RUNNER[1:]
    command.write_text(_COMMAND)
    command.chmod(0o755)
    for unit in (REPOSITORY / "systemd").iterdir():
        if unit.is_file():
            shutil.copy(unit, disk / "etc/systemd/system")
    for kind in ("sysusers.d", "tmpfiles.d"):
        shutil.copy(REPOSITORY / "systemd" / kind / "runner.conf", disk / "usr/lib" / kind)
    settings = disk / "etc/runner/runner.toml"
    settings.parent.mkdir()
    settings.write_text(f'job_user = "{JOB_USER}"\n')
    for words in (
        ("useradd", "--create-home", JOB_USER),
        ("systemd-sysusers",),
        ("systemctl", "enable", "runner.service"),
    ):
        subprocess.run(["chroot", str(disk), *words], check=True, capture_output=True)


def _dependencies() -> list[Path]:
    """Top-level modules of what the product needs to run, as they are installed here."""
    site = Path(sysconfig.get_path("purelib"))
    names, todo = set(), ["queue-runner"]
    while todo:
        for text in metadata.requires(todo.pop()) or ():
            wanted = Requirement(text)
            name = wanted.name.lower()
            if name not in names and (not wanted.marker or wanted.marker.evaluate({"extra": ""})):
                names.add(name)
                todo.append(name)
    found = set()
    for name in names:
        for file in metadata.files(name) or ():
            top = site / file.parts[0]
            if not top.name.endswith((".dist-info", "__pycache__")) and ".." not in file.parts:
                found.add(top)
    return sorted(found)


class Server:
    """The product on a machine of the lab, asked as an operator asks it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def submit(self, document: dict[str, Any]) -> None:
        """Hand a queue to the daemon, which is waited for."""
        path = f"/root/{document['queue_id']}.json"
        self.machine.write(path, json.dumps(document))
        self.machine.wait_for(self.answers, "an answer of the daemon")
        self.machine.run(RUNNER, "submit", path)

    def answers(self) -> bool:
        return self.machine.run(RUNNER, "queues", check=False).returncode == 0

    def status(self, queue: str) -> dict[str, Any]:
        """What `runner status` says, jobs by their id under "jobs"; {} if it says nothing."""
        done = self.machine.run(RUNNER, "status", "--queue", queue, "--json", check=False)
        if done.returncode != 0:
            return {}
        told: dict[str, Any] = json.loads(done.stdout)
        return {**told, "jobs": {job["job_id"]: job for job in told["jobs"]}}

    def wait_for_jobs(self, queue: str, **statuses: str) -> dict[str, Any]:
        """Wait until these jobs have these statuses; what was said then."""

        def look() -> dict[str, Any] | None:
            told = self.status(queue)
            jobs = told.get("jobs", {})
            there = all(jobs.get(job, {}).get("status") == each for job, each in statuses.items())
            return told if there else None

        return self.machine.wait_for(look, f"{queue}: {statuses}")

    def wait_until(self, queue: str, status: str) -> dict[str, Any]:
        """Wait until the queue has this status."""

        def look() -> dict[str, Any] | None:
            told = self.status(queue)
            return told if told.get("status") == status else None

        return self.machine.wait_for(look, f"{queue} {status}")
