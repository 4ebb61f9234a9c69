"""Makes a machine of the image it has: fetches what was launched, installs it, submits the queue.

It runs on what every cloud image has: Python 3.6 and its standard library. So it speaks to the
metadata service, S3 and EC2 by itself. `boot` does it all; `report WHY` stores the log of what
failed; `end` gives the spot request back before the machine goes. Each may be cut at any moment: a
timer that it doesn't know of ends the machine.
"""

import json
import os
import shutil
import sys
import time
from typing import Any, Dict, List

from runner.bundle.bare import telling
from runner.bundle.bare.aws import Aws, Metadata
from runner.bundle.bare.bucket import Bucket
from runner.bundle.bare.disks import full_disks
from runner.bundle.bare.patience import Failed, Over, patiently
from runner.bundle.bare.telling import Story, keep, read_log, say

from .firing import ENDED, see_that_none_runs, settle
from .machine import install, need_python, run, stop_upgrades
from .spot import cancel_spot_request


def fetch(boot: Dict[str, Any], bucket: Bucket) -> None:
    for name in ("bundle", "document", "workdir"):
        if boot[name] is not None:
            size = bucket.fetch(boot[name]["key"], boot[name]["sha256"], telling.PLACE + "/" + name)
            say(f"{name}: {size} bytes")


def see_that_there_is_work(boot: Dict[str, Any], bucket: Bucket) -> None:
    """A spot request that opened again boots a machine for a queue that may have ended long ago.

    To run that once more would cost as much as the first time. Raises Over.
    """
    key = boot.get("state_key")
    try:
        told = json.loads(bucket.text(key).decode() or "{}") if key else {}
        if told.get("queue_id") != boot["queue_id"] or told.get("status") not in ENDED:
            return
        # What was there before the launch is another run's: this machine is to begin a new one.
        former = bucket.stored_at(str(key)) <= bucket.stored_at(boot["document"]["key"])
    except (Failed, ValueError, AttributeError, RecursionError) as error:
        say(f"it is not known whether the queue has ended already: {error}")
        return
    if former:
        say("the queue had ended before this launch: {}".format(told["status"]))
        return
    raise Over("queue {} has ended already: {}".format(told["queue_id"], told["status"]))


def boot_up() -> None:
    """All of it. Raises Failed, Over."""
    with open(telling.PLACE + "/boot.json") as file:
        boot = json.load(file)
    metadata = Metadata()
    boot = settle(boot, metadata)
    story = Story.begun(boot)
    aws = Aws(metadata, boot["region"])
    patiently("the role's credentials", aws.keys)
    own = patiently("the instance's id", lambda: metadata.get("instance-id"))
    story.tell(instance_id=own)
    story.over("credentials")
    bucket = Bucket(aws, boot["bucket"])
    # A role that may not write would cost hours of work: said now, and not at its end.
    bucket.store(boot["report_key"], story.text())

    def passed(phase: str) -> None:
        """Also to whoever waits for the machine, if it can be stored at once."""
        story.over(phase)
        bucket.offer(boot["report_key"], story.text())

    try:
        see_that_there_is_work(boot, bucket)
        see_that_none_runs(boot, aws, bucket, own)
    except Over as over:
        story.tell(outcome="over", error=str(over), ended=round(time.time(), 2))
        bucket.store(boot["report_key"], story.text())
        raise
    fetch(boot, bucket)
    passed("fetched")
    stop_upgrades()
    need_python()
    passed("python")
    install()
    passed("installed")
    arrive = ["/opt/runner/current/bin/python", "-I", "-m", "runner.targets.ec2.boot.provision"]
    run([*arrive, telling.PLACE], 900, "the start")
    passed("submitted")
    shutil.rmtree(telling.PLACE + "/unpacked", ignore_errors=True)
    for name in ("bundle", "workdir"):
        if os.path.exists(f"{telling.PLACE}/{name}"):
            os.remove(f"{telling.PLACE}/{name}")
    story.tell(outcome="ready")
    for key, body in ((boot["report_key"], story.text()), (boot["log_key"], read_log())):
        try:
            bucket.store(key, body)
        except Failed as error:
            say(str(error))


def report(why: str) -> None:
    """What failed, to where whoever launched it looks. Raises Failed."""
    with open(telling.PLACE + "/boot.json") as file:
        boot = json.load(file)
    try:
        story = Story.kept()
    except (OSError, ValueError):
        story = Story.begun(boot)
    story.tell(outcome="failed", error=why, ended=round(time.time(), 2))
    bucket = Bucket(Aws(Metadata(), boot["region"]), boot["bucket"])
    # The reason first: the log is larger, and there may be no time left for it.
    bucket.store(boot["report_key"], story.text())
    bucket.store(boot["log_key"], read_log(why))


def main(words: List[str]) -> int:
    try:
        if words[:1] == ["boot"]:
            boot_up()
        elif words[:1] == ["report"]:
            report(words[1])
        else:
            patiently("the spot request", lambda: cancel_spot_request(Metadata()))
    except (Failed, Over) as error:
        say(str(error))
        keep("why", str(error))
        return 3 if isinstance(error, Over) else 1
    except OSError as error:
        say(f"{error}{full_disks()}")
        keep("why", f"{error}{full_disks()}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
