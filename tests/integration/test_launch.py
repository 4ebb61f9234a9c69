"""The whole command against an account: what it launches, what it ships, what it says."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import pty
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from account import PROFILE, Account, Laptop, tags_of
from ec2_faults import Refuse, RudeEc2

from runner.targets.ec2.observe import queue_machines


@pytest.fixture
def laptop(aws: Account, tmp_path: Path) -> Laptop:
    return Laptop(aws, tmp_path)


def test_one_command_launches_one_tagged_machine(laptop: Laptop, aws: Account) -> None:
    """Nobody would find the machine, or what it is for, and it would never be ended."""
    done = laptop.launch("--tag", "team=blue")
    assert done.returncode == 0
    (machine,) = laptop.instances()
    tags = tags_of(machine)
    assert tags["runner:queue"] == tags["Name"] == laptop.queue_id
    assert tags["runner:store"] == f"s3://{laptop.bucket}/queues/{laptop.queue_id}"
    assert (tags["runner:on-complete"], tags["team"]) == ("terminate", "blue")
    record = laptop.record()
    assert record["instance_id"] == machine["InstanceId"]
    assert (tags["runner:launch"], tags["runner:expires"]) == (record["launch"], record["expires"])
    assert (
        laptop.read(f"runner/index/{laptop.queue_id}.json")["instance_id"] == record["instance_id"]
    )
    assert machine["MetadataOptions"]["HttpTokens"] == "required"
    volume = aws.client("ec2").describe_volumes(
        VolumeIds=[machine["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]]
    )["Volumes"][0]
    assert (volume["Encrypted"], volume["Size"], volume["VolumeType"]) == (True, 30, "gp3")
    assert tags_of(volume)["runner:launch"] == record["launch"]


def test_it_ships_document_and_bundle_and_says_what_comes_next(laptop: Laptop) -> None:
    """A machine would have nothing to run, or something else than was asked for."""
    done = laptop.launch()
    document = laptop.read(f"runner/launches/{laptop.record()['launch']}/queue.json")
    assert document["queue_id"] == laptop.queue_id
    digest = hashlib.sha256(laptop.bundle.read_bytes()).hexdigest()[:32]
    assert f"runner/bundles/runner-x86_64-{digest}.tar.gz" in laptop.stored()
    (machine,) = laptop.instances()
    assert f"{machine['InstanceId']} t3.medium on-demand in us-east-1a: launched" in done.stdout
    assert "May I close my laptop? Yes" in done.stdout
    assert f"runner-status {machine['InstanceId']}" in done.stdout


def test_a_dry_run_launches_nothing(laptop: Laptop) -> None:
    """Who only wants to see the price would pay it, or for a machine without the laptop's PATH."""
    laptop.write(env={"PATH": f"{laptop.root}:/usr/bin"})
    done = laptop.launch("--dry-run", "--json")
    assert done.returncode == 0
    assert "warning: env.PATH: names a place of this computer" in done.stderr
    plan = json.loads(done.stdout)
    assert [each["zone"] for each in plan["candidates"]][:2] == ["us-east-1a", "us-east-1b"]
    assert (laptop.instances(), laptop.stored()) == ([], [])


@pytest.fixture
def ec2(aws: Account, laptop: Laptop) -> Iterator[RudeEc2]:
    """Stands before the account, with prices and Deep Learning images."""
    made = RudeEc2(aws.endpoint.port)
    laptop.url = made.url
    yield made
    made.close()


def test_the_plan_has_prices_and_the_image_of_a_gpu(ec2: RudeEc2, laptop: Laptop) -> None:
    """A GPU would have no driver, and its price be seen on the bill."""
    path = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023"
    known = laptop.account.client("ec2").describe_images(Owners=["amazon"])["Images"]
    image = next(each for each in known if each["Name"].startswith("amzn-ami-hvm"))
    ec2.parameters[f"{path}/latest/ami-id"] = image["ImageId"]
    ec2.prices["g5.2xlarge"] = 1.212
    done = laptop.launch("--instance-type", "g5.2xlarge", "--dry-run", "--disk-size", "200")
    assert done.returncode == 0
    told = dict(line.split(":", 1) for line in done.stdout.splitlines())
    said = {name: what.strip() for name, what in told.items()}
    assert said["Type"] == "g5.2xlarge (8 vCPU, 32 GiB, NVIDIA GPU, x86_64)"
    assert said["Market"] == "on-demand"
    assert said["Price"] == (
        "g5.2xlarge on-demand: $1.21 an hour, $9.70 for 8h0m0s (global_timeout); "
        "disk and traffic apart"
    )
    assert image["ImageId"] in said["Image"]
    assert said["Disk"] == "200 GiB, gp3, encrypted"
    assert said["Ends"].startswith("terminates 5m0s after the queue has ended")
    assert said["At the latest"] == "17h0m0s after the launch (2 × global_timeout + 1h0m0s)"
    assert "nothing was launched: --dry-run" in done.stderr


def test_the_price_is_a_tag(ec2: RudeEc2, laptop: Laptop) -> None:
    """`runner ls` could tell no costs."""
    ec2.prices["t3.medium"] = 0.0416
    ec2.spot_prices["t3.medium", "us-east-1b"] = 0.0125
    ec2.order("RunInstances", Refuse("InsufficientInstanceCapacity", "None.", 500))
    done = laptop.launch("--spot")
    assert tags_of(laptop.instances()[0])["runner:price-per-hour"] == "0.0125"
    assert "it costs $0.0125 an hour now, $0.21 until then" in done.stdout


def test_an_unknown_price_is_told_as_unknown(laptop: Laptop) -> None:
    """A guess would be believed."""
    done = laptop.launch("--dry-run")
    assert "t3.medium on-demand: not known: pricing:GetProducts: no answer (500)" in done.stdout


def test_mistakes_in_document_and_flags_come_together(laptop: Laptop) -> None:
    """Each would cost a try of its own."""
    laptop.write(result_s3_bucket=None)
    done = laptop.launch("--disk-size", "0", "--workdir", "not-there")
    assert done.returncode == 2
    lines = [line.removeprefix("runner launch: ") for line in done.stderr.splitlines()]
    assert lines[0].startswith("result_s3_bucket: is missing; a launch needs a bucket of yours")
    assert lines[1] == "--workdir: not-there is not a folder"
    assert lines[2].startswith('--disk-size: "0" is not a number of GiB')


def test_an_image_that_cannot_be_launched_is_refused_before_anything(laptop: Laptop) -> None:
    """A Windows machine would never end itself; a disk size would be another than was asked."""
    known = laptop.account.client("ec2").describe_images(Owners=["amazon"])["Images"]
    windows, linux = (
        next(
            each
            for each in known
            if each["Name"].startswith(name) and re.fullmatch("ami-[0-9a-f]{8}", each["ImageId"])
        )
        for name in ("Windows_Server-2016", "amzn-ami-hvm")
    )
    assert windows["Platform"] == "windows"
    done = laptop.launch("--ami", windows["ImageId"])
    assert done.returncode == 2
    assert f"--ami: {windows['ImageId']} (Windows_Server-2016" in done.stderr
    assert "is a Windows image" in done.stderr
    done = laptop.launch("--ami", linux["ImageId"], "--disk-size", "2")
    assert done.returncode == 2
    assert f"--disk-size: {linux['ImageId']} (amzn-ami-hvm" in done.stderr
    assert "needs at least 15 GiB, and 2 were given" in done.stderr
    assert laptop.instances() == []


def test_what_aws_has_not_got_comes_together_and_nothing_was_touched(laptop: Laptop) -> None:
    """Half a launch would be left behind by a wrong word."""
    laptop.write(result_s3_bucket="no-such-bucket-of-ours")
    flags = ("--iam-role", "nope", "--subnet", "subnet-0123456789abcdef0", "--key-name", "k")
    done = laptop.launch("--instance-type", "t3.foo", *flags)
    assert done.returncode == 2
    for words in (
        "--instance-type: The following supplied instance types do not exist: [t3.foo]",
        "--iam-role: there is no instance profile nope",
        "--subnet: The subnet ID 'subnet-0123456789abcdef0' does not exist",
        "--key-name: The keypair",
        "result_s3_bucket: there is no bucket no-such-bucket-of-ours; make it with: aws s3 mb",
    ):
        assert words in done.stderr
    assert laptop.instances() == []
    assert laptop.records() == []


def test_an_account_without_the_role_is_led_to_setup(laptop: Laptop, aws: Account) -> None:
    """The first launch of everybody would end with a riddle."""
    iam = aws.client("iam")
    iam.remove_role_from_instance_profile(InstanceProfileName=PROFILE, RoleName=PROFILE)
    try:
        assert "holds no role" in laptop.launch().stderr
        iam.delete_instance_profile(InstanceProfileName=PROFILE)
        done = laptop.launch()
    finally:
        aws.make_profile()
    assert done.returncode == 2
    assert f"this account has no instance profile {PROFILE}: `runner setup` makes it" in done.stderr


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (
            {"AWS_REGION": "", "AWS_DEFAULT_REGION": ""},
            "no region is named: --region, AWS_REGION or `aws configure` names one",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "there are no AWS credentials\nrunner launch: `aws sts get-caller-identity` says",
        ),
    ],
)
def test_a_laptop_without_settings_is_told_what_to_set(
    laptop: Laptop, env: dict[str, str], words: str
) -> None:
    """botocore's own words name no flag."""
    done = laptop.launch(**env)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert laptop.stored() == []


def test_a_queue_with_a_living_machine_is_refused(laptop: Laptop) -> None:
    """Two machines would write to one place, and the older find out in the middle of a job."""
    laptop.launch()
    stored = laptop.stored()
    done = laptop.launch()
    (machine,) = laptop.instances()
    assert done.returncode == 2
    assert f"queue '{laptop.queue_id}' has a machine: {machine['InstanceId']}" in done.stderr
    assert laptop.stored() == stored


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 100)])
def test_a_queue_that_has_ended_is_refused(laptop: Laptop, status: str, code: int) -> None:
    """A machine would boot, find nothing to do, and cost all the same."""
    state = {"queue_id": laptop.queue_id, "run_id": "r", "status": status, "jobs": []}
    laptop.store(f"queues/{laptop.queue_id}/queue-state.json", state)
    done = laptop.launch()
    assert done.returncode == code
    assert f"nothing was launched: queue '{laptop.queue_id}' has {status}" in done.stderr
    assert f"runner results {laptop.queue_id}" in done.stderr


def test_a_queue_that_was_interrupted_goes_on(laptop: Laptop) -> None:
    """It would be refused, or begin anew."""
    state = {"queue_id": laptop.queue_id, "run_id": "r", "status": "interrupted", "jobs": []}
    laptop.store(f"queues/{laptop.queue_id}/queue-state.json", state)
    done = laptop.launch()
    assert done.returncode == 0
    assert "has a run of it (interrupted): it goes on" in done.stderr


def test_a_launch_from_elsewhere_that_nobody_can_see_yet_is_waited_for(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two laptops would make two machines, if the other one's clock is wrong."""
    where = {"store": f"s3://{laptop.bucket}/queues/{laptop.queue_id}", "region": "us-east-1"}
    told = {"launch": "other", "launched_at": "2020-01-01T00:00:00Z"}
    index = {"version": 1, "queue_id": laptop.queue_id, **where, **told}
    laptop.store(f"runner/index/{laptop.queue_id}.json", index)
    done = laptop.launch()
    assert done.returncode == 2
    assert f"another launch of '{laptop.queue_id}' (other) began" in done.stderr
    assert laptop.instances() == []
    monkeypatch.setattr(queue_machines, "RECENT", 0.0)
    assert laptop.launch().returncode == 0


def test_the_work_folder_goes_along(laptop: Laptop) -> None:
    """The commands would find nothing to run."""
    code = laptop.root / "code"
    code.mkdir()
    (code / "train.py").write_text("print()")
    done = laptop.launch("--workdir", str(code))
    assert done.returncode == 0
    key = f"runner/launches/{laptop.record()['launch']}/workdir.tar.gz"
    packed = io.BytesIO(laptop.account.endpoint.read(laptop.bucket, key))
    with tarfile.open(fileobj=packed) as archive:
        assert any(name.endswith("train.py") for name in archive.getnames())


def test_a_dry_run_shows_what_leaves_the_laptop(laptop: Laptop) -> None:
    """A secret would be in the bucket before anybody saw the list; or a job miss a file."""
    code = laptop.root / "code"
    code.mkdir()
    for name, size in (("train.py", 10), ("data\n\udcff.bin", 2 * 1024**2), (".env", 5)):
        (code / name).write_bytes(b"x" * size)
    (code / "link").symlink_to("/mnt/data")
    done = laptop.launch("--workdir", str(code), "--dry-run")
    shown = [line for line in done.stdout.splitlines() if line.startswith(("Work", "Left", "Care"))]
    assert shown == [
        f"Work folder:   2 files, 2.0 MiB, of {code}; the largest is 'data\\n%FF.bin', 2.0 MiB",
        "Careful:       it is in no git repository: all goes along but what is left out",
        "Left out:      '.env': variables, often with secrets",
        "Left out:      'link': a link to '/mnt/data', which is another place on the machine",
        "Left out:      --include FILE ships one of these files all the same",
    ]
    told = json.loads(laptop.launch("--workdir", str(code), "--dry-run", "--json").stdout)
    assert told["workdir"]["files"] == [
        {"path": "data\n%FF.bin", "bytes": 2 * 1024**2}, {"path": "train.py", "bytes": 10},
    ]  # fmt: skip
    assert [each["path"] for each in told["workdir"]["left_out"]] == [".env", "link"]
    words = ("--workdir", str(code), "--include", ".env", "--include", "link")
    told = json.loads(laptop.launch(*words, "--dry-run", "--json").stdout)
    assert told["workdir"]["count"] == 4 and told["workdir"]["left_out"] == []
    for wrong in (words[2:], (*words[:2], "--include", "missing")):
        refused = laptop.launch(*wrong)
        assert refused.returncode == 2 and "--include: " in refused.stderr
    assert laptop.instances() == [] and laptop.stored() == []


def test_the_bundle_is_sent_once_per_content(laptop: Laptop, ec2: RudeEc2) -> None:
    """Each launch would take 20 MB up a home's line."""
    laptop.launch()
    before = ec2.calls.count("S3.PUT")
    laptop.queue_id = f"{laptop.queue_id}-b"
    laptop.write()
    done = laptop.launch()
    assert "sending the bundle" not in done.stderr
    assert ec2.calls.count("S3.PUT") == before + before - 1


def test_a_bundle_of_another_bucket_is_shipped_through_the_launchs(laptop: Laptop) -> None:
    """The machine's role could not read it."""
    other = laptop.account.endpoint.bucket()
    body = laptop.bundle.read_bytes()
    laptop.account.endpoint.client().put_object(Bucket=other, Key="b.tar.gz", Body=body)
    assert laptop.launch("--bundle", f"s3://{other}/b.tar.gz").returncode == 0
    digest = hashlib.sha256(body).hexdigest()[:32]
    assert f"runner/bundles/runner-x86_64-{digest}.tar.gz" in laptop.stored()
    done = laptop.launch("--bundle", f"s3://{other}/none.tar.gz")
    assert done.returncode == 2


def test_the_machine_is_told_what_was_shipped(laptop: Laptop, ec2: RudeEc2) -> None:
    """It would install, or run, something that nobody has checked."""
    laptop.launch("--job-user", "train", "--keep-on-failure", "1h")
    data = base64.b64decode(ec2.launches[0]["UserData"])
    assert len(data) < 16_384
    script = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    assert hashlib.sha256(laptop.bundle.read_bytes()).hexdigest() in script
    key = f"runner/launches/{laptop.record()['launch']}/queue.json"
    document = laptop.account.endpoint.read(laptop.bucket, key)
    assert hashlib.sha256(document).hexdigest() in script
    assert '"job_user": "train"' in script and '"keep_on_failure": "1h0m0s"' in script


def test_json_is_all_there_is_on_stdout(laptop: Laptop) -> None:
    """A program would have to read prose."""
    done = laptop.launch("--json")
    told = json.loads(done.stdout)
    assert told["instance_id"] == laptop.instances()[0]["InstanceId"]
    assert told["plan"]["candidates"][0]["type"] == "t3.medium"


def test_on_a_terminal_too_it_asks_nothing(laptop: Laptop) -> None:
    """A launch whose purpose is to launch would hang for an answer."""
    mine, its = pty.openpty()
    process = subprocess.Popen(
        laptop.words(), env=laptop.env, cwd=laptop.root, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    with suppress(OSError):  # the terminal's end
        while os.read(mine, 4096):
            pass
    os.close(mine)
    assert process.wait(20) == 0
    assert len(laptop.instances()) == 1
    for verb in ("launch", "prune"):
        words = [sys.executable, "-m", "runner", verb, "--help"]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert "It doesn't ask" in " ".join(told.split()), verb


def test_a_bucket_in_another_region_is_used_and_told(laptop: Laptop, ec2: RudeEc2) -> None:
    """The machine would look for it in its own region; its traffic be a surprise on the bill."""
    done = laptop.launch("--region", "eu-west-1")
    assert done.returncode == 0
    told = f"s3://{laptop.bucket} is in us-east-1, the machine in eu-west-1"
    assert told in done.stderr
    (machine,) = laptop.instances("eu-west-1")
    assert machine["Placement"]["AvailabilityZone"] == "eu-west-1a"
    data = base64.b64decode(ec2.launches[0]["UserData"])
    script = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    assert b'"region": "us-east-1"' in script
    again = laptop.launch()  # elsewhere: the index knows in which region it lives
    assert f"has a machine: {machine['InstanceId']}" in again.stderr
