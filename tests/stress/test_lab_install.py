"""The installed bundle on a machine with systemd and no network."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from installed import REPOSITORY, build_bundle, install
from lab import Machine
from s3_endpoint import Endpoint

BUILD = [sys.executable, str(REPOSITORY / "packaging" / "bundle.py"), "build"]
SUMS = "SHA256SUMS"
STATE = "/var/lib/runner/queue-state.json"
KEPT = {
    "/var/lib/queue-runner",
    "/etc/runner",
    "/var/lib/runner",
    "/var/log/runner",
    "/home/runner",
}

Machines = Callable[..., Machine]


def state(machine: Machine) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(machine.read(STATE))
    except FileNotFoundError:
        return {"status": None, "jobs": [{"status": None}]}
    return told


def submit(machine: Machine, document: dict[str, Any]) -> None:
    machine.write("/root/queue.json", json.dumps(document))
    machine.run("runner", "submit", "/root/queue.json")


def long_job(machine: Machine) -> int:
    """Submit a job that ends, with code 7, once /var/tmp/go is there; its pid when it runs."""
    wait = "echo run >> /var/tmp/runs; until [ -e /var/tmp/go ]; do sleep 0.05; done; exit 7"
    job = {"job_id": "long", "command": wait, "timeout": "10m"}
    queue = {"queue_id": "q", "queue_name": "q", "global_timeout": "1h", "on_failure": "stop"}
    submit(machine, {**queue, "jobs": [job]})
    machine.wait_for(lambda: machine.exists("/var/tmp/runs"), "the job's start")
    return int(machine.wait_for(lambda: state(machine)["jobs"][0].get("pid"), "the job's pid"))


def ends_true(machine: Machine, pid: int) -> None:
    """The job that runs as ``pid`` is let end: its exit code is recorded, and it ran once."""
    assert state(machine)["jobs"][0]["pid"] == pid
    assert machine.exists(f"/proc/{pid}")
    machine.write("/var/tmp/go", "")
    machine.wait_for(lambda: state(machine)["status"] == "failed", "the queue's end")
    job = state(machine)["jobs"][0]
    assert (job["exit_code"], job["attempt"]) == (7, 1)
    assert machine.read("/var/tmp/runs") == "run\n"


def leftovers(machine: Machine) -> set[str]:
    places = ["/etc", "/home", "/opt", "/usr", "/var", "/run"]
    found = machine.run("find", *places, "-xdev", "-name", "*runner*", "-prune").stdout.split()
    return {path for path in found if not path.startswith(("/usr/lib/python3", "/run/systemd"))}


def as_it_was(bundle: Path, into: Path) -> Path:
    """The bundle of a version whose lifetime guard had another name: its units were called so."""
    subprocess.run(["tar", "xzf", bundle, "-C", into], check=True)
    root = into / bundle.name.removesuffix(".tar.gz")
    for kind in ("service", "timer"):
        unit = root / "systemd" / f"runner-lifetime.{kind}"
        unit.rename(unit.with_name(f"runner-deadman.{kind}"))
    installation = root / "installer" / "installation.py"
    installation.write_text(installation.read_text().replace("runner-lifetime.", "runner-deadman."))
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != SUMS]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    lines = [
        f"{digest}  {path.relative_to(root)}\n" for digest, path in zip(digests, files, strict=True)
    ]
    (root / SUMS).write_text("".join(lines))
    older = into / "older" / bundle.name
    older.parent.mkdir()
    subprocess.run(["tar", "czf", older, "-C", into, root.name], check=True)
    return older


def test_install_run_upgrade_and_uninstall(
    machine: Machines, bundle: Path, endpoint: Endpoint, tmp_path: Path
) -> None:
    """Broken: no set-up without a network, an upgrade costs a job, or files are left behind."""
    host = machine(environment=endpoint.env).boot()
    host.forward(endpoint.port)
    before = leftovers(host)
    script = install(host, as_it_was(bundle, tmp_path))
    assert host.run("systemctl", "is-active", "runner-deadman.timer").stdout == "active\n"
    assert 'job_user = "runner"' in host.read("/etc/runner/runner.toml")

    bucket = endpoint.bucket()
    document = json.loads((REPOSITORY / "examples" / "quickstart.json").read_text())
    submit(host, {**document, "result_s3_bucket": bucket})
    host.wait_for(lambda: state(host)["status"] == "completed", "the quickstart's end")
    host.run("runner", "wait", "--queue", "my-first-queue")
    assert any(key.endswith("output.txt") for key in endpoint.keys(bucket))

    pid = long_job(host)
    newer = install(host, build_bundle(tmp_path, "0.1.1"))
    assert "0.1.1" in host.run("runner", "--version").stdout
    assert host.run("systemctl", "is-active", "runner-lifetime.timer").stdout == "active\n"
    units = host.run("systemctl", "list-units", "--all", "runner-deadman*", "--no-legend").stdout
    assert (units, host.run("find", "/etc/systemd", "-name", "*deadman*").stdout) == ("", "")
    # With the compiled wheel of the machine's Python, and no other's.
    assert json.loads(host.run("runner", "schema").stdout)["title"] == "Queue document"
    compiled = host.run("sh", "-c", "ls /opt/runner/current/lib/*/*/pydantic_core/*.so").stdout
    assert len(compiled.split()) == 1
    # The living job's shim runs from the old one.
    assert len(host.run("ls", "/opt/runner/versions").stdout.split()) == 2
    ends_true(host, pid)
    assert newer != script

    host.run(newer, "--uninstall")
    assert leftovers(host) - before == KEPT
    assert host.run("systemctl", "list-units", "--all", "*runner*", "--no-legend").stdout == ""
    assert state(host)["status"] == "failed"
    host.run(newer, "--uninstall", "--purge")
    assert leftovers(host) == before
    assert host.run("getent", "passwd", "runner", check=False).returncode == 2


def test_a_daemon_that_is_killed_restarted_or_hangs_finds_its_jobs(
    machine: Machines, bundle: Path
) -> None:
    """Broken: what happens to the service happens to its jobs."""
    host = machine().boot()
    host.write("/etc/runner/runner.toml", 'job_user = "root"\n')
    drop_in = "[Service]\nWatchdogSec=2\nTimeoutAbortSec=3\n"
    host.write("/etc/systemd/system/runner.service.d/test.conf", drop_in)
    install(host, bundle)
    pid = long_job(host)

    def again(act: Callable[[str], object]) -> None:
        old = host.show("runner", "MainPID")
        act(old)

        def back() -> bool:
            active = host.show("runner", "ActiveState") == "active"
            return active and host.show("runner", "MainPID") not in (old, "0")

        host.wait_for(back, "the service's next start")

    again(lambda main: host.run("kill", f"-{signal.SIGKILL}", main))
    again(lambda _: host.run("systemctl", "restart", "runner"))
    again(lambda main: host.run("kill", f"-{signal.SIGSTOP}", main))
    assert "Watchdog timeout" in host.journal("-u", "runner")
    ends_true(host, pid)


KILLED = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from installer import installation, main
installation.serve = lambda *arguments: os.kill(os.getpid(), 9)
sys.argv = sys.argv[1:]
main.main()
"""


def test_the_same_installed_again_disturbs_nobody(machine: Machines, bundle: Path) -> None:
    """Broken: a configuration tool restarts the service each hour, or a change never comes in."""
    host = machine().boot()
    script = install(host, bundle)
    unit = "/etc/systemd/system/runner.service"

    def restarts(*command: str, said: str) -> bool:
        """Whether another daemon runs after it."""
        before = host.show("runner", "MainPID")
        told = host.run(*command, check=bool(said)).stdout
        assert said in told and host.show("runner", "ActiveState") == "active"
        return host.show("runner", "MainPID") != before

    assert not restarts(script, said="is installed already and runs")
    host.write(unit, host.read(unit) + "# mine\n")
    assert restarts(script, said="is installed and runs") and "# mine" not in host.read(unit)
    # Killed when all is in place, and the service not started with it.
    host.write(unit, "")
    assert not restarts("python3", "-I", "-c", KILLED, script, said="")
    assert restarts(script, said="is installed and runs")
    host.run("systemctl", "stop", "runner", "runner-lifetime.timer")
    assert restarts(script, said="is installed already and runs")
    assert host.show("runner-lifetime.timer", "ActiveState") == "active"


def test_the_commands_of_the_component_make_an_image(machine: Machines, bundle: Path) -> None:
    """Broken: it is no component, or an image made by it has no service that starts at boot."""
    path = REPOSITORY / "packaging" / "ami" / "component.yaml"
    component = yaml.safe_load(path.read_text())
    assert set(component) == {"name", "description", "schemaVersion", "parameters", "phases"}
    assert component["schemaVersion"] == 1.0
    assert [phase["name"] for phase in component["phases"]] == ["build", "validate"]
    host = machine().boot()
    host.write("/etc/runner/runner.toml", 'job_user = "root"\n')
    host.write("/tmp/runner-bundle.tar.gz", bundle)
    for step in (step for phase in component["phases"] for step in phase["steps"]):
        assert set(step) == {"name", "action", "inputs"}
        if step["action"] == "ExecuteBash":
            host.run("bash", "-c", "\n".join(step["inputs"]["commands"]))
        else:
            assert step["action"] == "S3Download"
            assert [set(each) for each in step["inputs"]] == [{"source", "destination"}]
    assert host.show("runner", "ActiveState") == "inactive"
    host.reboot()
    assert host.show("runner", "ActiveState") == "active"


def test_a_damaged_bundle_changes_nothing(machine: Machines, bundle: Path) -> None:
    """Broken: half of a download is installed, or a mistyped flag installs all the same."""
    host = machine()
    before = leftovers(host)
    host.write("/root/bundle.tar.gz", bundle)
    host.run("tar", "xzf", "/root/bundle.tar.gz", "-C", "/root", "--no-same-owner")
    folder = f"/root/{bundle.name.removesuffix('.tar.gz')}"
    assert host.run(f"{folder}/install.sh", "--unistall", check=False).returncode == 2
    host.write(f"{folder}/systemd/runner.slice", "")
    done = host.run(f"{folder}/install.sh", check=False)
    assert done.returncode == 1 and "runner.slice is damaged" in done.stderr
    assert leftovers(host) == before


def test_the_same_commit_gives_the_same_bytes(tmp_path: Path) -> None:
    """Broken: nobody can check that a bundle was made from the commit it names."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    script = clone / "packaging" / "bundle.py"
    here = subprocess.run([*BUILD, "--into", str(tmp_path / "a")], check=True, stdout=-1, text=True)
    words = [sys.executable, str(script), "build", "--into", str(tmp_path / "b")]
    there = subprocess.run(words, check=True, stdout=-1, text=True)
    pairs = list(zip(here.stdout.split(), there.stdout.split(), strict=True))
    assert len(pairs) == 2
    for ours, theirs in pairs:
        assert Path(ours).name == Path(theirs).name
        assert Path(ours).read_bytes() == Path(theirs).read_bytes()
