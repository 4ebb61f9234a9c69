"""The first boot of a launched machine, by EC2's and cloud-init's rules: its work, and its end."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cloud import Cloud, CloudMachine
from lab import Machine
from launched import Launched, quickstart, report, role

from runner.targets.ec2 import names
from runner.targets.ec2.launch.user_data import BootConfig, user_data

LOG = "/var/log/runner-bootstrap.log"
OVERDUE = "/etc/systemd/system/runner-overdue.service"
TIMER = "/etc/systemd/system/runner-expires.timer"

New = Callable[..., CloudMachine]


@pytest.fixture
def new(lab_root: Path, cloud: Cloud) -> Iterator[New]:
    """Makes the machine of a launch, not yet booted; its role may what it needs."""
    cloud.allow(role(cloud.bucket))
    with ExitStack() as stack:

        def make(boot: BootConfig, *, spot: bool = False) -> CloudMachine:
            made = CloudMachine(lab_root, cloud, user_data(boot), spot=spot)
            stack.enter_context(made.machine)
            return made

        yield make


def wait_end(machine: Machine) -> None:
    """Until it has ended by itself, in an orderly way."""
    try:
        assert machine.wait_end(120) == 0
    except subprocess.TimeoutExpired:
        log = machine.read(LOG) if machine.exists(LOG) else "it has no log"
        pytest.fail(f"it doesn't end\n{log}\n{machine.last_words()}")
    print(machine.journal("-o", "short-monotonic"))


def test_a_machine_that_has_nothing_runs_the_queue_and_ends_itself(
    new: New, launched: Launched, cloud: Cloud, tmp_path: Path
) -> None:
    """Launched machines would never get to their work, or cost money after it."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "greeting").write_text("hello\n")
    document = quickstart()
    document["jobs"][0]["command"] += " && cat greeting && id -un"
    boot = launched.boot(document, tmp_path / "code")
    there = new(boot)
    there.machine.boot(wait=False)
    wait_end(there.machine)
    told = report(cloud, boot)
    assert told["outcome"] == "ready", there.machine.read(LOG)
    assert told["instance_id"] == there.instance_id
    phases = [phase["phase"] for phase in told["phases"]]
    assert phases == ["user-data", "credentials", "fetched", "python", "installed", "submitted"]
    print({phase["phase"]: phase["seconds"] for phase in told["phases"]})
    assert cloud.state(there.instance_id) == "terminated"
    results = "queues/my-first-queue/jobs"
    assert b"Item 10" in (cloud.get(f"{results}/process/output.txt") or b"")
    assert cloud.get(f"{results}/setup/stdout.log") == b"Starting...\nhello\nrunner\n"
    for wants in (
        "multi-user.target.wants/runner.service",
        "timers.target.wants/runner-lifetime.timer",
    ):
        assert there.machine.exists(f"/etc/systemd/system/{wants}"), "user-data runs only once"
    assert "at-most" not in there.machine.read(OVERDUE).split("for each")[0], "the lifetime is left"


def test_one_that_fails_is_kept_for_a_look_and_ends(
    new: New, launched: Launched, cloud: Cloud
) -> None:
    """A machine that could not be set up would be there until somebody sees the bill."""
    boot = launched.boot(quickstart(), keep_on_failure=4)
    cloud.admin("s3").delete_object(Bucket=cloud.bucket, Key=boot.document.key)
    there = new(boot)
    there.machine.boot(wait=False)
    wait_end(there.machine)
    told = report(cloud, boot)
    assert (told["outcome"], told["error"].split()[1:3]) == ("failed", ["404", "NoSuchKey"])
    log = cloud.get(names.launch_key(boot.launch, "bootstrap.log")) or b""
    assert b"FAILED: s3://" in log and b"404 NoSuchKey" in log
    assert "the machine ends in 4 s" in there.machine.read(LOG)


def test_a_spot_request_that_opens_again_after_its_time_costs_a_minute(
    new: New, launched: Launched, cloud: Cloud
) -> None:
    """The machine that EC2 launches with the old user-data would run everything again."""
    there = new(launched.boot(quickstart(), expires=int(time.time()) - 1), spot=True)
    assert len(cloud.open_spot_requests()) == 1
    there.machine.boot(wait=False)
    wait_end(there.machine)
    assert "its time was over" in there.machine.read(LOG)
    assert not there.machine.exists("/opt/runner")
    assert cloud.open_spot_requests() == []


def test_a_spot_request_that_opens_again_after_the_queues_end_costs_a_minute(
    new: New, launched: Launched, cloud: Cloud
) -> None:
    """What is done would be done once more, at the price of the first time."""
    state = {"queue_id": quickstart()["queue_id"], "status": "completed"}
    boot = launched.boot(
        quickstart(), state_key="queues/ended/queue-state.json", keep_on_failure=60
    )
    shipped = int(time.time())
    while int(time.time()) <= shipped:
        time.sleep(0.02)  # S3 tells times in seconds, and an end of before the launch doesn't count
    cloud.put("queues/ended/queue-state.json", json.dumps(state).encode())
    there = new(boot, spot=True)
    there.machine.boot(wait=False)
    wait_end(there.machine)
    assert "the machine ends: queue my-first-queue has ended already" in there.machine.read(LOG)
    assert report(cloud, boot)["outcome"] == "over"
    assert not there.machine.exists("/opt/runner")
    assert cloud.open_spot_requests() == []


def test_a_power_cut_in_the_midst_of_the_boot_costs_time_only(
    new: New, launched: Launched, cloud: Cloud
) -> None:
    """User-data doesn't run again: a spot machine that was stopped too early would never work."""
    boot = launched.boot({**quickstart(), "queue_id": "cut"})
    there = new(boot)
    keys = f"iam/security-credentials/{there.cloud.role}"
    kept = there.imds.data.pop(keys)  # it waits for its keys
    there.machine.boot(wait=False)
    says = "has no iam/security-credentials/ yet"
    there.machine.wait_for(
        lambda: there.machine.exists(LOG) and says in there.machine.read(LOG), "its wait"
    )
    there.machine.power_cut()
    there.imds.data[keys] = kept
    there.machine.boot(wait=False)
    wait_end(there.machine)
    assert report(cloud, boot)["outcome"] == "ready"
    assert cloud.state(there.instance_id) == "terminated"
    assert not there.machine.exists(
        "/etc/systemd/system/multi-user.target.wants/runner-boot.service"
    )


def test_the_lifetime_guard_survives_a_power_cut_in_the_midst_of_the_boot(
    new: New, launched: Launched
) -> None:
    """User-data doesn't run again: nothing would ever end a machine that was cut half-way."""
    boot = launched.boot(quickstart())
    there = new(boot)
    there.imds.data.pop(f"iam/security-credentials/{there.cloud.role}")  # it waits for its keys
    there.machine.boot(wait=False)
    says = "has no iam/security-credentials/ yet"
    there.machine.wait_for(
        lambda: there.machine.exists(LOG) and says in there.machine.read(LOG), "its wait"
    )
    there.machine.power_cut()
    # An hour passes while it is off.
    assert "OnActiveSec=1800" in there.machine.read(TIMER)
    unit = there.machine.read(OVERDUE)
    over = unit.replace(str(boot.expires), str(int(time.time()) - 60))
    assert over != unit
    there.machine.write(OVERDUE, over)
    # And what would go on with the boot is broken.
    there.machine.write("/var/lib/runner-boot/boot.sh", "exit 1\n")
    there.machine.boot(wait=False)
    wait_end(there.machine)
