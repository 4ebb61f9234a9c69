"""A task: one container, or several that start in an order and end together.

As the ECS agent does it: a container starts when what it depends on has started, completed or
succeeded; when an essential one ends, the others get SIGTERM and, after their time to stop,
SIGKILL. It knows nothing of jobs.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from .executors import CannotStart, Container, ContainerEnd, Executor, Running

EXITED = "Essential container in task exited"
NOT_STARTED = "Task failed to start"
UNMET = "DependencyError: a container that it depends on ended in another way"


@dataclass(frozen=True, slots=True)
class ContainerLook:
    """How a container stands. ``state``: in the ECS agent's words; times: seconds since the
    epoch."""

    state: str
    stopping: bool
    started: float | None = None
    ended: float | None = None
    end: ContainerEnd | None = None


class Task:
    """``folder``: what its containers share is below; it goes with the task."""

    def __init__(
        self, executor: Executor, containers: Sequence[Container], second_s: float, folder: str
    ) -> None:
        self._executor = executor
        self._second_s = second_s
        self._folder = folder
        self._changed = threading.Condition()
        self._waiting = {each.name: each for each in containers}
        self._containers = dict(self._waiting)
        self._started: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._running: dict[str, Running] = {}
        self.ends: dict[str, ContainerEnd] = {}
        self._stopping = False
        self._killing = False

    @property
    def containers(self) -> list[Container]:
        """All of them, in their order, as they were planned."""
        return list(self._containers.values())

    def look(self) -> dict[str, ContainerLook]:
        """Container → how it stands."""
        with self._changed:
            return {name: self._look(name) for name in self._containers}

    def run(self, started: Callable[[], None], env: Mapping[str, Mapping[str, str]]) -> str:
        """Until all of it has ended; answers the task's reason.

        ``started`` is called when the first container runs. ``env``: container → variables that it
        gets beside its own.
        """
        self._equip(env)
        failed = told = False
        while True:
            for container in self._startable():
                try:
                    self._start(container)
                    # It may have ended already.
                    if not told:
                        told = True
                        started()
                except CannotStart as error:
                    self._end(container.name, ContainerEnd(None, str(error)))
                    failed = True
                    self.stop()
            with self._changed:
                if self._over():
                    break
                if not self._ready():
                    self._changed.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        return NOT_STARTED if failed else EXITED

    def _equip(self, env: Mapping[str, Mapping[str, str]]) -> None:
        with self._changed:
            for name, container in self._waiting.items():
                known = {**env.get(name, {}), **container.environment}
                self._waiting[name] = replace(container, environment=known)

    def _look(self, name: str) -> ContainerLook:
        end = self.ends.get(name)
        state = "RUNNING" if name in self._running else "PULLED" if end is None else "STOPPED"
        times = (self._started.get(name), self._ended.get(name))
        return ContainerLook(state, self._stopping, *times, end)

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL after each one's time; nothing more is started."""
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            left = dict(self._running)
            self._changed.notify_all()
        for name, running in left.items():
            self._stop(name, running)

    def kill(self) -> None:
        """SIGKILL to all, as when the host goes."""
        with self._changed:
            self._stopping = self._killing = True
            left = list(self._running.values())
            self._changed.notify_all()
        for running in left:
            running.kill()

    def _stop(self, name: str, running: Running) -> None:
        if self._killing:
            running.kill()
            return
        running.terminate()
        wait = self._containers[name].stop_s * self._second_s
        timer = threading.Timer(wait, self._insist, (name,))
        timer.daemon = True
        timer.start()

    def _insist(self, name: str) -> None:
        with self._changed:
            running = self._running.get(name)
        if running is not None:
            running.kill()

    def _start(self, container: Container) -> None:
        running = self._executor.start(container)
        with self._changed:
            self._running[container.name] = running
            self._started[container.name] = time.time()
            stopping = self._stopping
        threading.Thread(target=self._attend, args=(container.name, running), daemon=True).start()
        if stopping:
            self._stop(container.name, running)

    def _attend(self, name: str, running: Running) -> None:
        end = running.wait()
        if self._containers[name].essential:
            self.stop()
        self._end(name, end)

    def _end(self, name: str, end: ContainerEnd) -> None:
        with self._changed:
            self._running.pop(name, None)
            self.ends[name] = end
            self._ended[name] = time.time()
            self._changed.notify_all()

    def _startable(self) -> list[Container]:
        with self._changed:
            ready = self._ready()
            for container in ready:
                del self._waiting[container.name]
        return ready

    def _ready(self) -> list[Container]:
        """Those whose turn it is. One whose turn can't come any more stops the task."""
        if self._stopping:
            return []
        met = {each.name: self._met(each) for each in self._waiting.values()}
        for name in [name for name, found in met.items() if found is None]:
            self.ends[name] = ContainerEnd(None, UNMET)
            del self._waiting[name]
            threading.Thread(target=self.stop, daemon=True).start()
        return [each for each in self._waiting.values() if met[each.name]]

    def _met(self, container: Container) -> bool | None:
        answer = True
        for name, condition in container.depends_on:
            end = self.ends.get(name)
            if condition == "START":
                answer &= name in self._running or end is not None
            elif end is None:
                answer = False
            elif condition == "SUCCESS" and end.exit_code != 0:
                return None
        return answer

    def _over(self) -> bool:
        return not self._running and (self._stopping or not self._waiting)
