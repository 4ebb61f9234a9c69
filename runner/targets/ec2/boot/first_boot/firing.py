"""A machine that a schedule launched: which firing it is, and whether one before it still runs.

Its user-data is the same every time. What differs is one tag, which the metadata service tells.
"""

import json
import os
import re
from typing import Any, Dict, List, Tuple
from xml.etree import ElementTree

from runner.bundle.bare import telling
from runner.bundle.bare.aws import Aws, Metadata
from runner.bundle.bare.bucket import Bucket
from runner.bundle.bare.patience import Again, Failed, Over, patiently

from .spot import ask_ec2

TAG = "runner:firing"
ENDED = ("completed", "failed", "cancelled")
FORMER = 5
"""Firings that are looked at, the newest ones."""


def settle(boot: Dict[str, Any], metadata: Metadata) -> Dict[str, Any]:
    """What a machine of this firing is to do, also for whoever reads boot.json. Raises Failed."""
    about = boot.get("firing")
    if not about:
        return boot
    when = patiently("the tag " + TAG, lambda: metadata.get("tags/instance/" + TAG)).strip()
    stamp = when.replace(":", "")
    if not re.match(r"\d{4}-\d\d-\d\dT\d{6}Z$", stamp):
        raise Failed(f"the tag {TAG} is no time of a schedule: {when}")
    queue_id = "{}-{}".format(boot["queue_id"], stamp)
    launch = "{}-{}".format(boot["launch"], stamp)
    told = dict(boot, queue_id=queue_id, launch=launch)
    told["state_key"] = "{}/{}/queue-state.json".format(about["parent"], queue_id)
    for name in ("log_key", "report_key"):
        told[name] = boot[name].replace(boot["launch"], launch)
    told["expires"] = int(os.environ["RUNNER_BOOT_EXPIRES"])
    path = telling.PLACE + "/boot.json"
    with open(path + ".new", "w") as file:
        json.dump(told, file)
    os.rename(path + ".new", path)
    return told


def see_that_none_runs(boot: Dict[str, Any], aws: Aws, bucket: Bucket, own: str) -> None:
    """Raises Over where another firing is being worked on, Failed where that can't be seen."""
    about = boot.get("firing") or {}
    if about.get("overlap") != "skip":
        return
    place, mine = "{}/{}-".format(about["parent"], about["name"]), boot["queue_id"]
    pattern = re.escape(about["name"]) + r"-\d{4}-\d\d-\d\dT\d{6}Z$"
    found = [word.rstrip("/").split("/")[-1] for word in bucket.folders(place)]
    former = sorted(word for word in found if re.match(pattern, word) and word != mine)
    for queue_id in former[-FORMER:]:
        key = "{}/{}/".format(about["parent"], queue_id)
        if _unfinished(bucket, key) and _leased(bucket, key + "lease.json"):
            raise Over(f"skipped: {queue_id} is being worked on")
    for instance, queue_id in machines(aws, about["name"]):
        key = "{}/{}/".format(about["parent"], queue_id)
        if instance == own or queue_id == mine or not re.match(pattern, queue_id):
            continue
        # One that has begun runs; of two that have not the one that was to be earlier goes first.
        unfinished = _unfinished(bucket, key)
        if unfinished or (unfinished is None and queue_id < mine):
            raise Over(f"skipped: {queue_id} runs on {instance}")


def machines(aws: Aws, name: str) -> List[Tuple[str, str]]:
    """The schedule's instances that run, or are about to, and the queue of each; a queue that was
    resumed on another machine is among them."""
    told = patiently("what EC2 has of " + name, lambda: _asked(aws, name))
    found = []
    for item in told.iterfind("reservationSet/item/instancesSet/item"):
        pairs = item.iterfind("tagSet/item")
        tags = {tag.findtext("key"): tag.findtext("value") or "" for tag in pairs}
        queue_id = tags.get("runner:queue", "")
        if TAG in tags:
            queue_id += "-" + tags[TAG].replace(":", "")
        found.append((item.findtext("instanceId"), queue_id))
    return found


def _asked(aws: Aws, name: str) -> Any:
    filters = {
        "Filter.1.Name": "tag:runner:queue",
        "Filter.1.Value.1": name,
        "Filter.1.Value.2": name + "-*",
        "Filter.2.Name": "instance-state-name",
        "Filter.2.Value.1": "pending",
        "Filter.2.Value.2": "running",
    }
    told = ask_ec2(aws, Action="DescribeInstances", **filters)
    try:
        return ElementTree.fromstring(re.sub(' xmlns="[^"]*"', "", told, count=1))
    except ElementTree.ParseError as error:
        raise Again("away", f"EC2 doesn't speak XML: {error}")


def _unfinished(bucket: Bucket, key: str) -> Any:
    """None where no state is stored yet."""
    text = bucket.text(key + "queue-state.json").decode()
    try:
        return json.loads(text)["status"] not in ENDED if text else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return True


def _leased(bucket: Bucket, key: str) -> bool:
    """Whether somebody renews it, by S3's clock."""
    text, age = bucket.aged(key)
    try:
        held = json.loads(text.decode() or "{}")
        return not held.get("released") and age < float(held.get("valid_for_seconds", 0))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return False
