"""A machine that is ended while another person puts a queue onto it: one of the two gives way.

The other's command is run in the middle of the first, where the order of the two is decided.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from account import Account, Laptop

from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError, ErrorKind
from runner.errors import ConflictError
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.end import end_marker
from runner.targets.ec2.end.end_marker import EndGuard
from runner.targets.ec2.launch import placement
from runner.targets.ec2.observe.machine_lookup import ResolvedTarget, Target

pytestmark = pytest.mark.long


class Two:
    """``machine`` was launched for the laptop's queue; 'other' is another queue."""

    def __init__(self, aws: Account, folder: Path) -> None:
        self.laptop = Laptop(aws, folder)
        assert self.laptop.launch().returncode == 0
        (made,) = self.laptop.instances()
        self.machine = str(made["InstanceId"])
        self.queue = str(self.laptop.queue_id)

    @property
    def alive(self) -> bool:
        states = {each["InstanceId"]: each["State"]["Name"] for each in self.laptop.instances()}
        return states[self.machine] == "running"

    def put_on(self, then: Callable[[], None] = lambda: None, bucket: str = "") -> None:
        """Put the other queue onto it; ``then``: what happens once the machine was given it;
        ``bucket``: where its results go.

        Raises what `submit --on` does.
        """
        document = json.loads(self.laptop.path.read_text()) | {"queue_id": "other"}
        document["result_s3_bucket"] = bucket or self.laptop.bucket

        def submit(url: str, sha256: str) -> dict[str, Any]:
            then()
            return {"queue_id": "other", "created": True}

        with patch.dict(os.environ, self.laptop.env):
            ec2 = Ec2("us-east-1")
            found = ResolvedTarget(
                Target(self.machine), "us-east-1", ec2.machine(self.machine), self.machine,
                launch="l",
            )  # fmt: skip
            placement.place(found, document, json.dumps(document), submit, print)

    def refused(self) -> str:
        """Put the other queue onto it; why that was refused."""
        with pytest.raises(ConflictError) as refused:
            self.put_on()
        return str(refused.value)

    def end(self, *words: str) -> Any:
        return self.laptop.command("terminate", *(words or (self.queue,)), "--yes")

    def keys(self, *folders: str) -> list[str]:
        return [key for key in self.laptop.stored() if key.startswith(folders)]

    @property
    def markers(self) -> list[str]:
        return self.keys(names.ending_folder(self.machine))

    @property
    def placed(self) -> list[str]:
        """What says that the machine has the other queue."""
        return self.keys(names.machine_folder(self.machine), names.index_key("other"))


@pytest.fixture
def two(aws: Account, tmp_path: Path) -> Two:
    return Two(aws, tmp_path)


def once(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, act: Callable[[], object]) -> None:
    """Have something happen right before a function is called the first time."""
    before, acts = getattr(where, name), [act]

    def called(*given: Any, **named: Any) -> Any:
        if acts:
            acts.pop()()
        return before(*given, **named)

    monkeypatch.setattr(where, name, called)


@pytest.mark.parametrize("whole", [False, True])
def test_a_queue_that_was_put_on_before_the_marker_keeps_the_machine(
    two: Two, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """It was told to be submitted, and would be lost with the machine."""
    once(monkeypatch, EndGuard, "_marked", two.put_on)
    done = two.end(*([two.machine] if whole else []))
    assert done.returncode == 2
    assert f"{two.machine} has queue 'other' too, put onto it meanwhile" in done.stdout
    assert two.alive and two.markers == [] and len(two.placed) == 2


def test_a_queue_that_comes_after_the_marker_is_refused(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be told to be submitted, and lost a moment later."""
    told: list[str] = []
    once(monkeypatch, Ec2, "terminate", lambda: told.append(two.refused()))
    done = two.end()
    assert done.returncode == 0 and not two.alive
    assert f"{two.machine} is about to be ended by {end_marker.who()}" in told[0]
    assert "nothing was submitted" in told[0]
    assert two.placed == [] and two.markers == []


def test_an_end_in_the_middle_of_a_submit_gives_way(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the line and the look for markers each would think that it is alone."""
    ends: list[int] = []
    once(monkeypatch, placement, "markers", lambda: ends.append(two.end().returncode))
    two.put_on(lambda: ends.append(two.end().returncode))
    assert ends == [2, 2]
    assert two.alive and two.markers == [] and len(two.placed) == 2
    assert two.end("other", "--bucket", two.laptop.bucket).returncode == 2, "the first isn't done"
    both = two.end(two.queue, "other", "--bucket", two.laptop.bucket)
    assert both.returncode == 0 and not two.alive


def test_a_submit_in_the_middle_of_an_end_gives_way(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the marker and the list each would think that it is alone."""
    told: list[str] = []
    before = LaunchBucket.put_json

    def put(bucket: LaunchBucket, key: str, value: Any) -> None:
        before(bucket, key, value)
        if key.startswith(names.ending_folder(two.machine)):
            told.append(two.refused())

    monkeypatch.setattr(LaunchBucket, "put_json", put)
    assert two.end().returncode == 0
    assert len(told) == 1 and not two.alive and two.placed == []


def test_the_same_queue_again_on_a_machine_that_has_it_is_seen(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line was in the list already: a queue that is taken up again there would be lost."""
    two.put_on()
    state = {"queue_id": "other", "run_id": "r", "status": "completed", "jobs": [],
             "updated_at": "2026-01-01T00:00:00Z"}  # fmt: skip
    two.laptop.store("queues/other/queue-state.json", state)
    once(monkeypatch, EndGuard, "_marked", two.put_on)
    again = two.end()
    assert again.returncode == 2 and "has queue 'other' too, put onto it" in again.stdout
    assert two.alive
    assert two.end().returncode == 0, "it is known to be completed"


def test_of_two_that_end_it_neither_is_in_the_others_way(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's marker would keep the other from the end, or its removal make the other's useless."""
    seen: list[Any] = []

    def other() -> None:
        monkeypatch.setattr(EndGuard, "withdraw", lambda guard: seen.append(list(two.markers)))
        seen.append(two.end(two.machine).returncode)

    once(monkeypatch, Ec2, "terminate", other)
    assert two.end().returncode == 0
    assert seen == [0] and not two.alive and two.markers == []


def test_one_that_is_kept_leaves_the_others_marker(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue would come onto a machine that a second person is about to end."""
    told: list[str] = []

    def first_gives_way() -> None:
        assert len(two.markers) == 1, "the second person's"
        with patch.object(EndGuard, "_mark_and_look", side_effect=ConflictError("no")):
            assert two.end().returncode == 2
        told.append(two.refused())

    once(monkeypatch, Ec2, "terminate", first_gives_way)
    assert two.end().returncode == 0
    assert len(told) == 1 and not two.alive


def test_the_marker_of_one_that_was_cut_is_believed_for_a_while(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine would never take a queue again, or never be ended, for a process that is dead."""
    key = f"{names.ending_folder(two.machine)}dead.json"
    two.laptop.store(key, {"version": 1, "by": "ann@desk"})
    told = two.refused()
    assert "is about to be ended by ann@desk" in told and "it takes queues again in" in told
    assert two.placed == []
    monkeypatch.setattr(end_marker, "VALID", 0.0)
    two.put_on()
    assert len(two.placed) == 2
    assert two.end(two.machine).returncode == 0
    assert not two.alive and two.markers == []


def test_without_its_bucket_a_machine_is_ended(two: Two) -> None:
    """It would cost money for ever: nobody can put a queue onto it either."""
    two.laptop.account.endpoint.empty(two.laptop.bucket)
    two.laptop.account.client("s3").delete_bucket(Bucket=two.laptop.bucket)
    assert two.end().returncode == 0 and not two.alive


def test_where_the_bucket_can_not_be_told_only_the_machine_itself_is_ended(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's queue would be lost unseen; or a machine cost money for as long as S3 refuses."""

    def denied(bucket: LaunchBucket, key: str, value: Any) -> None:
        raise AwsError(ErrorKind.DENIED, "AccessDenied", "not you")

    monkeypatch.setattr(LaunchBucket, "put_json", denied)
    by_queue = two.end()
    assert by_queue.returncode == 1 and two.alive
    told = f"s3://{two.laptop.bucket} can't be told that {two.machine} is about to be ended"
    assert told in by_queue.stdout
    assert f"to end it all the same: runner terminate {two.machine}" in by_queue.stdout
    by_id = two.end(two.machine)
    assert by_id.returncode == 0 and told in by_id.stderr and not two.alive


def test_two_queues_of_one_id_are_two(two: Two) -> None:
    """Another's queue of the same name would be lost with the machine, and nobody told."""
    theirs = "s3://theirs/queues/mine"
    key = names.machine_line(two.machine, two.queue, theirs)
    two.laptop.store(key, {"version": 1, "queue_id": two.queue, "store": theirs})
    refused = two.end()
    assert refused.returncode == 2 and two.alive
    assert f"has queue '{two.queue}' too (of {theirs}), which is not finished" in refused.stderr


def test_a_queue_of_another_bucket_goes_on_after_its_machine(two: Two) -> None:
    """What was submitted lay in the machine's bucket alone: `resume` took it for a job's."""
    own = two.laptop.account.endpoint.bucket()
    two.put_on(bucket=own)
    assert two.end(two.machine).returncode == 0
    words = ("resume", "other", "--bucket", own, "--instance-type", "t3.medium", "--dry-run")
    done = two.laptop.command(*words, "--bundle", str(two.laptop.bundle))
    assert done.returncode == 0, done.stderr
