"""`resume` against an account: the old machine is ended, and one like it goes on."""

from __future__ import annotations

import gzip
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from account import Account, Laptop, tags_of


@pytest.fixture
def laptop(aws: Account, tmp_path: Path) -> Laptop:
    return Laptop(aws, tmp_path)


def resume(laptop: Laptop, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    assert laptop.queue_id is not None
    words = ["resume", laptop.queue_id, "--bundle", str(laptop.bundle), *flags]
    process = laptop.start_command(*words, **env)
    out, err = process.communicate(timeout=120)
    print(f"-> {process.returncode}\n{out}\n{err}")
    assert "Traceback" not in err
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def store(laptop: Laptop, status: str = "running") -> None:
    """What a machine has stored of the queue."""
    document = json.loads(laptop.path.read_text())
    moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    job = {"job_id": "a", "status": "running", "attempt": 1}
    state = {
        "queue_id": laptop.queue_id,
        "run_id": "r",
        "status": status,
        "updated_at": moment,
        "jobs": [job],
    }
    for name, told in (("queue.json", document), ("queue-state.json", state)):
        laptop.account.endpoint.client().put_object(
            Bucket=laptop.bucket,
            Key=f"queues/{laptop.queue_id}/{name}",
            Body=json.dumps(told).encode(),
        )


def states(laptop: Laptop) -> dict[str, str]:
    return {one["InstanceId"]: one["State"]["Name"] for one in laptop.instances()}


def boot_of(laptop: Laptop, instance: str) -> str:
    """The user-data, as the machine reads it."""
    answer = laptop.account.client("ec2").describe_instance_attribute(
        InstanceId=instance, Attribute="userData"
    )
    import base64

    data = base64.b64decode(answer["UserData"]["Value"])
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()


def launched(laptop: Laptop, *flags: str) -> str:
    assert laptop.launch(*flags).returncode == 0
    (machine,) = laptop.instances()
    return str(machine["InstanceId"])


def test_a_replacement_is_like_the_launch(laptop: Laptop, tmp_path: Path) -> None:
    """Somebody would have to remember, days later, how it was launched."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text("print(1)\n")
    flags = ("--disk-size", "50", "--tag", "team=blue", "--keep-on-failure", "1h", "--workdir")
    old = launched(laptop, *flags, str(code))
    store(laptop)
    first = laptop.record()["launch"]
    done = resume(laptop, "--json")
    assert done.returncode == 0
    now = states(laptop)
    (new,) = set(now) - {old}
    assert now[old] in ("shutting-down", "terminated") and now[new] == "running"
    told = json.loads(done.stdout)
    assert told["instance_id"] == new and told["launch"] != first
    assert f"{old} in us-east-1, queue {laptop.queue_id}" in done.stderr
    assert "is ended first" in done.stderr and "unfinished jobs: 1 of 1" in done.stderr
    (machine,) = [one for one in laptop.instances() if one["InstanceId"] == new]
    tags = tags_of(machine)
    assert (tags["runner:queue"], tags["team"]) == (laptop.queue_id, "blue")
    assert machine["InstanceType"] == "t3.medium"
    ec2 = laptop.account.client("ec2")
    disk = machine["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    assert ec2.describe_volumes(VolumeIds=[disk])["Volumes"][0]["Size"] == 50
    assert f"runner/launches/{first}/workdir.tar.gz" in boot_of(laptop, new)
    recipe = laptop.read(f"runner/launches/{told['launch']}/launch.json")
    assert recipe["flags"]["keep_on_failure"] == "1h", "the next one is like it, too"
    assert recipe["workdir"]["key"] == f"runner/launches/{first}/workdir.tar.gz"
    assert laptop.read(f"runner/index/{laptop.queue_id}.json")["instance_id"] == new


@pytest.mark.long
def test_what_is_said_stands_over_what_was_launched(laptop: Laptop) -> None:
    """A queue that spot can't be had for could not go on."""
    old = launched(laptop, "--spot", "--fallback-on-demand")
    store(laptop)
    assert resume(laptop, "--on-demand", "--instance-type", "t3.large").returncode == 0
    (new,) = [one for one in laptop.instances() if one["InstanceId"] != old]
    assert new["InstanceType"] == "t3.large" and "InstanceLifecycle" not in new


@pytest.mark.long
def test_a_dry_run_ends_and_launches_nothing(laptop: Laptop) -> None:
    """Who only looks would lose the machine."""
    old = launched(laptop)
    store(laptop)
    done = resume(laptop, "--dry-run")
    assert done.returncode == 0 and "is ended first" in done.stderr
    assert states(laptop) == {old: "running"}


def test_nothing_is_ended_for_a_launch_that_can_not_be(laptop: Laptop) -> None:
    """A typing error would cost the machine that works."""
    old = launched(laptop)
    store(laptop)
    wrong = resume(laptop, "--subnet", "subnet-0123456789abcdef0", "--iam-role", "nobody")
    assert wrong.returncode != 0
    both = resume(laptop, "--spot", "--on-demand")
    assert both.returncode == 2
    assert states(laptop) == {old: "running"}


def failed(laptop: Laptop) -> None:
    """A queue whose job has failed, in its bucket."""
    laptop.launch()
    store(laptop, "failed")
    client, key = laptop.account.endpoint.client(), f"queues/{laptop.queue_id}/queue-state.json"
    state = json.loads(client.get_object(Bucket=laptop.bucket, Key=key)["Body"].read())
    state["jobs"] = [{"job_id": "a", "status": "failed", "attempt": 1, "exit_code": 3}]
    client.put_object(Bucket=laptop.bucket, Key=key, Body=json.dumps(state).encode())


def corrected(laptop: Laptop, **job: Any) -> str:
    document = json.loads(laptop.path.read_text())
    document["jobs"][0] |= job
    path = laptop.root / "corrected.json"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.long
def test_a_failed_queue_is_mended_by_another_machine(laptop: Laptop) -> None:
    """All that had been done would have to be done again on the next machine."""
    failed(laptop)
    path = corrected(laptop, command="true # mended")
    refused = resume(laptop, "--yes")
    assert refused.returncode == 2 and "--retry-failed runs again what failed" in refused.stderr
    refused = resume(laptop, "--yes", "--batch-queue", path)
    assert refused.returncode == 2 and "--batch-queue: goes with --retry-failed" in refused.stderr
    done = resume(laptop, "--yes", "--batch-queue", path, "--retry-failed", "--update")
    assert done.returncode == 0 and "(failed): it is mended" in done.stderr
    boot = boot_of(laptop, next(i for i, at in states(laptop).items() if at == "running"))
    told = json.loads(next(line for line in boot.splitlines() if line.startswith("{")))
    assert told["again"] == ["--retry-failed", "--update"]
    shipped = laptop.account.endpoint.client().get_object(
        Bucket=laptop.bucket, Key=told["document"]["key"]
    )
    assert b"mended" in shipped["Body"].read()


def test_a_change_that_is_not_accepted_launches_nothing(laptop: Laptop) -> None:
    """A machine would be paid for that has nothing to do but to say so."""
    failed(laptop)
    before = states(laptop)
    document = json.loads(Path(corrected(laptop)).read_text())
    document["jobs"].append({"job_id": "new", "command": "true", "timeout": "1m"})
    path = laptop.root / "corrected.json"
    path.write_text(json.dumps(document))
    refused = resume(laptop, "--yes", "--batch-queue", str(path), "--retry-failed")
    assert refused.returncode == 2 and '"new" is new: --update accepts new jobs' in refused.stderr
    assert states(laptop) == before


def test_an_ended_queue_needs_no_machine(laptop: Laptop) -> None:
    """A machine would find nothing to do; or the one that stores the last results be ended."""
    old = launched(laptop)
    store(laptop, "completed")
    done = resume(laptop)
    assert done.returncode == 2 and "there is nothing to go on with" in done.stderr
    assert states(laptop) == {old: "running"}


@pytest.mark.long
def test_from_another_laptop(laptop: Laptop, tmp_path: Path) -> None:
    """The one that launched it is lost, and EC2 has forgotten the machine."""
    old = launched(laptop)
    laptop.account.client("ec2").terminate_instances(InstanceIds=[old])
    laptop.account.client("ec2").delete_tags(Resources=[old], Tags=[{"Key": "runner:queue"}])
    store(laptop)
    elsewhere: dict[str, Any] = {"XDG_STATE_HOME": str(tmp_path / "other")}
    unknown = resume(laptop, **elsewhere)
    assert unknown.returncode == 102 and "--bucket BUCKET" in unknown.stderr
    assert resume(laptop, "--bucket", laptop.bucket, **elsewhere).returncode == 0
    assert len(states(laptop)) == 2


@pytest.mark.long
def test_a_recipe_that_was_changed_launches_nothing(laptop: Laptop, tmp_path: Path) -> None:
    """Who can write to the bucket would choose the role and the image of a person's machine."""
    old = launched(laptop, "--disk-size", "40")
    store(laptop)
    key = f"runner/launches/{laptop.record()['launch']}/launch.json"
    place = f"s3://{laptop.bucket}/{key}"
    told = laptop.read(key)
    told["flags"]["iam_role"] = "runner-instance"
    laptop.store(key, told)
    elsewhere = {"XDG_STATE_HOME": str(tmp_path / "other")}
    for env in ({}, elsewhere):
        refused = resume(laptop, **env)
        assert refused.returncode == 2 and f"{place} is not what the launch wrote" in refused.stderr
    assert states(laptop) == {old: "running"}
    laptop.account.endpoint.client().delete_object(Bucket=laptop.bucket, Key=key)
    assert resume(laptop).returncode == 2, "nothing tells the type"
    done = resume(laptop, "--instance-type", "t3.medium")
    assert done.returncode == 0 and "only flags count" in done.stderr


@pytest.mark.long
def test_twice_is_two_replacements_and_one_machine(laptop: Laptop) -> None:
    """Two machines would work on one queue."""
    launched(laptop)
    store(laptop)
    for _ in range(2):
        assert resume(laptop).returncode == 0
    assert sorted(states(laptop).values()).count("running") == 1
    assert len(states(laptop)) == 3


@pytest.mark.long
def test_the_newest_launch_is_the_one_that_the_index_names(laptop: Laptop) -> None:
    """A launch from a computer whose clock is fast would be taken for the newest ever after."""
    launched(laptop, "--disk-size", "50")
    store(laptop)
    told = {"queue": laptop.queue_id, "launch": "20991231-000000-0a1b2c3d"}
    told["store"] = f"s3://{laptop.bucket}/queues/{laptop.queue_id}"
    tags = [{"Key": f"runner:{name}", "Value": value} for name, value in told.items()]
    ec2 = laptop.account.client("ec2")
    (fast,) = ec2.run_instances(
        ImageId="ami-12c6146b", InstanceType="t3.medium", MinCount=1, MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )["Instances"]  # fmt: skip
    ec2.terminate_instances(InstanceIds=[fast["InstanceId"]])
    assert resume(laptop).returncode == 0
    recipe = laptop.read(f"runner/launches/{laptop.record()['launch']}/launch.json")
    assert recipe["flags"]["disk_size"] == "50"
