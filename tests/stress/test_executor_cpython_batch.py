"""CPython's own tests of executors, run on AWS Batch by inheritance: see test_executor_cpython.

There are no FutureTests: a Future is the same on every target.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_executor_cpython as local
from executor_on_batch import batch_target
from executor_targets import ExecutorTarget, until

from runner import Executor, JobFuture

pytestmark = [pytest.mark.share, pytest.mark.slow]

_targets: list[ExecutorTarget] = []


@pytest.fixture(scope="module", autouse=True)
def _batch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("batch")
    with batch_target(folder) as target, pytest.MonkeyPatch.context() as patch:
        for name, value in target.environment.items():
            patch.setenv(name, value)
        _targets[:] = [target]
        yield


def executor(max_workers: int | None = None, **kwargs: Any) -> Executor:
    """The module travels by value: no image has it."""
    modules = [local.cpython, local]
    workers = 4 if max_workers is None else max_workers
    return _targets[0].make(workers, modules=modules, **kwargs)


class BatchMixin(local.LocalMixin):
    executor_type = staticmethod(executor)


class TestShutdown(BatchMixin, local.TestShutdown):
    def test_cancel_futures(self) -> None:
        """As the original, once one has begun: a container takes a while."""
        calls = [self.executor.submit(time.sleep, 0.1) for _ in range(50)]
        until(lambda: any(each.running() or each.done() for each in calls), 240)
        self.executor.shutdown(cancel_futures=True)
        others = [each for each in calls if not each.cancelled()]
        assert 0 < len(others) < 30
        assert all(each.done() and each.exception() is None for each in others)


# In those that are named `first` a sleep stands for "longer than the others": a container may begin
# seconds after another one, so here it lasts until the test is over.
class TestWait(BatchMixin, local.TestWait):
    def setUp(self) -> None:
        super().setUp()
        submit = self.executor.submit

        def longer(fn: Any, *args: Any) -> JobFuture:
            return submit(fn, *((600,) if fn is time.sleep else args))

        if "first" in self._testMethodName:
            self.executor.submit = longer

    def tearDown(self) -> None:
        if "first" in self._testMethodName:
            self.executor._session._end_all()
        super().tearDown()


class TestAsCompleted(BatchMixin, local.TestAsCompleted):
    pass


class TestExecutor(BatchMixin, local.TestExecutor):
    pass


class TestDeadlock(BatchMixin, local.TestDeadlock):
    pass


class TestProcessPool(BatchMixin, local.TestProcessPool):
    pass
