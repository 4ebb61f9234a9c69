"""Containers as plain process groups, for quick tests: images are only names.

Not as in Docker: no memory limit, no file system of its own, and SIGTERM ends a process without a
handler (as PID 1 of a container it would ignore it). Volumes aren't mounted: a variable or an
argument that names a path at or below a mount names the volume's own folder instead. So what is to
run here takes its paths from its variables or its command line.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable

from .executors import CannotStart, Container, ContainerEnd
from .logs import LogSink

PATH = os.pathsep.join([os.path.dirname(sys.executable), os.defpath, "/usr/local/bin"])
"""``python3`` is the tests' own."""


def _at_home(container: Container, text: str) -> str:
    """A path in the container, as it is on this machine."""
    for mount in container.options.get("mountPoints") or ():
        inside = mount["containerPath"].rstrip("/")
        if text == inside or text.startswith(f"{inside}/"):
            return container.volumes[mount["sourceVolume"]] + text[len(inside) :]
    return text


class Process:
    """One process group, and the thread that reads what it prints."""

    def __init__(
        self, container: Container, sink: LogSink, ended: Callable[[Process], None]
    ) -> None:
        self._folder = tempfile.mkdtemp(prefix="batch-")
        self._where = (container.group, container.stream)
        self._sink = sink
        self._ended = ended
        self._lock = threading.Lock()
        self._reaped = False
        try:
            self._process = subprocess.Popen(
                [_at_home(container, each) for each in container.command],
                cwd=self._folder,
                env={
                    "PATH": PATH,
                    **{
                        name: _at_home(container, value)
                        for name, value in container.environment.items()
                    },
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise CannotStart(f"CannotStartContainerError: {error}") from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def terminate(self) -> None:
        with self._lock:
            if not self._reaped:
                os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        with self._lock:
            if not self._reaped:
                os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self) -> ContainerEnd:
        # The first process's end is the container's: the rest of the group goes with it. It is
        # killed before its leader is reaped, while the group's number can't be another's.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self.kill()
        with self._lock:
            code = self._process.wait()
            self._reaped = True
        self._reader.join(2)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._ended(self)
        return ContainerEnd(code if code >= 0 else 128 - code)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                if text := line.rstrip(b"\n"):
                    self._sink.put(*self._where, text)


class Processes:
    """``missing``: names of images that no registry has."""

    def __init__(self, sink: LogSink) -> None:
        self.missing: set[str] = set()
        self._sink = sink
        self._lock = threading.Lock()
        self._running: set[Process] = set()

    def start(self, container: Container) -> Process:
        if container.image in self.missing:
            raise CannotStart(
                "CannotPullContainerError: Error response from daemon: manifest for"
                f" {container.image} not found: manifest unknown"
            )
        made = Process(container, self._sink, self._forget)
        with self._lock:
            self._running.add(made)
        return made

    def close(self) -> None:
        with self._lock:
            left = list(self._running)
        for process in left:
            process.kill()
        self._sink.close()

    def _forget(self, process: Process) -> None:
        with self._lock:
            self._running.discard(process)
