"""Containers of a queue's attempts in real Docker that have this machine's Python, by mounts.

Instead of an image with Python, which would have to be pulled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import batch_task
import pytest
from batch_server.dockerd import DockerDaemon

from runner.batch import definitions

IMAGE = "local/python"
"""Nothing but the folders that are mounted."""


def lend_python(
    daemon: DockerDaemon,
    monkeypatch: pytest.MonkeyPatch,
    variables: Mapping[str, str],
    *,
    folders: Mapping[str, str] | None = None,
    first: Sequence[str] = (),
) -> None:
    """``variables``: of every container that has it; ``folders``: more of this machine's, by their
    paths in the containers; ``first``: in front of PATH. Of the containers all have it whose image
    is ``IMAGE``, and those that carry files."""
    daemon.import_image(IMAGE, ())
    host = {each: each for each in batch_task.HOST} | dict(folders or {})
    path = os.pathsep.join([*first, os.path.dirname(sys.executable), os.defpath])
    told = {**variables, "PATH": path}
    container, volumes = definitions._container, definitions._volumes

    def mounted(name: str, needs: Any, image: str, *more: Any) -> dict[str, Any]:
        lent = name != definitions.MAIN or image == IMAGE
        made = container(name, needs, IMAGE if name != definitions.MAIN else image, *more)
        if lent:
            made["mountPoints"] += [
                {"sourceVolume": f"host{n}", "containerPath": inside, "readOnly": True}
                for n, inside in enumerate(host)
            ]
            made["environment"] += [{"name": n, "value": v} for n, v in told.items()]
        return made

    def with_host(needs: Any) -> list[dict[str, Any]]:
        lent = [
            {"name": f"host{n}", "host": {"sourcePath": at}} for n, at in enumerate(host.values())
        ]
        return [*volumes(needs), *lent]

    monkeypatch.setattr(definitions, "_container", mounted)
    monkeypatch.setattr(definitions, "_volumes", with_host)
