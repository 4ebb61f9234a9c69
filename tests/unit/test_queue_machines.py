"""Which machines have a queue, and what of it is in doubt; and the claim on it."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from runner.aws.ec2 import Ec2, Machine, SpotRequest
from runner.aws.errors import AwsError, ErrorKind
from runner.errors import ConflictError
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket, StoredText
from runner.targets.ec2.index import ClaimedError, Index
from runner.targets.ec2.launch.launch_guard import RENEWED, LaunchGuard
from runner.targets.ec2.launch.local_launches import Launch, Launches
from runner.targets.ec2.launch_record import LaunchRecord
from runner.targets.ec2.observe.locate import QueuePlace, Trace, of_one_queue
from runner.targets.ec2.observe.queue_machines import (
    RECENT,
    Known,
    QueueMachines,
    Unsure,
    machines_of,
)
from runner.targets.ec2.queue_ref import QueueRef
from runner.targets.port import AmbiguousError

QUEUE = QueueRef("q", "s3://bkt/queues/q")
LAUNCH = Launch("q", QUEUE.store, "r", "l-1", 1000.0, 4600.0)
INDEX = QUEUE.index_key
LEASE = "queues/q/lease.json"


class Objects:
    """A bucket. ``ages`` in seconds by key; ``lost``: answers of puts that are lost."""

    name = "bkt"

    def __init__(self) -> None:
        self.data: dict[str, dict[str, Any]] = {}
        self.ages: dict[str, float] = {}
        self.versions: dict[str, int] = {}
        self.lost = 0
        self.refused = 0
        self.puts = 0

    def put(self, key: str, value: dict[str, Any], age: float = 0.0) -> None:
        self.data[key], self.ages[key] = value, age
        self.versions[key] = self.versions.get(key, 0) + 1

    def stored(self, key: str) -> StoredText | None:
        if key not in self.data:
            return None
        data = json.dumps(self.data[key]).encode()
        return StoredText(data, str(self.versions[key]), self.ages[key])

    def swap_json(self, key: str, value: dict[str, Any], etag: str | None) -> str:
        self.puts += 1
        if self.refused:
            self.refused -= 1
            raise AwsError(ErrorKind.CONFLICT, "409", "at the same time")
        now = str(self.versions[key]) if key in self.data else None
        if now != etag:
            raise AwsError(ErrorKind.CONFLICT, "PreconditionFailed", "changed")
        self.put(key, json.loads(json.dumps(value)))
        if self.lost:
            self.lost -= 1
            raise AwsError(ErrorKind.PASSING, "ReadTimeoutError", "no answer")
        return str(self.versions[key])

    def delete(self, key: str) -> None:
        del self.data[key]


class Region:
    """One region of EC2. ``unlisted``: what it shows by its id only, as while its lists lag."""

    client = None

    def __init__(self, region: str = "r") -> None:
        self.region = region
        self.listed: list[Machine] = []
        self.unlisted: list[Machine] = []
        self.requests: list[SpotRequest] = []
        self.silent = False

    def machines(self, tags: dict[str, str], states: object = ()) -> list[Machine]:
        if self.silent:
            raise AwsError(ErrorKind.PASSING, "ConnectTimeoutError", "no answer")
        return [one for one in self.listed if tags.items() <= dict(one.tags).items()]

    def machine(self, instance_id: str) -> Machine | None:
        if not instance_id.startswith("i-"):
            raise AwsError(ErrorKind.INVALID, "InvalidParameterValue", instance_id)
        both = [*self.listed, *self.unlisted]
        return next((one for one in both if one.instance_id == instance_id), None)

    def spot_requests(self, **_: Any) -> list[SpotRequest]:
        return self.requests


def machine(name: str, state: str = "running", store: str | None = QUEUE.store) -> Machine:
    tags = {names.QUEUE: "q"} | ({names.STORE: store} if store else {})
    return Machine(name, state, "t3.micro", "r", tags=tags)


def look(objects: Objects, *regions: Region, own: str | None = None) -> QueueMachines:
    clients = [cast(Ec2, region) for region in regions]
    return machines_of(QUEUE, cast(LaunchBucket, objects), clients, own)


def holders(found: QueueMachines) -> list[tuple[str, Known]]:
    return [(one.owned.id, one.known) for one in found.holders]


def unsure(found: QueueMachines) -> list[Unsure]:
    return [one.unsure for one in found.doubts]


def test_a_machine_is_known_by_tag_index_or_lease() -> None:
    """A queue put onto a machine of another one would be launched beside it."""
    objects, region = Objects(), Region()
    region.listed = [machine("i-1"), machine("i-9", store="s3://other/queues/q")]
    region.unlisted = [machine("i-2"), machine("i-3")]
    objects.put(INDEX, LAUNCH.having(instance_id="i-2").record.plain, age=9999)
    objects.put(LEASE, lease("i-3", 60), age=30)
    expected = [("i-1", Known.TAG), ("i-2", Known.INDEX), ("i-3", Known.LEASE)]
    found = look(objects, region)
    assert holders(found) == expected and unsure(found) == []


def lease(holder: str | None, valid: float, **more: Any) -> dict[str, Any]:
    told = {"run_id": "r", "epoch": 1, "holder": "h", "valid_for_seconds": valid, **more}
    return told if holder is None else {**told, "instance_id": holder}


def test_what_has_ended_has_no_queue() -> None:
    """A queue could never be launched again."""
    objects, region = Objects(), Region()
    region.unlisted = [machine("i-2", "terminated"), machine("i-3", "shutting-down")]
    objects.put(INDEX, LAUNCH.having(instance_id="i-2").record.plain)
    objects.put(LEASE, lease("i-3", 60))
    assert look(objects, region) == QueueMachines([], [], look(objects, region).entry)
    objects.put(LEASE, lease("i-5", 60, released=True))
    assert unsure(look(objects, region)) == []


@pytest.mark.parametrize(
    ("index", "age", "expected"),
    [
        (LAUNCH.record.plain, RECENT - 1, [Unsure.LAUNCHING]),
        (LAUNCH.record.plain, RECENT, []),
        ({**LAUNCH.record.plain, "outcome": "nothing was launched"}, 1, []),
        (LAUNCH.having(instance_id="i-2").record.plain, RECENT - 1, [Unsure.UNSEEN]),
        (LAUNCH.having(instance_id="i-2").record.plain, RECENT, []),
        ({"version": 99}, 1, [Unsure.LAUNCHING]),
    ],
)
def test_what_the_index_names_and_ec2_does_not_is_a_doubt(
    index: dict[str, Any], age: float, expected: list[Unsure]
) -> None:
    """A machine would be launched beside one that EC2 doesn't show yet; or never again."""
    objects = Objects()
    objects.put(INDEX, index, age)
    assert unsure(look(objects, Region())) == expected


def test_the_own_launch_is_no_doubt() -> None:
    """A launch that was cut off could not be gone on with for three minutes."""
    objects = Objects()
    objects.put(INDEX, LAUNCH.record.plain)
    assert unsure(look(objects, Region(), own="l-1")) == []


def test_a_living_lease_of_an_unknown_holder_is_a_doubt() -> None:
    """A desk's run would be taken over; a lease that a job has forged would raise an error."""
    objects, region = Objects(), Region()
    for holder in (None, "i-7", "; rm -rf /"):
        objects.put(LEASE, lease(holder, 60), age=59)
        assert unsure(look(objects, region)) == [Unsure.HELD]
        objects.put(LEASE, lease(holder, 60), age=61)
        assert unsure(look(objects, region)) == []


def test_a_silent_region_is_a_doubt_and_an_open_request_a_machine() -> None:
    """What nobody can see would be taken for nothing; EC2 would launch for the request."""
    objects, region, other = Objects(), Region(), Region("far")
    other.silent = True
    request = SpotRequest("sir-1", "open", "", "", None, tags={names.QUEUE: "q"})
    region.requests = [request]
    found = look(objects, region, other)
    assert holders(found) == [("sir-1", Known.TAG)] and unsure(found) == [Unsure.SILENT]


# -- the claim -------------------------------------------------------------------------------


def test_a_claim_whose_answer_was_lost_is_recognised() -> None:
    """Our own write would be taken for another laptop's."""
    objects = Objects()
    index = Index(cast(LaunchBucket, objects))
    objects.lost = 1
    first = index.claim(LAUNCH.record, "a", index.read(QUEUE))
    assert first.claim == "a"
    objects.refused = 1
    assert index.claim(LAUNCH.record, "b", first).claim == "b", "409 is no loss of the race"
    with pytest.raises(ClaimedError) as lost:
        index.claim(LAUNCH.record, "c", first)
    assert lost.value.by.claim == "b"


def test_a_claim_that_came_to_nothing_is_put_back() -> None:
    """A submit that was refused would leave the queue with a machine that doesn't have it."""
    objects = Objects()
    index = Index(cast(LaunchBucket, objects))
    before = index.read(QUEUE)
    index.put_back(LAUNCH.record, index.claim(LAUNCH.record, "a", before), before)
    assert INDEX not in objects.data
    objects.put(INDEX, {**LAUNCH.record.plain, "claim": "old"})
    before = index.read(QUEUE)
    index.put_back(LAUNCH.record, index.claim(LAUNCH.record, "a", before), before)
    assert index.read(QUEUE).claim == "old"


def test_after_a_pause_the_claim_is_looked_at_again(tmp_path: Any) -> None:
    """A laptop that slept would launch a queue that another has launched meanwhile."""
    objects, now = Objects(), [0.0]
    guard = LaunchGuard(
        cast(Ec2, Region()), cast(LaunchBucket, objects), Launches(tmp_path), lambda: now[0]
    )
    guard.renew()
    guard.claim(LAUNCH)
    now[0] = RENEWED - 1
    guard.renew()
    assert objects.puts == 1, "not before each request"
    now[0] = RENEWED + 1
    guard.renew()
    assert objects.puts == 2
    objects.put(INDEX, {**LAUNCH.record.plain, "launch": "l-2"})
    now[0] = 3 * RENEWED
    with pytest.raises(ConflictError, match=r"another launch has 'q' now \(l-2\)"):
        guard.renew()


def test_a_pause_while_the_claim_is_written_counts_too(tmp_path: Any) -> None:
    """The answer would reach a laptop that slept on it for minutes, and a second machine be had."""
    now, pauses = [0.0], [RENEWED + 1]

    class Slow(Objects):
        def swap_json(self, key: str, value: dict[str, Any], etag: str | None) -> str:
            told = super().swap_json(key, value, etag)
            now[0] += pauses.pop(0) if pauses else 0.0
            return told

    objects = Slow()
    guard = LaunchGuard(
        cast(Ec2, Region()), cast(LaunchBucket, objects), Launches(tmp_path), lambda: now[0]
    )
    guard.claim(LAUNCH)
    guard.renew()
    assert objects.puts == 2, "it was written before the pause"
    guard.renew()
    assert objects.puts == 2
    pauses += [RENEWED + 1] * 10
    now[0] += RENEWED
    with pytest.raises(ConflictError, match="can't be renewed in time"):
        guard.renew()


# -- which queue a word means ----------------------------------------------------------------


def test_a_word_for_queues_of_several_stores_is_refused() -> None:
    """The newest would be taken, whoever's it is."""
    ann, bob = LaunchRecord("q", "s3://ann/queues/q", "r"), LaunchRecord("q", "s3://bob/p", "r")
    unknown = LaunchRecord("q", "", "r", "i-1")
    traces = [Trace(ann, "here"), Trace(bob, "i-2 in r, running"), Trace(unknown, "i-1")]
    with pytest.raises(AmbiguousError) as refused:
        of_one_queue("q", traces, None)
    for line in ("s3://ann/queues/q (here)", "s3://bob/p (i-2 in r, running)", "--bucket BUCKET"):
        assert line in str(refused.value)
    assert of_one_queue("q", traces, QueuePlace("bob")) == (traces[1],)
    assert of_one_queue("q", traces, QueuePlace("s3://ann/queues/q")) == (traces[0],)
    assert of_one_queue("q", traces, QueuePlace("s3://ann/other")) == ()
    assert of_one_queue("q", [traces[0], traces[2]], None) == (traces[0], traces[2])
