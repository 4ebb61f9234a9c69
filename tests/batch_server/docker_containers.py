"""Containers in Docker, and their reasons in the ECS agent's words.

Texts: amazon-ecs-agent, ``agent/dockerclient/dockerapi/errors.go``. Log lines go by Docker's own
awslogs driver to the CloudWatch at ``endpoint``; without one they stay in Docker.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

import docker
from docker.types import LogConfig, Mount, Ulimit

from .executors import CannotStart, Container, ContainerEnd
from .logs import GROUP

OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
MIB = 1024 * 1024


class DockerContainer:
    """One container that runs; it is removed once its end was read."""

    def __init__(self, found: Any) -> None:
        self._found = found

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def wait(self) -> ContainerEnd:
        try:
            self._found.wait()
            self._found.reload()
            state = self._found.attrs["State"]
        except docker.errors.DockerException as error:
            return ContainerEnd(None, f"CannotInspectContainerError: {_text(error)}")
        self._found.remove(force=True)
        reason = OUT_OF_MEMORY if state["OOMKilled"] else state["Error"] or None
        return ContainerEnd(state["ExitCode"], reason)

    def _signal(self, number: signal.Signals) -> None:
        try:
            self._found.kill(int(number))
        except docker.errors.APIError:
            # It has ended, or is removed.
            pass


class Docker:
    """``client``: docker-py's. ``endpoint``: of CloudWatch, for the log driver."""

    def __init__(self, client: Any, endpoint: str | None, region: str) -> None:
        self._client = client
        self._endpoint = endpoint
        self._region = region
        self._lock = threading.Lock()
        self._made: list[str] = []

    def start(self, container: Container) -> DockerContainer:
        self._pull(container.image)
        try:
            made = self._client.containers.create(**self._arguments(container))
        except docker.errors.DockerException as error:
            raise CannotStart(f"CannotCreateContainerError: {_text(error)}") from error
        with self._lock:
            self._made.append(made.id)
        try:
            made.start()
        except docker.errors.DockerException as error:
            made.remove(force=True)
            raise CannotStart(f"CannotStartContainerError: {_text(error)}") from error
        return DockerContainer(made)

    def close(self) -> None:
        for made in self._made:
            try:
                self._client.api.remove_container(made, force=True)
            except docker.errors.APIError:
                # The usual case: it was removed at its end.
                pass

    def _pull(self, image: str) -> None:
        """As an agent that prefers what it has."""
        try:
            self._client.images.get(image)
            return
        except docker.errors.ImageNotFound:
            pass
        try:
            self._client.images.pull(image, tag=None if ":" in image else "latest")
        except docker.errors.DockerException as error:
            text = f"Error response from daemon: {_text(error)}"
            raise CannotStart(f"CannotPullContainerError: {text}") from error

    def _arguments(self, container: Container) -> dict[str, Any]:
        options = container.options
        linux = options.get("linuxParameters") or {}
        memory = container.memory_mib * MIB
        arguments: dict[str, Any] = {
            "image": container.image,
            "command": list(container.command) or None,
            "environment": dict(container.environment),
            "network_mode": "host",
            "mem_limit": memory,
            # No swap beside it: what is over the limit is killed.
            "memswap_limit": memory,
            "mounts": [
                Mount(
                    each["containerPath"],
                    container.volumes[each["sourceVolume"]],
                    type="bind",
                    read_only=each.get("readOnly", False),
                )
                for each in options.get("mountPoints") or ()
            ],
            "ulimits": [
                Ulimit(name=each["name"], soft=each["softLimit"], hard=each["hardLimit"])
                for each in options.get("ulimits") or ()
            ],
            "read_only": options.get("readonlyRootFilesystem", False),
            "privileged": options.get("privileged", False),
            "init": linux.get("initProcessEnabled", False),
            "tmpfs": {
                each["containerPath"]: f"size={each['size']}m" for each in linux.get("tmpfs") or ()
            },
            "log_config": self._logging(container),
        }
        if user := options.get("user"):
            arguments["user"] = user
        if shared := linux.get("sharedMemorySize"):
            arguments["shm_size"] = shared * MIB
        return arguments

    def _logging(self, container: Container) -> LogConfig:
        if self._endpoint is None:
            return LogConfig(type="json-file")
        return LogConfig(
            type="awslogs",
            config={
                "awslogs-endpoint": self._endpoint,
                "awslogs-region": self._region,
                "awslogs-group": container.group,
                # Batch makes its own group; another one is for whoever names it to make.
                "awslogs-create-group": "true" if container.group == GROUP else "false",
                "awslogs-stream": container.stream,
            },
        )


def _text(error: Exception) -> str:
    """What the daemon said."""
    return str(getattr(error, "explanation", None) or error)
