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
    """The containers have it that carry files, and COMMAND's where its image is ``IMAGE``.

    ``variables``: of each of them; ``folders``: more of this machine's, by their paths there;
    ``first``: in front of COMMAND's PATH.
    """
    daemon.import_image(IMAGE, ())
    host = {each: each for each in batch_task.HOST} | dict(folders or {})
    usual = [os.path.dirname(sys.executable), os.defpath]
    container, volumes = definitions._container, definitions._volumes

    def mounted(name: str, needs: Any, image: str, *more: Any) -> dict[str, Any]:
        lent = name != definitions.MAIN or image == IMAGE
        made = container(name, needs, IMAGE if name != definitions.MAIN else image, *more)
        if lent:
            made["mountPoints"] += [
                {"sourceVolume": f"host{n}", "containerPath": inside, "readOnly": True}
                for n, inside in enumerate(host)
            ]
            path = [*first, *usual] if name == definitions.MAIN else usual
            told = {**variables, "PATH": os.pathsep.join(path)}
            made["environment"] += [{"name": n, "value": v} for n, v in told.items()]
        return made

    def with_host(needs: Any) -> list[dict[str, Any]]:
        lent = [
            {"name": f"host{n}", "host": {"sourcePath": at}} for n, at in enumerate(host.values())
        ]
        return [*volumes(needs), *lent]

    monkeypatch.setattr(definitions, "_container", mounted)
    monkeypatch.setattr(definitions, "_volumes", with_host)
