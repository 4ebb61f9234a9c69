"""The names by which a laptop finds again what it has launched: tags in EC2, keys in the bucket.

One object's worth of facts for both ends: user-data, the instance, status, reap and resume read
what launch has written. Nothing else spells a tag or a key.
"""

from __future__ import annotations

import re

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

PROFILE = "runner-instance"
"""The role of the machines, and the instance profile that holds it; `runner setup` makes both."""

HOME = "runner:home-region"
"""A tag of that role: the region whose stack made it. IAM is one for all regions."""

LAUNCH_POLICY = "runner-launch"
LOOK_POLICY = "runner-look"
"""The managed policies for people."""

LOOK_DOCUMENT = "Runner-Look"
ACT_DOCUMENT = "Runner-Act"
"""The documents of SSM Run Command, one set a region."""

FOLDER = "runner"
"""All keys of the bucket that are no queue's own are below it."""


def bundle_key(sha256: str, arch: str) -> str:
    """The installable bundle, once per content."""
    return f"{FOLDER}/bundles/runner-{arch}-{sha256[:32]}.tar.gz"


def launch_key(launch: str, name: str) -> str:
    """What one launch has shipped, or its machine has said: ``queue.json``, ``launch.json``,
    ``workdir.tar.gz``, ``bootstrap.log``."""
    return f"{FOLDER}/launches/{launch}/{name}"


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
