"""A whole virtual machine: the kernel's limits of memory and processes, and power cuts."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from installed import RUNNER, WORK, Server, queue
from lab.vm import VirtualMachine, what_is_missing

CUTS = 3

EAT = "tail /dev/zero"
# Every generation ends at once and leaves two.
BOMB = "f() { f & f & }; f; sleep 600"

DRIVE = f"""#!/bin/bash
exec > /dev/console 2>&1
state=/var/lib/runner/queues
# What the state says is done is on the disk.
python3 - <<'END'
import json, os
try:
    jobs = json.load(open("{WORK}/../queue-state.json"))["jobs"]
except FileNotFoundError:
    jobs = []
done = [job["job_id"] for job in jobs if job["status"] == "completed"]
gone = [name for name in done if not os.path.exists("{WORK}/" + name)]
print("FOUND", json.dumps([len(done), gone]))
END
[ -d $state/q ] || {RUNNER} submit /root/q.json
echo BEGUN
while ! grep -q '"status": *"completed"' $state/q/queue-state.json; do sleep 0.2; done
echo RUNS
{RUNNER} wait --queue q
{RUNNER} status --queue q --json | sed 's/^/FIRST /'
{RUNNER} submit /root/m.json
until grep -q . {WORK.replace("/q/", "/m/")}/lives 2> /dev/null; do sleep 0.1; done
systemctl kill --signal=KILL --kill-whom=main runner
until [ "$(systemctl show --value --property=NRestarts runner)" = 1 ]; do sleep 0.1; done
until systemctl is-active --quiet runner; do sleep 0.1; done
systemctl restart runner && echo RESTARTED
cat /sys/fs/cgroup/runner.slice/runner-jobs.service/cgroup.subtree_control | sed 's/^/CONTROLLERS /'
touch {WORK.replace("/q/", "/m/")}/go
{RUNNER} wait --queue m
{RUNNER} status --queue m --json | sed 's/^/SECOND /'
poweroff
"""


def jobs_of(told: str) -> dict[str, Any]:
    return {job["job_id"]: job for job in json.loads(told)["jobs"]}


@pytest.mark.slow
def test_cut_off_and_out_of_memory(
    server: Callable[..., Server], tmp_path: Path, seed: int
) -> None:
    """Work would be lost with the power, or one job take the service and its neighbours along."""
    if missing := what_is_missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    draw = random.Random(seed)
    template = server()
    # Long enough for their files to be synced before they count as completed.
    lasts = 'sleep 1; echo done > "$JOB_ID"'
    first = queue(
        *({"job_id": f"j{number}", "command": lasts} for number in range(16)), max_parallel_jobs=4
    )
    lives = "echo yes > lives; until [ -e go ]; do sleep 0.1; done; sleep 2; echo lived"
    second = queue(
        {"job_id": "lives", "command": lives},
        {"job_id": "eats", "command": f"exec {EAT}"},
        {"job_id": "forks", "command": BOMB, "timeout": "3s", "term_grace": "1s"},
        {"job_id": "after", "command": "true"},
        queue_id="m",
        max_parallel_jobs=2,
        on_failure="continue",
    )
    machine = template.machine
    machine.write("/root/q.json", json.dumps(first))
    machine.write("/root/m.json", json.dumps(second))
    machine.write("/root/drive", DRIVE, 0o755)
    unit = "[Unit]\nAfter=runner.service\n[Service]\nExecStart=/root/drive\n"
    machine.write(
        "/etc/systemd/system/drive.service", unit + "[Install]\nWantedBy=multi-user.target\n"
    )
    machine.run("systemctl", "enable", "drive")
    # Of the whole machine's memory the emulated kernel would take minutes to find that it is gone.
    machine.write(
        "/etc/systemd/system/runner-jobs.service.d/memory.conf", "[Service]\nMemoryMax=45%\n"
    )
    with VirtualMachine(machine.disk, tmp_path) as vm:
        before = 0
        for cut in range(CUTS + 1):
            vm.boot()
            done, gone = json.loads(vm.wait_for("FOUND "))
            assert gone == [], "completed, and not on the disk"
            assert done >= before, "what was completed is not any more"
            before = done
            if cut < CUTS:
                vm.wait_for("RUNS" if cut else "BEGUN")
                time.sleep(draw.uniform(0, 3))  # reason: the instant of a cut is the input
                vm.power_cut()
        told = jobs_of(vm.wait_for("FIRST "))
        assert {job["status"] for job in told.values()} == {"completed"}
        assert all(job["attempt"] == 1 + job.get("interruptions", 0) for job in told.values())

        told = jobs_of(vm.wait_for("SECOND "))
        assert {"memory", "pids"} <= set(vm.wait_for("CONTROLLERS ").split())
        assert vm.said("RESTARTED"), "with controllers on, it could not be started again"
        lives, eats, forks, after = (told[name] for name in ("lives", "eats", "forks", "after"))
        assert (lives["status"], lives["attempt"]) == ("completed", 1)
        assert eats["error_message"].startswith("out of memory: the kernel killed it at 0.")
        assert (eats["oom_killed"], eats["signal"]) == (True, "SIGKILL")
        assert eats["max_rss_bytes"] > 100 << 20
        assert forks["error_message"] == "command timed out after 3s"
        assert (after["status"], after["attempt"]) == ("completed", 1)
        vm.wait_end()
