"""CPython's own tests of executors and futures, run on the Executor by inheritance.

From the standard library's ``test.test_concurrent_futures`` (Debian: libpython3.11-testsuite). What
is left out has its reason beside it.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from concurrent import futures
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runner import Executor, JobError, JobFuture, PayloadError

pytestmark = pytest.mark.share

CANDIDATES = (
    Path(futures.__file__).parents[2] / "test/test_concurrent_futures.py",
    Path(
        f"/usr/lib/python{sys.version_info[0]}.{sys.version_info[1]}/test/test_concurrent_futures.py"
    ),
)


def load() -> ModuleType:
    """The standard library's test module, under a name that no other one has."""
    found = next((path for path in CANDIDATES if path.is_file()), None)
    if found is None or sys.version_info[:2] != (3, 11):
        pytest.skip(
            "CPython's test_concurrent_futures isn't here (Debian: libpython3.11-testsuite)",
            allow_module_level=True,
        )
    spec = importlib.util.spec_from_file_location("cpython_test_concurrent_futures", found)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


cpython = load()


def executor(**kwargs: Any) -> Executor:
    """The functions of the module travel by value: a worker has no module of its name."""
    return Executor(modules=[cpython], **kwargs)


class LocalMixin(cpython.ExecutorMixin):
    executor_type = staticmethod(executor)


# Of ExecutorShutdownTest there are left out:
# - test_interpreter_shutdown, test_hang_gh83386: they read what a function prints from the parent's
#   stdout; here it is in the job's log. test_executor.py has them with files.
# - test_submit_after_interpreter_shutdown: its program names a class of concurrent.futures.
class TestShutdown(LocalMixin, cpython.ExecutorShutdownTest, cpython.BaseTestCase):
    test_interpreter_shutdown = None
    test_hang_gh83386 = None
    test_submit_after_interpreter_shutdown = None


class TestWait(LocalMixin, cpython.WaitTests, cpython.BaseTestCase):
    # A process of its own takes longer to come and go than a pool's: 5 s and 6 s are too near.
    def test_timeout(self) -> None:
        """As the original, with a call that ends only after the test."""
        quick, slow = self.executor.submit(cpython.mul, 6, 7), self.executor.submit(time.sleep, 60)
        quick.result(60)
        finished, pending = futures.wait([cpython.EXCEPTION_FUTURE, quick, slow], timeout=0.5)
        assert finished == {cpython.EXCEPTION_FUTURE, quick} and pending == {slow}
        slow.terminate()


class TestAsCompleted(LocalMixin, cpython.AsCompletedTests, cpython.BaseTestCase):
    pass


class TestExecutor(LocalMixin, cpython.ExecutorTest, cpython.BaseTestCase):
    def test_map_timeout(self) -> None:
        """As the original; the third call is ended, for nobody waits a minute for it."""
        results = self.executor.map(time.sleep, [0, 0, 60], timeout=8)
        with pytest.raises(futures.TimeoutError):
            for index, value in enumerate(results):
                assert value is None and index < 2
        self.executor._session._end_all()


class Control:
    """A target whose jobs have not started, for Futures that have none."""

    region = None

    def cancel(self, job_id: str) -> bool:
        return True


# Of FutureTests there are left out:
# - test_done_callback_raises*: they read logging's last resort from stderr, which pytest replaces.
# - test_repr, test_multiple_set_*: they compare the repr; a job's Future shows the job's id.
class TestFuture(cpython.FutureTests):
    test_done_callback_raises = None
    test_done_callback_raises_already_succeeded = None
    test_repr = None
    test_multiple_set_exception = None
    test_multiple_set_result = None

    @pytest.fixture(autouse=True)
    def futures_of_jobs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The tests make JobFutures."""
        monkeypatch.setattr(cpython, "Future", lambda: JobFuture("x-1", Control()))


# Of ExecutorDeadlockTest: BrokenProcessPool is JobError here, of one job: the others go on.
# ErrorAtPickle is told by `submit` itself. test_shutdown_deadlock* look into the pool's threads.
class TestDeadlock(LocalMixin, cpython.ExecutorDeadlockTest, cpython.BaseTestCase):
    test_shutdown_deadlock_pickle = None

    def _check_crash(self, error: type, func: Any, *args: Any, ignore_stderr: bool = False) -> None:
        told = JobError if error is cpython.BrokenProcessPool else error
        if any(type(each).__name__ == "ErrorAtUnpickle" for each in args):
            told = Exception  # the very error that unpickling raised
        if func is cpython._return_instance and error is cpython.BrokenProcessPool:
            crashes = args == (cpython.CrashAtPickle,)
            told = JobError if crashes else PayloadError
        if any(type(each).__name__ == "ExitAtUnpickle" for each in args):
            told = SystemExit
        with pytest.raises(told):
            self.executor.submit(func, *args).result(60)
        assert self.executor.submit(pow, 2, 5).result(60) == 32

    def test_shutdown_deadlock(self) -> None:
        """As the original: a crash after shutdown."""
        crashing = self.executor.submit(cpython._crash, delay=0.1)
        self.executor.shutdown(wait=True)
        with pytest.raises(JobError):
            crashing.result()


# Of ProcessPoolExecutorTest: the others are about its processes, queues and initializers.
class TestProcessPool(LocalMixin, cpython.BaseTestCase):
    test_map_chunksize = cpython.ProcessPoolExecutorTest.test_map_chunksize

    def test_traceback(self) -> None:
        """As the original, less the line of source: what travels by value has no file."""

        def fail() -> None:
            raise RuntimeError(123)

        error = self.executor.submit(fail).exception(60)
        assert type(error) is RuntimeError and error.args == (123,)
        assert "RuntimeError: 123" in str(error.__cause__) and "in fail" in str(error.__cause__)
