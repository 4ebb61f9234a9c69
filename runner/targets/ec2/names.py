"""The names by which a laptop finds again what it has launched: tags in EC2, keys in the bucket.

One object's worth of facts for both ends: user-data, the instance, status, reap and resume read
what launch has written. Nothing else spells a tag or a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

QUEUE = "runner:queue"
"""The queue_id. Every instance, volume, network interface and spot request of ours has it; `ls`
and `reap` find machines by this key."""

LAUNCH = "runner:launch"
"""The launch: one word, new for each `launch` and `resume`; client tokens begin with it."""

STORE = "runner:store"
"""``s3://bucket/prefix``: where results, logs and state of the first queue are."""

EXPIRES = "runner:expires"
"""RFC 3339: when max_lifetime is over. Who finds a machine alive after that may end it."""

TERMINATES = "runner:on-complete"
"""What becomes of the machine once its queues have ended: ``terminate``, ``stop``, ``none``."""

PRICE = "runner:price-per-hour"
"""US dollars, a decimal number: what the launch expected to pay. Absent where nobody knew."""

FIRING = "runner:firing"
"""RFC 3339, as EventBridge Scheduler writes it: which firing of a schedule launched the machine.
The tags QUEUE, LAUNCH and STORE have the schedule's part then, see ``machine_tags``."""

LIFETIME = "runner:lifetime"
"""Seconds that a machine of a schedule may live: the schedule can't know when it ends."""

OPTIONS = "runner:options"
"""The sha256 of how a schedule's machines are asked for: no index says it of them."""

OVERLAP = "runner:overlap"
"""``allow`` or ``skip``: what a firing does while one before it runs."""

PROFILE = "runner-instance"
"""The role of the machines, and the instance profile that holds it; `runner setup` makes both."""

HOME = "runner:home-region"
"""A tag of that role: the region whose stack made it. IAM is one for all regions."""

LAUNCH_POLICY = "runner-launch"
LOOK_POLICY = "runner-look"
SCHEDULE_POLICY = "runner-schedule"
"""The managed policies for people."""

LOOK_DOCUMENT = "Runner-Look"
ACT_DOCUMENT = "Runner-Act"
"""The documents of SSM Run Command, one set a region."""

FOLDER = "runner"
"""All keys of the bucket that are no queue's own are below it."""


def bundle_key(sha256: str, arch: str) -> str:
    """The installable bundle, once per content."""
    return f"{FOLDER}/bundles/runner-{arch}-{sha256[:32]}.tar.gz"


_SHIPPED = ("queue.json", "launch.json", "workdir.tar.gz")


def launch_key(launch: str, name: str) -> str:
    """What one launch has shipped, or its machine has said: ``queue.json``, ``launch.json``,
    ``workdir.tar.gz``, ``bootstrap.log``. All firings of a schedule have what it shipped."""
    if name in _SHIPPED and (fired := split_firing(launch)) is not None:
        return schedule_key(fired[0], name)
    return f"{FOLDER}/launches/{launch}/{name}"


def schedule_key(launch: str, name: str) -> str:
    """What a schedule has shipped. Not below ``launches``: what is there expires some day."""
    return f"{FOLDER}/schedules/{launch}/{name}"


def index_key(queue_id: str, prefix: str | None = None) -> str:
    """A small object that says which launch, and which machine, has a queue.

    ``prefix``: the key prefix of its results, if it isn't ``queues/<queue_id>``: the queue_id may
    have several in one bucket.
    """
    if prefix in (None, f"queues/{queue_id}"):
        return f"{FOLDER}/index/{queue_id}.json"
    return f"{index_folder(queue_id)}{short_hash(str(prefix))}.json"


def index_folder(queue_id: str) -> str:
    """Below it are the index's objects of this queue_id that have prefixes of their own."""
    return f"{FOLDER}/index/{queue_id}/"


MACHINES = f"{FOLDER}/machines/"
"""Below it are the lists of what was put onto machines."""


def machine_folder(instance_id: str) -> str:
    """In the machine's bucket: the list of what was put onto it besides its first queue."""
    return f"{MACHINES}{instance_id}/"


def machine_line(instance_id: str, queue_id: str, store: str) -> str:
    """In that list: the object of one queue."""
    return f"{machine_folder(instance_id)}{queue_id}/{short_hash(store)}.json"


def ending_folder(instance_id: str) -> str:
    """In the machine's bucket: who is about to end the machine. Not below ``MACHINES``: what lists
    queues there, an older runner too, takes each object for one."""
    return f"{FOLDER}/ending/{instance_id}/"


def short_hash(text: str) -> str:
    """Enough of a SHA-256 to tell a person's few stores apart."""
    import hashlib  # every verb imports this module, and few need OpenSSL

    return hashlib.sha256(text.encode()).hexdigest()[:16]


_INSTANCE = re.compile(r"i-([0-9a-f]{8}|[0-9a-f]{17})")


def is_instance(word: str) -> bool:
    """Whether it has the form of an instance's id, which no queue should have."""
    return _INSTANCE.fullmatch(word) is not None


# -- the firings of a schedule -----------------------------------------------------------------

_FIRED = re.compile(r"(.+)-(\d{4}-\d\d-\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)


def fired(word: str, when: str) -> str:
    """``word`` of a schedule's firing at an RFC 3339 time: a queue_id has no colon."""
    return f"{word}-{when.replace(':', '')}"


def split_firing(word: str) -> tuple[str, str] | None:
    """The schedule's word, and the time in RFC 3339; None for what has not the form of a firing's
    queue_id or launch."""
    found = _FIRED.fullmatch(word)
    return (found[1], f"{found[2]}T{found[3]}:{found[4]}:{found[5]}Z") if found else None


def machine_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """What the tags of a machine or a spot request say: of one that a schedule launched, which
    queue, launch and store its firing is."""
    told = dict(tags)
    when = tags.get(FIRING)
    if when is None or QUEUE not in tags:
        return told
    told[QUEUE] = fired(tags[QUEUE], when)
    if LAUNCH in tags:
        told[LAUNCH] = fired(tags[LAUNCH], when)
    if STORE in tags:
        told[STORE] = f"{tags[STORE]}/{told[QUEUE]}"
    return told


def tags_of(queue_id: str) -> list[dict[str, str | None]]:
    """By which tags, each of them, machines of a queue are found."""
    found: list[dict[str, str | None]] = [{QUEUE: queue_id}]
    if (of_schedule := split_firing(queue_id)) is not None:
        found.append({QUEUE: of_schedule[0], FIRING: of_schedule[1]})
    return found
