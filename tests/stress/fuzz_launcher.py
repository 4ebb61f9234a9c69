"""Runs the real command line on laptops whose clocks the test moves.

A program of the tests: the product knows nothing of it. It imports the product once and forks a
process for each order (a line of JSON on stdin); answered are the pid, and later its end. Hours
of waiting pass at once: a sleep moves the clock that all laptops share, by so much.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from typing import Any

from forked import become
from fuzz_clock import Clock

QUICK = 0.01
"""Of a sleep's seconds, how many really pass."""

IMPORTED = [
    *(f"runner.cli.verbs.{verb}" for verb in ("launch", "resume", "submit", "terminate", "reap")),
    *(f"runner.cli.verbs.{verb}" for verb in ("ls", "status")),
    *(f"runner.cli.{more}" for more in ("main", "launching.launch", "launching.resume", "connect")),
    "runner.targets.ec2.connection",
    "runner.targets.ec2.observe.resolve_target",
    "runner.targets.ec2.launch.predecessor",
]


class _Shifted:
    """The functions of ``time``, before the product imports them; one instance a process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slot = 0
        self._skew = 0.0
        self._lock = threading.Lock()
        self._time, self._monotonic, self._sleep = time.time, time.monotonic, time.sleep
        self._gettime = time.clock_gettime
        time.time = self.time
        time.monotonic = self.monotonic
        time.sleep = self.sleep
        time.clock_gettime = self.clock_gettime

    def become(self, slot: int, skew: float) -> None:
        """In the child: whose laptop it is, and by how much its clock is wrong."""
        self._slot, self._skew = slot, skew

    def time(self) -> float:
        return self._time() + self._clock.passed() + self._skew

    def monotonic(self) -> float:
        """It stands still while the laptop sleeps (clock_gettime(2))."""
        return self._monotonic() + self._clock.passed() - self._clock.suspended(self._slot)

    def clock_gettime(self, which: int) -> float:
        match which:
            case time.CLOCK_REALTIME:
                return self.time()
            case time.CLOCK_MONOTONIC:
                return self.monotonic()
            case time.CLOCK_BOOTTIME:
                return self._gettime(which) + self._clock.passed()
        return self._gettime(which)

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._clock.sleep(self._slot, seconds)
        self._sleep(min(seconds, 1.0) * QUICK)


def _load_models_once() -> None:
    """EC2's model alone is 0.3 s of JSON, which each process would read anew."""
    loaders = importlib.import_module("botocore.loaders")
    load = loaders.JSONFileLoader.load_file
    loaders.JSONFileLoader.load_file = functools.cache(load)
    loaders.JSONFileLoader.__eq__ = lambda self, other: type(self) is type(other)
    loaders.JSONFileLoader.__hash__ = lambda self: 1
    session = importlib.import_module("botocore.session").Session()
    for service in ("ec2", "s3", "iam", "ssm", "pricing", "sts", "service-quotas"):
        session.create_client(
            service,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        ).close()


def _prepare(order: dict[str, Any], shifted: _Shifted) -> None:
    """In the child: its own signals, and whose laptop it is."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    shifted.become(order["slot"], order["skew"])
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _reap() -> None:
    """Tell of each process that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        print(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}), flush=True)


def main() -> None:
    """Fork a process for every order, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    shifted = _Shifted(Clock(sys.argv[1]))
    for module in IMPORTED:
        importlib.import_module(module)
    if len(sys.argv) > 2:
        exec(sys.argv[2], {})  # a fault of the product, for the test of the tests
    _load_models_once()
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    waiting = selectors.DefaultSelector()
    waiting.register(0, selectors.EVENT_READ)
    waiting.register(woken, selectors.EVENT_READ)
    rest = b""
    while True:
        for key, _ in waiting.select():
            if key.fileobj is woken:
                woken.recv(4096)
                _reap()
                continue
            data = os.read(0, 1 << 20)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    order = json.loads(line)
                    become(order, functools.partial(_prepare, order, shifted))
                print(json.dumps({"started": pid}), flush=True)


if __name__ == "__main__":
    main()
