"""`runner doctor` on a machine under a real systemd: well, and with things that are broken."""

from __future__ import annotations

import json
from collections.abc import Callable

from installed import RUNNER, Server
from lab import Machine


def doctor(machine: Machine) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and what was found by check."""
    done = machine.run(RUNNER, "doctor", "--json", check=False)
    return done.returncode, {each["check"]: each for each in json.loads(done.stdout)}


def test_a_machine_is_looked_at(server: Callable[..., Server]) -> None:
    """Who has a machine that does nothing would have to know fifteen places to look at."""
    there = server()
    there.settings(job_user="runner")
    here = there.machine.boot()
    here.wait_for(there.answers, "the daemon")
    code, found = doctor(here)
    assert code == 0, found
    well = ("service", "settings", "lifetime guard", "systemd", "job user", "disk", "results")
    assert {found[name]["grade"] for name in well} == {"ok"}, found
    # The lab has no agent, no EC2, and not all controllers.
    for name, words in (
        ("SSM agent", "doesn't run"),
        ("metadata", "no machine of EC2's"),
        ("credentials", "has no role"),
    ):
        assert found[name]["grade"] == "warn" and words in found[name]["says"], found
    assert found["jobs' unit"]["grade"] in ("ok", "warn")
    shown = here.run(RUNNER, "setup", "--show").stdout
    assert shown.count("AWSTemplateFormatVersion") == 5, "the bundle lacks templates"

    here.run("systemctl", "stop", "runner-lifetime.timer")
    here.write("/etc/runner/runner.toml", 'job_user = "nobody-we-know"\ndisk_reserve = "999TiB"\n')
    code, found = doctor(here)
    assert code == 1
    assert found["lifetime guard"]["grade"] == "fail"
    assert "enable --now runner-lifetime.timer" in found["lifetime guard"]["to_do"]
    assert "this machine has no such user" in found["job user"]["says"]
    assert "less than disk_reserve" in found["disk"]["says"]

    here.write("/etc/runner/runner.toml", "disk_reserved = 1\n")
    here.run("systemctl", "stop", "runner")
    code, found = doctor(here)
    assert code == 1
    assert found["settings"]["grade"] == "fail" and "disk_reserved" in found["settings"]["says"]
    assert found["service"]["grade"] == "fail"
    assert "journalctl -u runner" in found["service"]["to_do"]
