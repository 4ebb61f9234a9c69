"""A daemon that is root, and jobs that aren't: the ordinary way through everything."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts jobs as another user")

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def world() -> Iterator[World]:
    """A world whose daemon runs jobs as ``nobody``, where every user can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="job-user-"))
    folder.chmod(0o755)
    made = World(folder, job_user="nobody")
    made.home.chmod(0o755)
    yield made
    made.close()
    shutil.rmtree(folder)


def job(name: str, command: str, **more: Any) -> dict[str, Any]:
    return {"job_id": name, "command": command, "timeout": "1m", **more}


def submit(world: World, *jobs: dict[str, Any], **queue: Any) -> None:
    done = world.call("submit", world.document(*jobs, **queue))
    assert done.returncode == 0, done.stderr


def log(world: World, name: str, queue: str = "q") -> str:
    return (world.logs / f"queues/{queue}/jobs/{name}-stdout.log").read_text()


def test_jobs_run_as_the_user_in_a_folder_of_its_own(world: World) -> None:
    """A job would have root's rights or HOME, or nowhere to write to."""
    world.daemon()
    submit(
        world,
        job("who", "id -un; pwd; stat -c %U .; env"),
        job("writes", "mkdir a && echo x > a/b && stat -c '%U %a' a/b"),
    )
    assert world.call("wait").returncode == 0
    name, where, owner, *environment = log(world, "who").splitlines()
    assert (name, owner) == ("nobody", "nobody")
    assert where == str(world.state / "queues/q/work")
    wanted = {"HOME": NOBODY.pw_dir, "USER": "nobody", "LOGNAME": "nobody"}
    assert wanted.items() <= dict(line.split("=", 1) for line in environment).items()
    assert log(world, "writes") == "nobody 644\n"
