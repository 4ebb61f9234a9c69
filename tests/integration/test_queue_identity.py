"""One queue, one machine: who a queue is, and who may launch it, by the real commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from account import Account, Laptop
from ec2_faults import Hold, LoseAnswer, Pass, RudeEc2, SeeNothing

pytestmark = pytest.mark.long

CLAIM = 3
"""PUTs before the claim of a launch whose bundle is there: probe, document, recipe."""


def person(aws: Account, ec2: RudeEc2, root: Path, queue_id: str) -> Laptop:
    """Somebody with a laptop and a bucket of their own."""
    root.mkdir()
    made = Laptop(aws, root)
    made.url, made.queue_id = ec2.url, queue_id
    made.write()
    return made


def states(laptop: Laptop) -> list[str]:
    return sorted(one["State"]["Name"] for one in laptop.instances())


def stored(laptop: Laptop) -> None:
    """What a machine that was lost has left of the queue."""
    state = {
        "queue_id": laptop.queue_id,
        "run_id": "r",
        "status": "running",
        "jobs": [{"job_id": "a", "status": "running", "attempt": 1}],
    }
    for name, told in (
        ("queue.json", json.loads(laptop.path.read_text())),
        ("queue-state.json", state),
    ):
        laptop.store(f"queues/{laptop.queue_id}/{name}", told)


def test_one_queue_id_in_two_buckets_is_two_queues(
    aws: Account, ec2: RudeEc2, tmp_path: Path
) -> None:
    """A resume, or a terminate, by its id would end another person's machine."""
    ann, bob = (person(aws, ec2, tmp_path / name, "weekly") for name in ("ann", "bob"))
    assert (ann.launch().returncode, bob.launch().returncode) == (0, 0)
    assert bob.launch().returncode == 2, "but not a second one of his own"
    (lost,) = ann.instances()
    aws.client("ec2").terminate_instances(InstanceIds=[lost["InstanceId"]])
    stored(ann)
    for words in (
        ("resume", "weekly", "--bundle", str(ann.bundle)),
        ("terminate", "weekly", "--yes"),
        ("status", "weekly"),
    ):
        refused = ann.command(*words)
        assert refused.returncode == 2
        assert "'weekly' means queues of 2 result stores" in refused.stderr
        for each in (ann, bob):
            assert f"s3://{each.bucket}/queues/weekly" in refused.stderr
    assert (states(ann), states(bob)) == (["terminated"], ["running"])
    bundle = ("--bundle", str(ann.bundle))
    assert ann.command("resume", "weekly", "--bucket", ann.bucket, *bundle).returncode == 0
    assert (states(ann), states(bob)) == (["running", "terminated"], ["running"])
    assert ann.command("terminate", "weekly", "--bucket", ann.bucket, "--yes").returncode == 0
    assert (states(ann), states(bob)) == (["terminated", "terminated"], ["running"])


def test_two_prefixes_of_one_bucket_are_two_queues(laptop: Laptop) -> None:
    """The second launch would take the first one's place in the index."""
    for prefix in ("ann/nightly", "bob/nightly"):
        laptop.write(result_s3_prefix=prefix)
        assert laptop.launch().returncode == 0
        assert laptop.launch().returncode == 2
    assert states(laptop) == ["running", "running"]
    assert laptop.queue_id is not None
    other = {"XDG_STATE_HOME": str(laptop.root / "other")}
    told = laptop.command("resume", laptop.queue_id, "--bucket", laptop.bucket, **other)
    assert told.returncode == 2 and f"s3://{laptop.bucket}/bob/nightly" in told.stderr
    place = f"s3://{laptop.bucket}/ann/nightly"
    ended = laptop.command("terminate", laptop.queue_id, "--bucket", place, "--yes", **other)
    assert ended.returncode == 0
    alive = [one for one in laptop.instances() if one["State"]["Name"] == "running"]
    assert [{"Key": "runner:store", "Value": f"s3://{laptop.bucket}/bob/nightly"}] == [
        tag for tag in alive[0]["Tags"] if tag["Key"] == "runner:store"
    ]


@pytest.mark.parametrize("word", ["*", "q*", "/etc/passwd", "../x", "", "q "])
def test_a_word_that_no_queue_can_have_means_nothing(word: str, laptop: Laptop) -> None:
    """EC2's wildcards would mean every machine, and a path a file of this computer."""
    done = laptop.command("terminate", word, "--yes", "--region", "us-east-1")
    assert done.returncode == 102 and "is known in us-east-1" in done.stderr


@pytest.mark.parametrize("unseen", [1, 2])
def test_a_machine_that_ec2_does_not_show_yet_is_one(
    unseen: int, ec2: RudeEc2, laptop: Laptop, tmp_path: Path
) -> None:
    """EC2's list lags behind a launch: the same command would launch a second machine."""
    assert laptop.launch().returncode == 0
    for env in ({}, {"XDG_STATE_HOME": str(tmp_path / "other")}):
        ec2.order("DescribeInstances", SeeNothing(), times=unseen)
        again = laptop.launch(**env)
        assert again.returncode == 2
        assert ("has a machine" if unseen == 1 else "EC2 doesn't show it yet") in again.stderr
    assert len(laptop.instances()) == 1


@pytest.mark.parametrize("number", range(5))
def test_a_lost_answer_to_our_own_write_is_not_somebody_else(
    number: int, ec2: RudeEc2, laptop: Laptop
) -> None:
    """The launch would end with "has just begun elsewhere", for what it has written itself."""
    ec2.order("S3.PUT", *[Pass()] * number, LoseAnswer())
    done = laptop.launch()
    assert done.returncode == 0
    (machine,) = laptop.instances()
    index = laptop.read(f"runner/index/{laptop.queue_id}.json")
    assert index["instance_id"] == machine["InstanceId"]


def test_a_machine_that_comes_after_another_claim_is_ended(ec2: RudeEc2, laptop: Laptop) -> None:
    """A laptop that slept between claim and launch would wake up and launch beside another's."""
    assert laptop.launch("--dry-run").returncode == 0
    ec2.order("RunInstances", Hold())
    process = laptop.start()
    ec2.wait_held()
    key = f"runner/index/{laptop.queue_id}.json"
    index = laptop.read(key)
    laptop.store(key, {**index, "launch": "other", "claim": "other", "instance_id": "i-0" * 6})
    ec2.release()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "another launch has claimed" in err and "was ended again" in err
    assert states(laptop) == ["terminated"]
    assert laptop.read(key)["claim"] == "other"


def test_who_works_on_it_elsewhere_keeps_it(laptop: Laptop) -> None:
    """A machine would take a queue away from a desk whose lease is alive."""
    lease = {"run_id": "r", "epoch": 1, "holder": "h", "renewed_at": "2001-01-01T00:00:00Z"}
    key = f"queues/{laptop.queue_id}/lease.json"
    laptop.store(key, {**lease, "valid_for_seconds": 3600})
    done = laptop.launch()
    assert done.returncode == 2 and "it renewed the queue's lease" in done.stderr
    laptop.store(key, {**lease, "valid_for_seconds": 3600, "instance_id": "i-0123456789abcdef0"})
    assert laptop.launch().returncode == 2, "EC2 doesn't know whom the lease names"
    assert laptop.instances() == []
    laptop.store(key, {**lease, "valid_for_seconds": 0})
    assert laptop.launch().returncode == 0


def test_a_machine_that_is_not_shown_yet_is_not_unknown(laptop: Laptop, ec2: RudeEc2) -> None:
    """Whoever ends what was launched a moment ago would be told that there is nothing, and go."""
    assert laptop.launch().returncode == 0
    (machine,) = laptop.instances()
    name = str(machine["InstanceId"])
    for target in (str(laptop.queue_id), name):
        ec2.order("DescribeInstances", *[SeeNothing()] * 9)
        done = laptop.command("terminate", target, "--yes")
        ec2.forget_orders()
        assert done.returncode == 1
        assert f"{name} in us-east-1 has '{laptop.queue_id}' since" in done.stderr
        assert "EC2 doesn't show it yet" in done.stderr and "nothing was ended" in done.stderr
    assert states(laptop) == ["running"]
    unknown = laptop.command("terminate", "never-launched", "--yes")
    assert unknown.returncode == 102 and "nothing of 'never-launched' is known" in unknown.stderr
