"""What really is in the cloud of the launch fuzz, whatever anybody is shown of it.

Owns the machines of a round with the queues that are on them, what EC2 shows of them meanwhile, and
the wrongs that were done: each is noted in the moment when it is done.
"""

from __future__ import annotations

import fnmatch
import random
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runner.timestamps import rfc3339_seconds

ALIVE = ("pending", "running", "stopping", "stopped")

_NAMESPACE = "{http://ec2.amazonaws.com/doc/2016-11-15}"
ET.register_namespace("", _NAMESPACE[1:-1])

LONGEST_LAG = 120.0
"""Seconds in which EC2 may show what was before; what launches has to know of longer ones
(the product reckons with 180)."""


SEEN_EARLY = 0.15
"""Of the looks within that time, how many show it all the same."""


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Who a queue is: its store and its id."""

    store: str
    queue_id: str

    def __str__(self) -> str:
        return f"{self.queue_id} of {self.store}"


@dataclass(slots=True)
class Machine:
    """``queues``: unfinished ones that are on it or wait there; ``had``: all. Times are the
    round's clock. ``lags``: seconds until its birth, its end and a new tag are seen by all."""

    instance_id: str
    launch: str
    token: str
    owner: Identity
    born: float
    by: str
    lags: tuple[float, float, float]
    looks: random.Random
    expires: str = ""
    died: float | None = None
    state: str = "running"
    before: str = "running"
    queues: set[Identity] = field(default_factory=set)
    had: set[Identity] = field(default_factory=set)
    tagged: dict[str, float] = field(default_factory=dict)
    told: bool = False

    @property
    def alive(self) -> bool:
        return self.state in ALIVE


class Truth:
    """Of one round. ``now``: the round's clock, seconds since the epoch."""

    def __init__(self, seed: int, now: Callable[[], float], *, lagging: bool) -> None:
        self.now = now
        self.machines: dict[str, Machine] = {}
        self.wrongs: list[str] = []
        self.story: list[str] = []
        self.lagging = lagging
        self.known: set[Identity] = set()
        """Queues that have ever had a machine."""
        self._seed = seed

    def note(self, line: str) -> None:
        """For who reads of a failure."""
        self.story.append(line)

    def wrong(self, line: str) -> None:
        self.wrongs.append(line)
        self.note(f"    WRONG: {line}")

    def alive(self, owner: Identity | None = None) -> list[Machine]:
        """All that live, or those that have a queue."""
        return [
            each
            for each in self.machines.values()
            if each.alive and (owner is None or owner in each.queues)
        ]

    def seen_by_all(self) -> set[Identity]:
        """Unfinished queues on machines that EC2 shows to everybody by now."""
        since = self.now() - LONGEST_LAG
        return {queue for each in self.alive() if each.born < since for queue in each.queues}

    # -- what is done ------------------------------------------------------------------------

    def launched(self, instance_id: str, tags: Mapping[str, str], token: str, by: str) -> None:
        """A machine came to be. Wrong if its queue has another one."""
        owner = Identity(tags.get("runner:store", ""), tags.get("runner:queue", ""))
        looks = random.Random(f"{self._seed}/{len(self.machines)}")
        lags = tuple(looks.uniform(0, LONGEST_LAG) * looks.randrange(2) for _ in range(3))
        made = Machine(
            instance_id, tags.get("runner:launch", ""), token, owner, self.now(), by,
            (lags[0], lags[1], lags[2]), looks, expires=tags.get("runner:expires", ""),
        )  # fmt: skip
        made.queues = {owner}
        made.had = {owner}
        others = self.alive(owner)
        self.machines[instance_id] = made
        self.known.add(owner)
        self.note(f"    {instance_id} launched for {owner}, by {by}")
        if not all(tags.get(f"runner:{name}") for name in ("queue", "store", "launch")):
            self.wrong(f"{instance_id} has not the tags by which it is found: {dict(tags)}")
        for other in others:
            self.wrong(f"two machines have {owner}: {other.instance_id} and {instance_id}")

    def submitted(self, instance_id: str, queue: Identity, by: str) -> None:
        """A machine took a queue besides. Wrong if that queue has another one."""
        self.note(f"    {queue} put onto {instance_id}, by {by}")
        for other in self.alive(queue):
            if other.instance_id != instance_id:
                self.wrong(f"two machines have {queue}: {other.instance_id} and {instance_id}")
        self.known.add(queue)
        self.machines[instance_id].queues.add(queue)
        self.machines[instance_id].had.add(queue)

    def ended(self, instance_id: str, by: str) -> None:
        made = self.machines[instance_id]
        if made.alive:
            self.note(f"    {instance_id} ended, by {by}")
            made.before, made.state, made.died = made.state, "terminated", self.now()

    def stopped(self, instance_id: str) -> None:
        """As an interruption of a spot machine, or the end of its queue, stops it."""
        self.note(f"    {instance_id} stopped")
        self.machines[instance_id].state = "stopped"

    # -- what is seen ------------------------------------------------------------------------

    def _seen_yet(self, made: Machine, since: float | None, lag: float) -> bool:
        """Whether this look shows it: until the lag is over it comes and goes."""
        if since is None:
            return False
        if not self.lagging or self.now() - since >= lag:
            return True
        return made.looks.random() < SEEN_EARLY

    def seen(self, everything: ET.Element) -> Iterator[ET.Element]:
        """EC2's instances as it shows them now."""
        for instance in _instances(everything):
            made = self.machines.get(_text(instance, "instanceId"))
            if made is None or not self._seen_yet(made, made.born, made.lags[0]):
                continue
            if made.died is not None and not self._seen_yet(made, made.died, made.lags[1]):
                state = instance.find(f"{_NAMESPACE}instanceState")
                assert state is not None
                _set(state, "name", made.before)
            _date(instance, made.born)
            for item in list(instance.iterfind(f"{_NAMESPACE}tagSet/{_NAMESPACE}item")):
                since = made.tagged.get(_text(item, "key"))
                if since is not None and not self._seen_yet(made, since, made.lags[2]):
                    tags = instance.find(f"{_NAMESPACE}tagSet")
                    assert tags is not None
                    tags.remove(item)
            yield instance


def _instances(everything: ET.Element) -> Iterator[ET.Element]:
    where = "/".join(f"{_NAMESPACE}{name}" for name in ("reservationSet", "item", "instancesSet"))
    yield from everything.iterfind(f"{where}/{_NAMESPACE}item")


def _text(item: ET.Element, name: str) -> str:
    return item.findtext(f"{_NAMESPACE}{name}") or ""


def _date(instance: ET.Element, born: float) -> None:
    """With the times of the round's clock, which moto doesn't know."""
    for item in instance.iter():
        if item.tag in (f"{_NAMESPACE}launchTime", f"{_NAMESPACE}attachTime"):
            item.text = rfc3339_seconds(born)


def _set(item: ET.Element, name: str, text: str) -> None:
    found = item.find(f"{_NAMESPACE}{name}")
    assert found is not None
    found.text = text


def matches(instance: ET.Element, filters: Sequence[tuple[str, Sequence[str]]]) -> bool:
    """EC2's filters: any value of each, ``*`` and ``?`` as in a shell."""
    tags = {
        _text(item, "key"): _text(item, "value")
        for item in instance.iterfind(f"{_NAMESPACE}tagSet/{_NAMESPACE}item")
    }
    state = instance.find(f"{_NAMESPACE}instanceState")
    assert state is not None
    known = {
        "instance-state-name": [_text(state, "name")],
        "client-token": [_text(instance, "clientToken")],
        "instance-id": [_text(instance, "instanceId")],
        "tag-key": list(tags),
    }
    for name, values in filters:
        have = [tags[name[4:]]] if name[:4] == "tag:" and name[4:] in tags else known.get(name, [])
        assert name in known or name.startswith("tag:"), f"the fuzz doesn't know the filter {name}"
        if not any(fnmatch.fnmatchcase(one, value) for one in have for value in values):
            return False
    return True


def page(instances: Sequence[ET.Element], token: str = "") -> bytes:
    """An answer of DescribeInstances; ``token``: of the next page."""
    root = ET.Element(f"{_NAMESPACE}DescribeInstancesResponse")
    found = ET.SubElement(root, f"{_NAMESPACE}reservationSet")
    for instance in instances:
        item = ET.SubElement(found, f"{_NAMESPACE}item")
        ET.SubElement(item, f"{_NAMESPACE}reservationId").text = "r-1"
        ET.SubElement(item, f"{_NAMESPACE}instancesSet").append(instance)
    if token:
        ET.SubElement(root, f"{_NAMESPACE}nextToken").text = token
    data: bytes = ET.tostring(root)
    return data
