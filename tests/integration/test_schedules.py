"""`runner schedule` against an account, with a clock that fires what is stored there."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from account import Account, Laptop, tags_of
from firing_clock import FiringClock, make_account
from imds import Imds

from runner.aws.scheduler import Schedules
from runner.bundle.bare import telling
from runner.bundle.bare.aws import Aws, Metadata
from runner.bundle.bare.bucket import Bucket
from runner.bundle.bare.patience import Over
from runner.targets.ec2.boot.first_boot import firing
from runner.timestamps import rfc3339_seconds

WHEN = "2026-11-29T02:00:00Z"
NEXT = "2026-11-30T02:00:00Z"


@pytest.fixture(scope="module")
def ready() -> Iterator[Account]:
    """An account in which `runner setup --schedules` was called."""
    account = Account()
    make_account(account.client)
    yield account
    account.close()


@pytest.fixture
def clock(ready: Account) -> FiringClock:
    return FiringClock(ready.client)


@pytest.fixture
def laptop(ready: Account, tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(ready, tmp_path)
    yield made
    scheduler = ready.client("scheduler")
    for each in scheduler.list_schedules(GroupName="runner")["Schedules"]:
        scheduler.delete_schedule(GroupName="runner", Name=each["Name"])


def create(laptop: Laptop, *flags: str) -> Any:
    words = ["--instance-type", "t3.medium", "--bundle", str(laptop.bundle)]
    return laptop.command(
        "schedule", "create", str(laptop.path), "--cron", "0 2 * * *", *words, *flags
    )


def boot_of(text: str) -> tuple[str, dict[str, Any]]:
    """The script in a schedule's Input, and the boot.json in it."""
    script = gzip.decompress(base64.b64decode(json.loads(text)["UserData"])).decode()
    found = re.search(r"<<'END_OF_BOOT_JSON' \|\| return\n(.*?)\nEND_OF_BOOT_JSON", script)
    assert found is not None
    return script, json.loads(found[1])


def test_the_guides_command_line_works_as_printed(
    laptop: Laptop, clock: FiringClock, ready: Account
) -> None:
    """The queue would never run, or each night run on two machines."""
    params = laptop.root / "queue-params.yaml"
    params.write_text(
        "batch_queue: queue.json\ninstance_type: t3.medium\nspot: true\ndisk_size: 40\n"
        f"bundle: {laptop.bundle}\nmax-lifetime: 9h\ntag: {{team: blue}}\nname: nightly\n"
    )
    words = ("--cron", "0 2 * * *", "--timezone", "America/New_York")
    done = laptop.command("schedule", "create", str(params), *words)
    assert done.returncode == 0
    assert "schedule nightly in us-east-1: made" in done.stdout
    assert "not checked before the day: whether" in done.stderr
    stored = clock.schedule("nightly")
    assert stored["ScheduleExpression"] == "cron(0 2 * * ? *)"
    assert stored["ScheduleExpressionTimezone"] == "America/New_York"
    assert stored["Target"]["DeadLetterConfig"]["Arn"].endswith(":runner-schedules")
    assert stored["Target"]["RoleArn"].endswith(":role/runner-scheduler")
    script, boot = boot_of(stored["Target"]["Input"])
    assert "\nexpires=+32400\n" in script
    assert (boot["queue_id"], boot["firing"]["overlap"]) == ("nightly", "allow")
    assert all(key in laptop.stored() for key in (boot["document"]["key"], boot["bundle"]["key"]))
    assert boot["document"]["key"].startswith("runner/schedules/"), "launches expire in 90 days"

    first = clock.fire("nightly", WHEN, times=3)
    second = clock.fire("nightly", NEXT)
    assert first and second and first != second
    machines = {each["InstanceId"]: each for each in laptop.instances()}
    assert set(machines) == {first, second}, "a firing that is delivered twice is one machine"
    tags = tags_of(machines[first])
    assert (tags["runner:firing"], tags["runner:queue"]) == (WHEN, "nightly")
    assert (tags["runner:lifetime"], tags["team"]) == ("32400", "blue")
    assert "runner:expires" not in tags
    raw = json.loads(stored["Target"]["Input"])
    assert raw["MetadataOptions"]["InstanceMetadataTags"] == "enabled"
    spot = raw["InstanceMarketOptions"]["SpotOptions"]
    assert spot == {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}


@pytest.mark.long
def test_a_firing_is_listed_reaped_and_ended_by_its_queues_id(
    laptop: Laptop, clock: FiringClock
) -> None:
    """Its machine would be nobody's, and cost until somebody sees the bill."""
    assert create(laptop, "--name", "listed", "--max-lifetime", "9h").returncode == 0
    first, second = clock.fire("listed", WHEN), clock.fire("listed", NEXT)
    assert first and second
    queue_id = "listed-2026-11-29T020000Z"
    told = laptop.command("ls", "--json")
    mine = {each["id"]: each for each in json.loads(told.stdout)["found"]}
    assert mine[first]["queue"] == queue_id
    assert mine[first]["store"] == f"s3://{laptop.bucket}/queues/{queue_id}"
    left = (json_time(mine[first]["expires_at"]) - json_time(mine[first]["began_at"])) / 3600
    assert left == pytest.approx(9, abs=0.01)
    late = laptop.command("reap", "--older-than", "1ms", "--dry-run", "--json")
    assert first in late.stdout
    gone = laptop.command("terminate", queue_id, "--yes")
    assert gone.returncode == 0
    assert f"{first}" in gone.stdout and second not in gone.stdout


def json_time(text: str) -> float:
    from runner.timestamps import parse_rfc3339

    return parse_rfc3339(text)


@pytest.mark.long
def test_the_same_command_again_makes_nothing_twice(laptop: Laptop, clock: FiringClock) -> None:
    """Whoever repeats it after a lost answer would have two, or none."""
    assert create(laptop).returncode == 0
    before = clock.schedule(str(laptop.queue_id))["Target"], laptop.stored()
    again = create(laptop)
    assert again.returncode == 0
    assert "is there already, as asked for" in again.stdout
    assert (clock.schedule(str(laptop.queue_id))["Target"], laptop.stored()) == before
    other = create(laptop, "--max-lifetime", "3h")
    assert other.returncode == 2
    assert "made by another command" in other.stderr


@pytest.mark.long
def test_ls_says_whether_a_machine_came_and_why_not(laptop: Laptop, clock: FiringClock) -> None:
    """A schedule that has failed for a week would look like one that works."""
    assert create(laptop, "--name", "n").returncode == 0
    now = time.time()
    ran, refused, skipped, lost = (rfc3339_seconds(now - 3600 * each) for each in (1, 24, 48, 72))
    machine = clock.fire("n", ran, times=2)
    assert clock.fire("n", refused, refuse="Ec2.InsufficientInstanceCapacity") is None
    launch = json.loads(clock.schedule("n")["Target"]["Input"])["ClientToken"].partition("-<")[0]
    report = {
        "version": 1,
        "outcome": "over",
        "error": "skipped: n-2026 runs",
        "instance_id": "i-0123456789abcdef0",
    }
    stamp = skipped.replace(":", "")
    laptop.store(f"runner/launches/{launch}-{stamp}/bootstrap.json", report)
    state = {"queue_id": "n", "status": "completed"}
    laptop.store(f"queues/n-{ran.replace(':', '')}/queue-state.json", state)
    told = laptop.command("schedule", "ls", "--json", "-n", "9")
    assert told.returncode == 0
    (one,) = json.loads(told.stdout)["schedules"]
    found = {each["when"]: each for each in one["firings"]}
    assert (found[ran]["instance_id"], found[ran]["outcome"]) == (machine, "completed")
    why = "no machine: Ec2.InsufficientInstanceCapacity: There is not enough capacity"
    assert (found[refused]["machine_came"], found[refused]["outcome"]) == (False, why)
    assert found[skipped]["outcome"] == "skipped: n-2026 runs"
    assert lost not in found
    again = laptop.command("schedule", "ls")
    assert why in again.stdout, "whoever looks first would be the only one who sees it"
    shown = laptop.command("schedule", "show", "n")
    assert shown.returncode == 0
    assert (
        len(re.findall(r"^(?:Next: )? +\w{3} 20\d\d-\d\d-\d\d 02:00 UTC", shown.stdout, re.M)) == 5
    )


@pytest.mark.long
def test_pause_resume_run_now_and_delete_leave_nothing(
    laptop: Laptop, clock: FiringClock, ready: Account
) -> None:
    """It would fire on, and cost, after somebody has ended it."""
    (laptop.root / "code").mkdir()
    (laptop.root / "code" / "a.py").write_text("1\n")
    done = create(laptop, "--name", "n", "--workdir", str(laptop.root / "code"))
    assert done.returncode == 0
    shipped = [key for key in laptop.stored() if key.startswith("runner/schedules/")]
    assert [key.rpartition("/")[2] for key in shipped] == [
        "launch.json",
        "queue.json",
        "workdir.tar.gz",
    ]
    before = clock.schedule("n")
    assert "is paused" in laptop.command("schedule", "pause", "n").stdout
    assert clock.fire("n", WHEN) is None
    assert "as before" in laptop.command("schedule", "pause", "n").stdout
    assert "fires again" in laptop.command("schedule", "resume", "n").stdout
    assert clock.schedule("n")["Target"] == before["Target"], "a change would lose what isn't told"
    ran = laptop.command("schedule", "run-now", "n", "--json")
    assert ran.returncode == 0
    told = json.loads(ran.stdout)
    (machine,) = laptop.instances()
    assert machine["InstanceId"] == told["instance_id"]
    assert tags_of(machine)["runner:firing"] == told["firing"]
    data = ready.client("ec2").describe_instance_attribute(
        InstanceId=told["instance_id"], Attribute="userData"
    )["UserData"]["Value"]
    assert data == json.loads(before["Target"]["Input"])["UserData"], "encoded twice, or not at all"

    clock.fire("n", NEXT, refuse="Ec2.VcpuLimitExceeded")
    asked = laptop.command("schedule", "delete", "n")
    assert asked.returncode == 2 and "add --yes" in asked.stderr
    gone = laptop.command("schedule", "delete", "n", "--yes")
    assert gone.returncode == 0
    assert f"{told['instance_id']} (n-" in gone.stderr
    assert [key for key in laptop.stored() if key.startswith("runner/schedules/")] == []
    assert ready.client("scheduler").list_schedules(GroupName="runner")["Schedules"] == []
    sqs = ready.client("sqs")
    url = sqs.get_queue_url(QueueName="runner-schedules")["QueueUrl"]
    left = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
    arns = [m["MessageAttributes"]["SCHEDULE_ARN"]["StringValue"] for m in left.get("Messages", ())]
    assert before["Arn"] not in arns
    missing = laptop.command("schedule", "delete", "n", "--yes")
    assert missing.returncode == 102 and "there is no schedule 'n'" in missing.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--instance-type", "t3.medium,t3.large"), "several types are not for a schedule yet"),
        (("--subnet", "subnet-0123456789abcdef0,subnet-0123456789abcdef1"), "several subnets"),
        (("--spot", "--fallback-on-demand"), "--fallback-on-demand: is not for a schedule yet"),
        (("--tag", "a b=c"), '--tag "a b": the machine reads its tags'),
        (("--cron", "0 2 13 * 5"), "either of them, which EventBridge can't say"),
        (("--cron", "0 2 * *"), "--cron:"),
        (("--timezone", "America/NewYork"), "--timezone:"),
        (("--name", "notice-a"), "--name:"),
        (("--name", "a/b"), "--name:"),
        (("--wait",), "--wait: is for a launch"),
        (("--ami", "ami-0123456789abcdef0"), "ami-0123456789abcdef0"),
        (("--max-lifetime", "1s"), "--max-lifetime"),
        (("--here",), "--instance-type: is about a machine on EC2"),
    ],
)  # fmt: skip
@pytest.mark.long
def test_what_no_firing_could_do_is_refused_at_once(
    laptop: Laptop, flags: tuple[str, ...], told: str
) -> None:
    """It would be found at two in the morning, by nobody."""
    done = create(laptop, *flags)
    assert done.returncode == 2
    assert told in done.stderr
    assert laptop.stored() == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"batch_queue": "queue.json", "instance_tpye": "t3.medium"}, "instance_tpye: is no flag"),
        ({"batch_queue": "queue.json", "spot": "yes"}, "spot: must be true or false"),
        ({"batch_queue": "queue.json", "overlap": "never"}, "is none of allow, skip"),
        ({"batch_queue": 7}, "must be the path of a queue document"),
        ({"batch_queue": "none.json"}, "none.json: can't be read"),
    ],
)
@pytest.mark.long
def test_a_mistake_in_the_file_is_told_with_its_key(
    laptop: Laptop, params: dict[str, Any], told: str
) -> None:
    """A key with a slip would be left out in silence, and the wrong machine launched."""
    path = laptop.root / "params.json"
    path.write_text(json.dumps(params))
    done = laptop.command("schedule", "create", str(path), "--cron", "0 2 * * *")
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.long
def test_an_account_without_its_setup_is_told_what_to_do(aws: Account, tmp_path: Path) -> None:
    """The Scheduler's own words would name an ARN, and not the command that makes it."""
    done = create(Laptop(aws, tmp_path))
    assert done.returncode == 2
    for what in ("role runner-scheduler", "group runner", "queue runner-schedules"):
        assert f"there is not the {what.partition(' ')[0]}" in done.stderr or what in done.stderr
    assert "runner setup --schedules" in done.stderr


@pytest.mark.long
def test_a_dry_run_makes_nothing(laptop: Laptop, ready: Account) -> None:
    """Who only wants to see when it would fire would have it."""
    done = create(laptop, "--dry-run", "--json")
    assert done.returncode == 0
    plan = json.loads(done.stdout)
    assert (len(plan["next"]), plan["expression"]) == (5, "cron(0 2 * * ? *)")
    assert laptop.stored() == []
    assert ready.client("scheduler").list_schedules(GroupName="runner")["Schedules"] == []


GUIDE = Path(__file__).parents[2] / "docs/guides/schedules.md"


@pytest.mark.long
def test_the_guide_does_what_it_says(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who types what is printed there would get something else."""
    text = GUIDE.read_text()
    monkeypatch.chdir(laptop.root)
    laptop.queue_id = "nightly"
    laptop.write()
    found = re.search(r"<!-- test: queue-params.yaml -->\n```yaml\n(.*?)```", text, re.S)
    assert found is not None
    (laptop.root / "queue-params.yaml").write_text(f"{found[1]}bundle: {laptop.bundle}\n")
    blocks = re.findall(r"<!-- test: (run|here) -->\n```console\n(.*?)```", text, re.S)
    commands = [
        (kind, line.removeprefix("$ runner "), body)
        for kind, body in blocks
        for line in body.splitlines()
        if line.startswith("$ runner ")
    ]
    assert len(commands) == 8
    for kind, line, body in commands:
        done = laptop.command(*shlex.split(line.partition(" > ")[0]))
        assert done.returncode == 0, line
        if kind == "here":
            assert "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 02:00:00 Europe/Berlin" in done.stdout
        shown = [each for each in body.splitlines()[1:] if not each.startswith("$")]
        for each in shown:
            words = re.escape(" ".join(each.split()))
            pattern = re.sub(r"\d+", r"\\d+", words).replace("EST", "E[SD]T")
            assert re.search(pattern, " ".join(done.stdout.split())), each


@pytest.mark.long
def test_a_firing_is_found_when_ec2_has_forgotten_its_machine(
    laptop: Laptop, clock: FiringClock
) -> None:
    """Its results would be there, and nobody find them by the queue's id."""
    assert create(laptop, "--name", "n").returncode == 0
    stamp = "2026-11-20T020000Z"
    queue_id = f"n-{stamp}"
    document = json.loads(laptop.path.read_text())
    state = {
        "schema_version": 1,
        "queue_id": queue_id,
        "queue_name": "q",
        "run_id": "r",
        "status": "failed",
        "started_at": "2026-11-20T02:01:00Z",
        "updated_at": "2026-11-20T02:02:00Z",
        "completed_at": "2026-11-20T02:02:00Z",
        "jobs": [{"job_id": "a", "status": "failed", "attempt": 1, "exit_code": 1}],
    }
    place = f"queues/{queue_id}"
    laptop.store(f"{place}/queue-state.json", state)
    own = {**document, "queue_id": queue_id, "result_s3_prefix": place}
    laptop.store(f"{place}/queue.json", own)
    seen = laptop.command("status", queue_id, "--json", "--region", "us-east-1")
    assert seen.returncode == 0
    assert json.loads(seen.stdout)["status"] == "failed"
    # What was launched is known from the schedule, and no job can have changed it.
    words = ("--region", "us-east-1", "--retry-failed", "--yes", "--bundle", str(laptop.bundle))
    done = laptop.command("resume", queue_id, *words)
    assert done.returncode == 0
    (machine,) = laptop.instances()
    tags = tags_of(machine)
    assert (tags["runner:queue"], machine["InstanceType"]) == (queue_id, "t3.medium")
    assert tags["runner:store"] == f"s3://{laptop.bucket}/{place}"
    laptop.store(f"{place}/queue.json", {**own, "queue_name": "another"})
    other = laptop.command("resume", queue_id, *words)
    assert other.returncode != 0


@pytest.fixture
def booting(
    ready: Account, laptop: Laptop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Any]:
    """The part of a first boot that decides about an overlap, as instance i-…1 of NEXT,
    of a schedule that no other test has."""
    imds = Imds()
    keys = {"AccessKeyId": "test", "SecretAccessKey": "test", "Token": ""}
    imds.data = {
        "iam/security-credentials/r": json.dumps(keys),
        "tags/instance/runner:firing": NEXT,
    }
    for name, value in {**imds.env, "AWS_ENDPOINT_URL": ready.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RUNNER_BOOT_EXPIRES", "1900000000")
    monkeypatch.setattr(telling, "PLACE", str(tmp_path))
    monkeypatch.setattr(telling, "LOG", str(tmp_path / "log"))
    boot = {
        "queue_id": "s",
        "launch": "0-abc",
        "log_key": "runner/launches/0-abc/bootstrap.log",
        "report_key": "runner/launches/0-abc/bootstrap.json",
        "firing": {"name": "s", "parent": "queues", "overlap": "skip", "lifetime": 3600},
    }

    def decide(own: str = "i-00000000000000001") -> dict[str, Any]:
        metadata = Metadata()
        aws = Aws(metadata, "us-east-1")
        told = firing.settle(dict(boot), metadata)
        firing.see_that_none_runs(told, aws, Bucket(aws, laptop.bucket), own)
        return told

    yield decide
    imds.close()


def instance(ready: Account, queue: str, when: str | None) -> str:
    """A running machine of a schedule's firing, or of a queue by its id."""
    ec2 = ready.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    tags = [{"Key": "runner:queue", "Value": queue}]
    tags += [{"Key": "runner:firing", "Value": when}] if when else []
    made = ec2.run_instances(
        MinCount=1,
        MaxCount=1,
        ImageId=image,
        InstanceType="t3.medium",
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    return str(made["Instances"][0]["InstanceId"])


RUNNING = {"queue_id": "s", "status": "running"}
ENDED = {"queue_id": "s", "status": "failed"}
EARLIER, LATER = "s-2026-11-29T020000Z", "s-2026-12-01T020000Z"


@pytest.mark.long
def test_a_firing_is_skipped_while_another_is_worked_on(
    booting: Any, laptop: Laptop, ready: Account
) -> None:
    """Two would write the same things at once; or none would run, each waiting for the other."""
    told = booting()
    assert told["queue_id"] == "s-2026-11-30T020000Z"
    assert told["report_key"] == "runner/launches/0-abc-2026-11-30T020000Z/bootstrap.json"
    assert json.loads(Path(telling.PLACE, "boot.json").read_text()) == told
    ec2 = ready.client("ec2")
    # An earlier firing boots: it goes first. Of a later one that has not begun we go first.
    earlier = instance(ready, "s", WHEN)
    booting(own=earlier)
    with pytest.raises(Over, match=f"skipped: {EARLIER} runs on {earlier}"):
        booting()
    # Its queue has ended, and the machine is kept for a look: nothing runs.
    laptop.store(f"queues/{EARLIER}/queue-state.json", ENDED)
    booting()
    laptop.store(f"queues/{EARLIER}/queue-state.json", RUNNING)
    with pytest.raises(Over, match="skipped"):
        booting()
    ec2.terminate_instances(InstanceIds=[earlier])
    # A state that says running for ever is a machine's that died.
    booting()
    # Somebody works on it elsewhere: on another machine, in another region, on a laptop.
    lease = {"run_id": "r", "epoch": 1, "holder": "h", "valid_for_seconds": 600.0}
    laptop.store(f"queues/{EARLIER}/lease.json", lease)
    with pytest.raises(Over, match=f"skipped: {EARLIER} is being worked on"):
        booting()
    laptop.store(f"queues/{EARLIER}/lease.json", {**lease, "released": True})
    booting()
    resumed = instance(ready, EARLIER, None)
    with pytest.raises(Over, match=f"skipped: {EARLIER} runs on {resumed}"):
        booting()
    ec2.terminate_instances(InstanceIds=[resumed])
    later = instance(ready, "s", "2026-12-01T02:00:00Z")
    booting()
    laptop.store(f"queues/{LATER}/queue-state.json", RUNNING)
    with pytest.raises(Over, match=f"skipped: {LATER} runs on {later}"):
        booting()
    ec2.terminate_instances(InstanceIds=[later])
    # Another schedule's name may begin like ours.
    other = instance(ready, "s-two", WHEN)
    booting()
    ec2.terminate_instances(InstanceIds=[other])


@pytest.mark.long
def test_a_create_or_a_delete_that_was_cut_is_finished_by_the_same_command(
    laptop: Laptop, clock: FiringClock, ready: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was shipped would be left for ever, or a schedule fire with nothing to fetch."""

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Schedules, "create", cut)
        assert create(laptop, "--name", "n").returncode == 130
    shipped = laptop.stored()
    assert [key for key in shipped if key.startswith("runner/schedules/")]
    assert create(laptop, "--name", "n").returncode == 0
    assert laptop.stored() == shipped, "the same goes to the same place"
    assert clock.fire("n", WHEN)
    for name in ("update", "delete"):
        with monkeypatch.context() as patched:
            patched.setattr(Schedules, name, cut)
            assert laptop.command("schedule", "delete", "n", "--yes").returncode == 130
    assert clock.schedule("n")["State"] == "DISABLED", "it would fire with nothing to fetch"
    assert laptop.command("schedule", "delete", "n", "--yes").returncode == 0
    assert ready.client("scheduler").list_schedules(GroupName="runner")["Schedules"] == []
