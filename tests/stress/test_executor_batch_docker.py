"""The Executor on AWS Batch whose containers are real Docker's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import docker_host
import pytest
from batch_account import BatchAccount
from batch_server import MotoServices, Settings
from batch_server.docker_containers import Docker
from batch_server.dockerd import DockerDaemon
from executor_on_batch import environment_of, options_of
from on_batch import instant
from s3_endpoint import Endpoint

from runner import Executor, JobError

PATIENCE = 240.0


@pytest.fixture
def options(
    daemon: DockerDaemon, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """Containers have this machine's Python by mounts; COMMAND's where its image is IMAGE."""
    settings = Settings(second_s=1.0, delays=instant(1.0), rates={})
    docker = Docker(daemon.client, endpoint.url, settings.region)
    account = BatchAccount(docker, settings, MotoServices(endpoint.url))
    for name, value in environment_of(endpoint, account).items():
        monkeypatch.setenv(name, value)
    docker_host.lend_python(daemon, monkeypatch, endpoint.env)
    daemon.import_image("local/bare", ("/bin/sh", "/usr/bin/find", "/bin/cp"))
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield options_of(endpoint.bucket(), image=docker_host.IMAGE)
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    account.close()


def test_in_real_containers(options: dict[str, Any], tmp_path: Path) -> None:
    """Calls, commands, arrays and exceptions would go well only where nothing is real."""

    def where() -> tuple[int, str, bool]:
        import os

        return os.getuid(), os.getcwd(), os.path.exists("/.dockerenv")

    with Executor(**options, state_dir=tmp_path) as ex:
        here, sums = ex.submit(where), ex.map(pow, range(3), [2] * 3)
        bare = {"image": "local/bare", "memory": 64}
        said = ex.submit_command("echo out; echo err >&2; echo 1 > made; exit 3", bare)
        made = ex.submit_command("echo 1 > made", bare, result_paths=["made"])
        failed, big = ex.submit(divmod, 1, 0), ex.options(memory=32).submit(bytes, 900_000_000)
        nothing = ex.options(image="local/bare").submit(int)
        assert here.result(PATIENCE) == (0, "/runner/work", True)
        assert list(sums) == [0, 1, 4]
        ended = said.result(PATIENCE)
        assert (ended.exit_code, ended.stdout, ended.stderr) == (3, "out\n", "err\n")
        assert made.result(PATIENCE).results[0].endswith(f"/jobs/{made.job_id}/made")
        assert type(failed.exception(PATIENCE)) is ZeroDivisionError
        with pytest.raises(JobError, match=r"memory|SIGKILL"):
            big.result(PATIENCE)
        with pytest.raises(JobError, match="python3"):
            nothing.result(PATIENCE)
