"""A real machine under a real systemd really ends, whether or not the daemon lives."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from installed import Server
from lab import Machine

QUICK = "[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnBootSec=1s\nOnUnitActiveSec=2s\n"
"""A drop-in: a test doesn't wait for a minute."""


def prepared(server: Callable[..., Server], **settings: str) -> Machine:
    """A machine that is looked at every two seconds, running, with its daemon ready."""
    there = server()
    there.settings(job_user="root", **settings)
    there.machine.write("/etc/systemd/system/runner-lifetime.timer.d/quick.conf", QUICK)
    there.machine.boot()
    there.machine.wait_for(there.answers, "the daemon")
    return there.machine


def remembered(machine: Machine) -> dict[str, Any]:
    path = "/var/lib/runner/machine.json"
    told: dict[str, Any] = json.loads(machine.read(path)) if machine.exists(path) else {}
    return told


def submit(machine: Machine, command: str = "true") -> None:
    job = {"job_id": "a", "command": command, "timeout": "1m"}
    base = {"queue_id": "q", "queue_name": "q", "global_timeout": "1h", "on_failure": "stop"}
    machine.write("/root/q.json", json.dumps({**base, "jobs": [job]}))
    machine.run("/opt/runner/bin/runner", "submit", "/root/q.json")


def test_it_ends_for_want_of_work_with_its_daemon_dead(server: Callable[..., Server]) -> None:
    """A machine whose daemon has died would cost money until somebody notices."""
    here = prepared(server, on_complete="stop", on_complete_delay="4s")
    submit(here)
    here.wait_for(lambda: "plan" in remembered(here), "a plan")
    here.run("systemctl", "mask", "--runtime", "runner")
    here.run("systemctl", "kill", "--signal=KILL", "runner")
    assert here.wait_end() == 0
    assert remembered(here)["ending"]["why"] == "queue q completed"
    told = remembered(here)
    told["plan"]["after"] = 60.0  # as it is with a delay that people would choose
    here.write("/var/lib/runner/machine.json", json.dumps(told))
    here.write("/etc/runner/runner.toml", 'job_user = "root"\non_complete = "stop"\n')
    here.boot()
    here.wait_for(lambda: "Finished" in here.journal("-b", "-u", "runner-lifetime"), "a look")
    here.wait_for(lambda: (remembered(here).get("plan") or {}).get("after") == 300, "a new plan")
    assert here.running, "who starts it again has time to do something"


def test_a_boot_after_its_lifetime_ends_at_once(server: Callable[..., Server]) -> None:
    """A machine that should be gone would run jobs until its next look at the clock."""
    here = prepared(server, max_lifetime="1h")
    submit(here, "echo x >> /root/ran; sleep 3600")
    here.wait_for(lambda: here.exists("/root/ran"), "a running job")
    here.power_cut()
    told = remembered(here)
    told["life"]["began"] -= 3600
    here.write("/var/lib/runner/machine.json", json.dumps(told))
    here.boot(wait=False)
    assert here.wait_end() == 0
    assert here.read("/root/ran") == "x\n", "nothing starts"


def test_its_end_interrupts_what_runs_in_an_orderly_way(server: Callable[..., Server]) -> None:
    """The work of days would be cut off where a job could have saved it."""
    here = prepared(server, max_lifetime="1h")
    submit(
        here,
        "trap 'echo saved > /root/saved; exit 0' TERM; touch /root/ran; while :; do sleep .1; done",
    )
    here.wait_for(lambda: here.exists("/root/ran"), "a running job")
    told = remembered(here)
    told["life"]["before"] += 3600
    here.write("/var/lib/runner/machine.json", json.dumps(told))
    assert here.wait_end() == 0
    assert here.read("/root/saved") == "saved\n"
    state = json.loads(here.read("/var/lib/runner/queues/q/queue-state.json"))
    assert (state["status"], state["jobs"][0]["status"]) == ("interrupted", "interrupted")
