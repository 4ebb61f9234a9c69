"""The real commands in a folder of their own, as a user has them.

It knows the command line, the socket's messages and the files that are promised; it must not look
into the product.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

RUNNER = [sys.executable, "-m", "runner"]
PATIENCE = 20.0
"""Seconds until a condition that doesn't come true is a failure."""

_T = TypeVar("_T")


class World:
    """Settings in a file, named by RUNNER_CONFIG; ``home`` is where commands are called."""

    def __init__(self, folder: Path, job_user: str = "root") -> None:
        self.home = folder / "home"
        self.state = folder / "state"
        self.logs = folder / "logs"
        self.run_dir = folder / "run"
        self.config = folder / "runner.toml"
        self.popen: type[subprocess.Popen[bytes]] = subprocess.Popen
        self._started: list[subprocess.Popen[bytes]] = []
        self.home.mkdir(parents=True)
        user = f'job_user = "{job_user}"\n' if os.geteuid() == 0 else ""
        folders = {"state_dir": self.state, "log_dir": self.logs, "run_dir": self.run_dir}
        self.config.write_text(
            user + "".join(f"{k} = {json.dumps(str(v))}\n" for k, v in folders.items())
        )
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
        self.env = {**ours, "RUNNER_CONFIG": str(self.config), "HOME": str(self.home)}

    # -- documents and commands --------------------------------------------------------------

    def document(self, *jobs: dict[str, Any], name: str = "q", **queue: Any) -> str:
        """Write ``<name>.json`` with queue_id ``name``; its path, as a user gives it."""
        base = {"queue_id": name, "queue_name": name, "global_timeout": "1h", "on_failure": "stop"}
        told = {key: value for key, value in {**base, **queue}.items() if value is not None}
        (self.home / f"{name}.json").write_text(json.dumps({**told, "jobs": list(jobs)}))
        return f"{name}.json"

    def call(
        self, *arguments: str, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. No command may ever show a traceback."""
        with self.popen(
            [*RUNNER, *arguments],
            cwd=options.pop("cwd", self.home),
            env={**self.env, **(env or {})},
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        ) as process:
            try:
                told = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        out, err = (each.decode("utf-8", "replace") for each in told)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def data(self, *arguments: str) -> Any:
        """What a command prints with ``--json``."""
        return json.loads(self.call(*arguments, "--json").stdout)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command and leave it running."""
        kept = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        env = {**self.env, **options.pop("env", {})}
        kept["stderr"] = options.pop("stderr", None) or open(self.home / "stderr", "ab")  # noqa: SIM115
        started = self.popen([*RUNNER, *arguments], cwd=self.home, env=env, **{**kept, **options})
        if not isinstance(kept["stderr"], int):
            kept["stderr"].close()
        self._started.append(started)
        return started

    @property
    def stderr(self) -> str:
        """What everything that was started has written to stderr: the daemon's log."""
        path = self.home / "stderr"
        return path.read_text() if path.exists() else ""

    def daemon(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start the daemon and wait until it answers."""
        started = self.start("daemon", *arguments, **options)
        self.until(lambda: self._answers(started.pid))
        return started

    def _answers(self, pid: int) -> bool:
        try:
            return bool(self.ask("ping")["pid"] == pid)
        except (OSError, ValueError):
            return False

    # -- looking -----------------------------------------------------------------------------

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        """One request, as a few lines of any language would send it."""
        return talk(self.run_dir / "runner.sock", {"v": 1, "request": request, **fields})

    def jobs(self, queue: str = "q") -> dict[str, dict[str, Any]]:
        """Every job's part of queue-state.json; empty before there is one."""
        try:
            text = (self.state / "queues" / queue / "queue-state.json").read_text()
        except FileNotFoundError:
            return {}
        return {job["job_id"]: job for job in json.loads(text)["jobs"]}

    def until(self, true: Callable[[], _T]) -> _T:
        """Wait for a condition; its value."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if value := true():
                return value
            time.sleep(0.02)
        raise AssertionError(f"it never came true; stderr so far:\n{self.stderr[-3000:]}")

    def until_file(self, name: str) -> None:
        """Wait for a file that a job makes in ``home``."""
        self.until((self.home / name).exists)

    def close(self) -> None:
        """End what was started here, and only that; also jobs that were left to a next start."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        for pid in attempts_alive(self.state):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def attempts_alive(state: Path) -> list[int]:
    """Processes of the attempts of this state folder: their environment names it."""
    mark = f"RUNNER_SPOT_NOTICE={state}/".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                environ = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if any(entry.startswith(mark) for entry in environ.split(b"\0")):
                found.append(int(name))
    return found


def talk(path: Path, *messages: dict[str, Any] | bytes) -> dict[str, Any]:
    """Send lines to a socket; the answer to the last."""
    with connect(path) as client, client.makefile("rb") as lines:
        answer: dict[str, Any] = {}
        for message in messages:
            line = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
            client.sendall(line)
            answer = json.loads(lines.readline())
        return answer


def connect(path: Path, timeout: float = 15.0) -> socket.socket:
    """A connection to a socket whose path may be too long for a plain one."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout)
    try:
        client.connect(f"/proc/self/fd/{folder}/{path.name}")
    except BaseException:
        client.close()
        raise
    finally:
        os.close(folder)
    return client
