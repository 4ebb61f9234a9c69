"""A queue of a laptop's that is to be resumed, and what must be true of its replacement."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from account import Laptop, tags_of

DISK = 77
"""GiB that the launch asks for: not the default."""


def launch_to_resume(laptop: Laptop) -> tuple[str, list[str]]:
    """Launch a machine with a disk and a work folder of its own; its launch's word, and the words
    of a `resume` with a flag that the launch hadn't."""
    code = laptop.root / "code"
    code.mkdir()
    (code / "train.py").write_text("print(1)\n")
    flags = ("--disk-size", str(DISK), "--workdir", str(code))
    assert laptop.launch(*flags).returncode == 0
    state = {
        "queue_id": laptop.queue_id,
        "run_id": "r",
        "status": "running",
        "updated_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "jobs": [{"job_id": "a", "status": "running", "attempt": 1}],
    }
    laptop.store(f"queues/{laptop.queue_id}/queue.json", json.loads(laptop.path.read_text()))
    laptop.store(f"queues/{laptop.queue_id}/queue-state.json", state)
    assert laptop.queue_id is not None
    words = ["resume", laptop.queue_id, "--bundle", str(laptop.bundle), "--tag", "team=blue"]
    return laptop.record()["launch"], words


def alive(laptop: Laptop) -> list[dict[str, Any]]:
    """The queue's machines, as EC2 describes them."""
    return [each for each in laptop.instances() if each["State"]["Name"] == "running"]


def check_replacement(laptop: Laptop, first: str) -> None:
    """The queue's one machine has the disk and the work folder of the launch ``first``, and the
    flag of `resume`."""
    (machine,) = alive(laptop)
    client = laptop.account.client("ec2")
    disk = machine["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    assert client.describe_volumes(VolumeIds=[disk])["Volumes"][0]["Size"] == DISK
    assert tags_of(machine)["team"] == "blue"
    recipe = laptop.read(f"runner/launches/{tags_of(machine)['runner:launch']}/launch.json")
    assert recipe["workdir"]["key"] == f"runner/launches/{first}/workdir.tar.gz"
    assert recipe["flags"]["disk_size"] == str(DISK)
    assert laptop.record()["instance_id"] == machine["InstanceId"]
