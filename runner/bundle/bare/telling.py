"""What is told of this boot: on the console, in a log, and in a report for who launched it.

A disk that is full must not keep the reason back: what can't be written is told all the same.
"""

import json
import os
import sys
import time
from typing import Any, Dict

PLACE = os.environ.get("RUNNER_BOOT_PLACE", "/var/lib/runner-boot")
"""What was launched; it outlives a reboot."""
VOLATILE = "/run/runner-boot"
"""In memory: there is room even when the disk is full."""
LOG = os.environ.get("RUNNER_BOOT_LOG", "/var/log/runner-bootstrap.log")
MOST_LOG = 4000000
"""Bytes of the log's end that are stored."""


def say(text: str) -> None:
    """To the console, by way of cloud-init, and into the log."""
    print("runner boot: " + text)
    sys.stdout.flush()
    try:
        with open(LOG, "a") as log:
            log.write("runner boot: " + text + "\n")
    except OSError as error:
        print(f"runner boot: {LOG}: {error}")


def read_log(why: str = "") -> bytes:
    """The log's end; with ``why`` at least that."""
    try:
        with open(LOG, "rb") as file:
            log = file.read()[-MOST_LOG:]
    except OSError as error:
        log = f"runner boot: {LOG}: {error}\n".encode()
    if why.encode() not in log:
        log += f"runner boot: FAILED: {why}\n".encode()
    return log


def keep(name: str, text: str) -> None:
    """For the next program of this boot, as far as that can be had."""
    path = f"{VOLATILE}/{name}"
    try:
        os.makedirs(VOLATILE, exist_ok=True)
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)
    except OSError as error:
        say(f"{path}: {error}")


class Story:
    """The phases of this boot and when each was over, for who launched the machine."""

    def __init__(self, told: Dict[str, Any]) -> None:
        self._told = told

    @classmethod
    def begun(cls, boot: Dict[str, Any]) -> "Story":
        about = {"version": 1, "outcome": "booting", "error": None, "instance_id": None}
        about.update({name: boot[name] for name in ("launch", "queue_id", "expires")})
        about.update({"booted": booted(), "phases": []})
        story = cls(about)
        story.over("user-data")
        return story

    @classmethod
    def kept(cls) -> "Story":
        with open(VOLATILE + "/bootstrap.json") as file:
            return cls(json.load(file))

    def over(self, phase: str) -> None:
        now, phases = time.time(), self._told["phases"]
        before = phases[-1]["at"] if phases else self._told["booted"]
        phases.append({"phase": phase, "at": round(now, 2), "seconds": round(now - before, 2)})
        say(f"{phase} ({now - before:.1f} s)")
        self.tell()

    def tell(self, **more: Any) -> None:
        self._told.update(more)
        keep("bootstrap.json", json.dumps(self._told))

    def text(self) -> bytes:
        return json.dumps(self._told, indent=1).encode() + b"\n"


def booted() -> float:
    """When the machine's first process began: seconds since the epoch."""
    with open("/proc/1/stat", "rb") as file:
        ticks = int(file.read().rpartition(b")")[2].split()[19])
    with open("/proc/uptime") as uptime:
        up = float(uptime.read().split()[0])
    return round(time.time() - up + ticks / os.sysconf("SC_CLK_TCK"), 2)
