"""The people of the launch fuzz: laptops with clocks of their own, and the commands typed there.

A command is a real process (fuzz_launcher). What it says is kept: a machine that lives must have
been named to somebody.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from account import _write_bundle
from fuzz_clock import SLOTS
from fuzz_cloud import Act, Call, FuzzCloud
from fuzz_truth import Identity, Machine, Truth

from runner.timestamps import rfc3339_seconds

PATIENCE = 120.0
"""Real seconds after which a command hangs."""

OLD = 7200.0
"""Seconds after which `reap` is asked to end what isn't overdue."""

LAUNCHES = frozenset({"launch", "resume"})


class Launcher:
    """The program that forks the commands. Close it."""

    def __init__(self, clock: Path, fault: str = "") -> None:
        here = Path(__file__).parent
        paths = [str(here.parent.parent), str(here)]
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(here / "fuzz_launcher.py"), str(clock), fault],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._started: queue.Queue[int] = queue.Queue()
        self._ends: dict[int, queue.Queue[int]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "started" in told:
                self._ends[told["started"]] = queue.Queue()
                self._started.put(told["started"])
            else:
                self._ends[told["ended"]].put(told["code"])

    def start(self, order: Mapping[str, Any]) -> int:
        """Have a command started; its pid."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return self._started.get(timeout=PATIENCE)

    def wait(self, pid: int) -> int:
        """Its exit code, negative for a signal. Raises AssertionError if it hangs."""
        try:
            return self._ends[pid].get(timeout=PATIENCE)
        except queue.Empty:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError("it hangs") from None

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


@dataclass(slots=True)
class Laptop:
    """A person's. ``skew``: by how many seconds its clock is wrong."""

    name: str
    home: Path
    skew: float


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed. ``queue``: which queue its person means (None: none, or any by the word)."""

    who: Laptop
    argv: tuple[str, ...]
    queue: Identity | None = None

    @property
    def verb(self) -> str:
        return self.argv[0]

    def __str__(self) -> str:
        shown = [word.rpartition("/")[2] for word in self.argv]
        return f"{self.who.name}: {' '.join(shown)}"

    def may_end(self, machine: Machine, by: str, truth: Truth) -> str | None:
        """See fuzz_cloud.Judge."""
        match self.verb:
            case "reap":
                return self._overdue(machine, truth)
            case "terminate" if machine.instance_id in self.argv:
                meant = machine.had  # who names a machine means all that is on it
            case "terminate" if self.queue is not None:
                meant = {self.queue} & machine.had
            case "terminate":
                meant = {each for each in machine.had if each.queue_id == self.argv[1]}
                stores = {
                    each.store for each in truth.seen_by_all() if each.queue_id == self.argv[1]
                }
                if len(stores) > 1:
                    return f"'{self.argv[1]}' means queues of several stores: {sorted(stores)}"
            case "resume":
                assert self.queue is not None
                meant = {self.queue} & machine.had
            case _:
                # A launch that comes too late may take its own machine back, and no other.
                return None if machine.by == by else "this verb ends nothing"
        if not meant:
            return f"it has {', '.join(map(str, sorted(machine.had)))}"
        others = sorted(machine.queues - meant)
        if others and OTHERS not in self.argv:
            return f"it has {others[0]} too, which isn't done"
        return None

    def _overdue(self, machine: Machine, truth: Truth) -> str | None:
        """By this laptop's clock: it has no other."""
        now = truth.now() + max(0.0, self.who.skew)
        old = "--older-than" in self.argv and now - machine.born > OLD
        return None if old or rfc3339_seconds(now) >= machine.expires else "its time isn't over"


OTHERS = "--end-others"
"""The flag by which a verb ends also other unfinished queues."""


@dataclass(slots=True)
class Done:
    """How a command ended. ``code``: negative for a signal."""

    command: Command
    code: int
    out: str
    err: str
    call: Call = field(repr=False)

    @property
    def named(self) -> set[str]:
        """The instances that it named."""
        return set(re.findall(r"i-[0-9a-f]{17}", self.out + self.err))

    @property
    def cut(self) -> bool:
        """Whether it could not say how it ended."""
        return self.call.signalled


class People:
    """The laptops of a round, and all that was typed."""

    def __init__(self, launcher: Launcher, cloud: FuzzCloud, folder: Path) -> None:
        self._launcher = launcher
        self._cloud = cloud
        self.folder = folder
        self.bundle = folder / "bundle.tar.gz"
        folder.mkdir(parents=True)
        _write_bundle(self.bundle, "x86_64")
        self.done: list[Done] = []
        self._count = 0

    def laptop(self, name: str, skew: float) -> Laptop:
        """A new one."""
        made = Laptop(name, self.folder / name, skew)
        made.home.mkdir()
        return made

    def document(self, who: Laptop, queue: Identity) -> Path:
        """The queue's, as this person has it."""
        bucket, _, prefix = queue.store.removeprefix("s3://").partition("/")
        path = who.home / f"{queue.queue_id}-{bucket[-6:]}.json"
        told = {
            "queue_id": queue.queue_id,
            "queue_name": "q",
            "global_timeout": "8h",
            "on_failure": "stop",
            "result_s3_bucket": bucket,
            "result_s3_prefix": prefix,
            "jobs": [{"job_id": "a", "command": "true", "timeout": "1m"}],
        }
        path.write_text(json.dumps(told))
        return path

    def call(
        self,
        command: Command,
        plan: Mapping[tuple[str, int], Act] | None = None,
        pages: int = 0,
    ) -> Done:
        """Type it, and wait for its end."""
        self._count += 1
        number = self._count
        assert number < SLOTS
        truth = self._cloud.truth
        words = f"{command} #{number}"
        call = Call(f"CALL{number:04}", number, words, command, dict(plan or {}), pages)
        out, err = (self.folder / f"{number}.{name}" for name in ("out", "err"))
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(command.who.home),
            "XDG_STATE_HOME": str(command.who.home / "state"),
            "AWS_ENDPOINT_URL": self._cloud.url,
            "AWS_ACCESS_KEY_ID": call.key,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        self._cloud.expect(call)
        truth.note(f"  {words}")
        call.pid = self._launcher.start(
            {
                "argv": list(command.argv),
                "env": env,
                "cwd": str(command.who.home),
                "out": str(out),
                "err": str(err),
                "slot": number,
                "skew": command.who.skew,
            }
        )
        code = self._launcher.wait(call.pid)
        call.ended.set()
        done = Done(command, code, out.read_text(), err.read_text(), call)
        self.done.append(done)
        said = "\n".join(f"      | {line}" for line in (done.out + done.err).splitlines()
                         if not line.startswith(_PLAN))  # fmt: skip
        truth.note(f"    {command.who.name}'s {command.verb} -> {code}\n{said}")
        _check_words(done, truth.wrong)
        return done


_PLAN = (
    "Queue:", "Region:", "Type:", "Market:", "Price:", "Image:", "Disk:", "Role:", "Ends:",
    "At the latest:", "Not tried:",
)  # fmt: skip


def _check_words(done: Done, wrong: Any) -> None:
    text = done.out + done.err
    if "Traceback" in text or "internal error" in text:
        wrong(f"{done.command} fell over")
