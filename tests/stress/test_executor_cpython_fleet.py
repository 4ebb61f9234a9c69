"""CPython's own tests of executors on a fleet: those of test_executor_cpython, by inheritance.

All their Executors are sessions of one fleet job, whose five workers outlive them all.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_executor_cpython as local
from executor_targets import until

from runner import Executor

pytestmark = [pytest.mark.share, pytest.mark.usefixtures("fleet")]

WORKERS = 5
"""As many as the tests' pools have."""

WORKER = [sys.executable, "-c", "from runner.fleet.cli.main import main; main()", "worker"]

place: dict[str, Any] = {}
"""Keywords of an Executor on the fleet, while there is one."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The job and its workers."""
    folder: Path = tmp_path_factory.mktemp("fleet")
    place.update(target="fleet", database=str(folder / "fleet"), job="cpython")
    Executor(**place).shutdown()
    flags = ["--job-name", "cpython", "--database", place["database"], "--poll-wait", "1"]
    flags += ["--shutdown-after-empty", "0", "--visibility-timeout", "12"]
    with open(folder / "log", "wb") as log:
        workers = [
            subprocess.Popen(
                [*WORKER, *flags, "--state-dir", str(folder / f"state-{number}")],
                stdout=log,
                stderr=log,
            )
            for number in range(WORKERS)
        ]
    yield
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait(60)
    assert b"Traceback" not in (folder / "log").read_bytes()


def executor(max_workers: int | None = None) -> Executor:
    """A session; who runs its calls isn't its affair."""
    return Executor(**place, modules=[local.cpython])


class FleetMixin:
    executor_type = staticmethod(executor)


# What is left out for all targets has its reason in test_executor_cpython. More:
# - test_max_workers_negative: a fleet has no max_workers; `workers`: test_options_are_checked.
class TestShutdown(FleetMixin, local.TestShutdown):
    def test_cancel_futures(self) -> None:
        """As the original, once the first one runs: a worker elsewhere may look only a second after
        all were cancelled."""
        calls = [self.executor.submit(time.sleep, 0.1) for _ in range(50)]
        until(calls[0].running, 60)
        self.executor.shutdown(cancel_futures=True)
        others = [call for call in calls if not call.cancelled()]
        assert 0 < len(others) < 30 and all(call.done() for call in others)
        assert [call.exception() for call in others] == [None] * len(others)


class TestWait(FleetMixin, local.TestWait):
    pass


class TestAsCompleted(FleetMixin, local.TestAsCompleted):
    pass


class TestExecutor(FleetMixin, local.TestExecutor):
    test_max_workers_negative = None


class TestDeadlock(FleetMixin, local.TestDeadlock):
    pass


class TestProcessPool(FleetMixin, local.TestProcessPool):
    pass
