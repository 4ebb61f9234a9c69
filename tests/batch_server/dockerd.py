"""A Docker daemon of the tests' own: its folders are temporary, and it ends with the tests.

It needs root and Debian's ``docker.io`` (20.10). No network: containers share the host's, because
the machines that the tests run on have no rights to make one.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import docker

IMAGE = "local/small"
"""The image that tests import, of COMMANDS and what these need."""
API = "1.41"
"""Of Docker 20.10; a given one saves the question."""
PATIENCE = 60.0
"""Seconds until the daemon must answer, or be gone."""
COMMANDS = (
    "sh",
    "bash",
    "cat",
    "date",
    "env",
    "find",
    "cp",
    "mkdir",
    "sleep",
    "tail",
    "tr",
    "head",
)


def what_is_missing() -> str | None:
    """Why no daemon can be started here; None if it can be tried."""
    if os.geteuid() != 0:
        return "Docker needs root"
    for tool in ("dockerd", "containerd", "runc"):
        if shutil.which(tool) is None:
            return f"Docker needs {tool} (Debian's package docker.io)"
    return None


class DockerDaemon:
    """Its ``client`` is docker-py's. The AWS keys are for its awslogs driver: any will do."""

    def __init__(self) -> None:
        # Short: containerd's sockets are below it, and a socket's path has 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="dkr-", dir="/tmp"))
        self._log = (self.folder / "log").open("wb")
        self._socket = str(self.folder / "s")
        self._process = subprocess.Popen(
            [
                "dockerd",
                *("--data-root", str(self.folder / "data")),
                *("--exec-root", str(self.folder / "run")),
                *("--host", f"unix://{self._socket}"),
                *("--pidfile", str(self.folder / "pid")),
                *("--iptables=false", "--ip6tables=false", "--bridge=none"),
                *("--host-gateway-ip", "127.0.0.1"),
                # Fewer rights than the daemon would give: raising a limit needs one it hasn't.
                *("--default-ulimit", "nofile=4096:4096", "--default-ulimit", "nproc=8192:8192"),
            ],
            env={**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self.client: Any = docker.DockerClient(f"unix://{self._socket}", version=API, timeout=600)
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def import_image(self, name: str, commands: Sequence[str] = COMMANDS) -> None:
        """A small image of this machine's own commands, and the libraries that they need."""
        paths = {found for each in commands if (found := shutil.which(each)) is not None}
        for path in list(paths):
            listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
            paths |= {word for word in listed.stdout.split() if word.startswith("/")}
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for path in sorted(paths):
                with open(path, "rb") as file:
                    member = archive.gettarinfo(arcname=path, fileobj=file)
                    archive.addfile(member, file)
            for folder in ("tmp", "proc", "dev", "sys", "etc"):
                made = tarfile.TarInfo(folder)
                made.type, made.mode = tarfile.DIRTYPE, 0o1777
                archive.addfile(made)
        repository, _, tag = name.partition(":")
        self.client.api.import_image_from_data(
            data.getvalue(), repository=repository, tag=tag or "latest"
        )

    def close(self) -> None:
        """The daemon has ended, with containerd; its folders are gone."""
        self.client.close()
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        # The daemon leaves the host's network mounted there, for containers that share it.
        network = self.folder / "run" / "netns" / "default"
        if network.exists():
            subprocess.run(["umount", str(network)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / "log").read_text(errors="replace")[-4000:]
                raise RuntimeError(f"dockerd doesn't answer:\n{log}")
            # docker-py would leave a socket open each time that it is refused.
            with socket.socket(socket.AF_UNIX) as attempt:
                if attempt.connect_ex(self._socket) == 0:
                    break
            time.sleep(0.05)
        self.client.ping()
