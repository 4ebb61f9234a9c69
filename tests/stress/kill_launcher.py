"""Runs the real command line, with a SIGKILL at one of its step boundaries.

A program of the tests: the product knows nothing of it. It imports the product once and forks a
process for each order, one at a time (a line of JSON on stdin; answered by the pid, and at its end
by its exit code). A boundary is the moment before or after a call that changes the world: a
commit, a request to a shim, a signal, a rename; an order's ``places`` are others. In the child
those calls are wrapped and counted. Arguments: modules to import instead of those of `run` and
`daemon`.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from forked import become

BEFORE_AND_AFTER = [
    "runner.store.database:Database.commit",
    "runner.store.database:Database.replace_all",
    "runner.store.database:Database.write_meta",
    "runner.store.database:create",
    "runner.engine.process_backend:signal_attempt",
    "runner.engine.process_backend:end_background",
    "runner.service.notices.delivery:Sender.deliver",
]
AFTER = [
    "runner.process.shim_records:ShimRecordFile.prepare",
    "runner.process.shim_records:ShimRecordFile.void",
    "runner.process.spawner:Spawner.start",
    "runner.store.paths:LogPaths.rotate",
    "runner.store.locks:Lock.__init__",
    "runner.store.locks:Lock.release",
    "runner.engine.state_file_writer:write_projection",
    "runner.engine.engine:Engine.close",
    "runner.service.queue_repository:QueueRepository.set_current",
    "os:rename",
    "os:replace",
    "os:link",
    "os:symlink",
    "os:unlink",
]
REQUESTS = "runner.service.request_table"
IMPORTED = [
    "runner.cli.main",
    "runner.cli.verbs.run",
    "runner.cli.verbs.daemon",
    "runner.cli.show.run_view",
    "runner.cli.daemon_log",
    "runner.service.foreground",
    "runner.service.daemon",
]


class Counter:
    """Counts boundaries from when it is armed, and kills this process at one of them.

    That is told as ``after Database.commit#3``, or as a time in seconds.
    """

    def __init__(
        self, kill_at: int | float | str, arm: str | None, until: str | None, trace: str
    ) -> None:
        self._kill_at = kill_at
        self._arm = arm
        self._until = until
        self._armed = arm is None
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._armed:
            self._set_timer()

    def _set_timer(self) -> None:
        """A fraction is a time in seconds: SIGALRM ends a process as untimely as SIGKILL does."""
        if isinstance(self._kill_at, float):
            signal.setitimer(signal.ITIMER_REAL, self._kill_at)

    def crossed(self, name: str) -> None:
        with self._lock:
            if name == self._arm and not self._armed:
                self._armed = True
                self._set_timer()
            if not self._armed:
                return
            self._counts[name] = self._counts.get(name, 0) + 1
            boundary = f"{name}#{self._counts[name]}"
            os.write(self._trace, f"{boundary}\n".encode())
            if self._kill_at == boundary:
                os.kill(os.getpid(), signal.SIGKILL)
            if name == self._until:
                self._armed = False
                self._arm = None
                signal.setitimer(signal.ITIMER_REAL, 0)

    def wrap(self, place: str, *, before: bool) -> None:
        """Wrap a function, ``module:name`` or ``module:Class.name``."""
        module, _, path = place.partition(":")
        owner: Any = importlib.import_module(module)
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        setattr(owner, name, self._wrapped(getattr(owner, name), path, before))

    def _wrapped(self, original: Callable[..., Any], path: str, before: bool) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapped(*args: Any, **named: Any) -> Any:
            if before:
                self.crossed(f"before {path}")
            result = original(*args, **named)
            self.crossed(f"after {path}")
            return result

        return wrapped

    def wrap_request(self, request: str) -> None:
        """Arm at the arrival of a request, and count when it has been answered."""
        requests = importlib.import_module(REQUESTS).REQUESTS
        original = requests[request]

        async def wrapped(*args: Any) -> Any:
            self.crossed(f"before {request}")
            result = await original(*args)
            self.crossed(f"after {request}")
            return result

        requests[request] = wrapped


def _install(plan: dict[str, Any]) -> None:
    request = plan.get("request")
    arm = f"before {request}" if request else None
    counter = Counter(plan["kill_at"], arm, plan.get("until"), plan["trace"])
    for place in plan.get("places", BEFORE_AND_AFTER):
        counter.wrap(place, before=True)
    for place in () if "places" in plan else AFTER:
        counter.wrap(place, before=False)
    if request:
        counter.wrap_request(request)
    if plan.get("freeze"):
        _freeze_at_start(plan["freeze"])


def _freeze_at_start(number: int) -> None:
    """Die when the N-th attempt has been handed over, its shim and the forker being stopped.

    The start is then asked for, and not claimed, for as long as the test likes.
    """
    spawner = importlib.import_module("runner.process.spawner").Spawner
    start = spawner.start
    count = 0

    def frozen(self: Any, request: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            _stop_all()
        start(self, request)
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    spawner.start = frozen


def _stop_all() -> None:
    """Until there is none that was forked meanwhile."""
    stopped: set[int] = set()
    while new := set(_children_of_children()) - stopped:
        for pid in new:
            os.kill(pid, signal.SIGSTOP)
        stopped |= new


def _children_of_children() -> list[int]:
    """The forker and its idle shims: everything below this process."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                pass
    found, todo = [], [os.getpid()]
    while todo:
        parent = todo.pop()
        below = [pid for pid, above in parents.items() if above == parent]
        found += below
        todo += below
    return found


def main() -> None:
    """Fork a process for every order, until stdin ends.

    It is reaped with the next order: until then its pid is nobody else's.
    """
    for module in sys.argv[1:] or IMPORTED:
        importlib.import_module(module)
    pid = 0
    for line in sys.stdin:
        if pid:
            os.waitpid(pid, 0)
        pid = os.fork()
        if pid == 0:
            order = json.loads(line)
            become(order, functools.partial(_install, order))
        print(pid, flush=True)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        by_itself = ended.si_code == os.CLD_EXITED
        print(ended.si_status if by_itself else -ended.si_status, flush=True)


if __name__ == "__main__":
    main()
