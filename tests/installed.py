"""The product on a machine of the lab, as its bundle installs it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab import Machine

REPOSITORY = Path(__file__).parents[1]
RUNNER = "/opt/runner/bin/runner"
WORK = "/var/lib/runner/queues/q/work"
"""Where the jobs of a queue q run."""


def build_bundle(into: Path, version: str = "0.1.0") -> Path:
    """The bundle of the commit that is checked out."""
    arch = platform.machine()
    words = [sys.executable, str(REPOSITORY / "packaging" / "bundle.py"), "build"]
    words += ["--arch", arch, "--version", version, "--into", str(into)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return into / f"runner-{version}-{arch}.tar.gz"


def install(machine: Machine, bundle: Path) -> str:
    """Unpack and install a bundle on a machine, running or not; the path of its install.sh."""
    machine.write("/root/bundle.tar.gz", bundle)
    machine.run("tar", "xzf", "/root/bundle.tar.gz", "-C", "/root", "--no-same-owner")
    script = f"/root/{bundle.name.removesuffix('.tar.gz')}/install.sh"
    machine.run(script)
    return script


def queue(*jobs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A document with these jobs, called q."""
    base = {"queue_id": "q", "queue_name": "q", "global_timeout": "1h", "on_failure": "stop"}
    return {**base, **more, "jobs": [{"timeout": "10m", **job} for job in jobs]}


class Server:
    """A machine with the product installed."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def settings(self, **settings: str) -> None:
        """Replace its settings; the next start reads them."""
        told = {"job_user": "runner", **settings}
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in told.items()]
        self.machine.write("/etc/runner/runner.toml", "".join(lines))

    def submit(self, document: dict[str, Any]) -> None:
        """Hand a queue to the daemon, which is waited for."""
        path = f"/root/{document['queue_id']}.json"
        self.machine.write(path, json.dumps(document))
        self.machine.wait_for(self.answers, "an answer of the daemon")
        self.machine.run(RUNNER, "submit", path)

    def answers(self) -> bool:
        """Whether the daemon is there for requests."""
        return self.machine.run(RUNNER, "queues", check=False).returncode == 0

    def status(self, queue: str = "q") -> dict[str, Any]:
        """What `runner status` says, jobs by their id under "jobs"; {} if it says nothing."""
        done = self.machine.run(RUNNER, "status", "--queue", queue, "--json", check=False)
        if done.returncode != 0:
            return {}
        told: dict[str, Any] = json.loads(done.stdout)
        return {**told, "jobs": {job["job_id"]: job for job in told["jobs"]}}

    def wait_for_jobs(self, **statuses: str) -> dict[str, Any]:
        """Wait until these jobs have these statuses; what was said then."""

        def look() -> dict[str, Any] | None:
            told = self.status()
            jobs = told.get("jobs", {})
            there = all(jobs.get(job, {}).get("status") == each for job, each in statuses.items())
            return told if there else None

        return self.machine.wait_for(look, f"{statuses}")

    def wait_until(self, status: str) -> dict[str, Any]:
        """Wait until the queue has this status; what was said then."""

        def look() -> dict[str, Any] | None:
            told = self.status()
            return told if told.get("status") == status else None

        return self.machine.wait_for(look, f"the queue {status}")
