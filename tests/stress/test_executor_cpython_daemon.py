"""CPython's own tests of executors, run on the target `daemon`: see test_executor_cpython.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import test_executor_cpython as local
from world import World

from runner import Executor

pytestmark = pytest.mark.share

_socket = ""


@pytest.fixture(scope="module", autouse=True)
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One daemon for all of them; each test opens a queue of its own."""
    global _socket
    world = World(tmp_path_factory.mktemp("world"))
    try:
        world.daemon()
        _socket = str(world.run_dir / "runner.sock")
        yield
    finally:
        world.close()


def executor(**kwargs: Any) -> Executor:
    """As the other module's, on the daemon."""
    return Executor(target="daemon", socket=_socket, modules=[local.cpython], **kwargs)


class TestShutdownOnDaemon(local.TestShutdown):
    executor_type = staticmethod(executor)


class TestWaitOnDaemon(local.TestWait):
    executor_type = staticmethod(executor)


class TestAsCompletedOnDaemon(local.TestAsCompleted):
    executor_type = staticmethod(executor)


class TestExecutorOnDaemon(local.TestExecutor):
    executor_type = staticmethod(executor)


class TestDeadlockOnDaemon(local.TestDeadlock):
    executor_type = staticmethod(executor)


class TestProcessPoolOnDaemon(local.TestProcessPool):
    executor_type = staticmethod(executor)
