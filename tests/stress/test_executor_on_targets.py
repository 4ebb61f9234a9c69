"""What every target of an Executor does with one job: calls, commands, limits.

The kinds are those of tests/executor_targets.py. A test that doesn't apply to one of them is named
there with its reason. How jobs and sessions end: test_executor_ends_on_targets.py.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_targets import ExecutorTarget

from runner import CommandResult, Executor, JobError, PayloadError

pytestmark = pytest.mark.share


class CustomError(Exception):
    """Can be pickled, but not unpickled: its constructor takes two arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


# -- functions ---------------------------------------------------------------------------------


def test_a_call_gives_what_its_function_returns(ex: Executor, patience: float) -> None:
    """Keywords of the function would be taken for the executor's own."""
    call = ex.submit(lambda *args, **kwargs: (args, kwargs), 1, [2], fn=3, self=4, timeout=5)
    assert call.result(patience) == ((1, [2]), {"fn": 3, "self": 4, "timeout": 5})
    assert ex.submit(int).result(patience) == 0
    assert call.done() and not call.running() and call.exception(0) is None
    assert call.status() == "completed" and call.job_id


def test_an_exception_has_the_remote_traceback_as_its_cause(ex: Executor, patience: float) -> None:
    """People would see that a call failed, and not where."""

    def inner() -> None:
        raise LookupError("the well is dry", 7)

    error = ex.submit(inner).exception(patience)
    assert type(error) is LookupError and error.args == ("the well is dry", 7)
    assert "in inner" in str(error.__cause__) and "LookupError" in str(error.__cause__)


def test_an_exception_of_any_constructor_says_what_it_said(ex: Executor, patience: float) -> None:
    """The caller would fail in the constructor, and the message be lost."""

    def fail() -> None:
        raise CustomError("salt", "water")

    with pytest.raises(JobError, match="CustomError: salt and water") as caught:
        ex.submit(fail).result(patience)
    assert "in fail" in str(caught.value.__cause__)


def test_closures_and_lambdas_travel(ex: Executor, patience: float) -> None:
    """A function that is defined where it is used could not be called."""
    factor = 3

    def times(value: int) -> int:
        return value * factor

    assert ex.submit(times, 14).result(patience) == 42
    assert ex.submit(lambda call: call(7), times).result(patience) == 21


def test_classes_of_the_script_come_back_as_themselves(target: ExecutorTarget) -> None:
    """A result's class would be another one than the script's: isinstance fails."""
    target.run("""
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: int

        def move(point, by=[1, 2]):
            return Point(point.x + sum(by))

        with executor() as ex:
            moved = ex.submit(move, Point(1)).result()
        assert type(moved) is Point and moved == Point(4), moved
    """)


def test_a_package_travels(target: ExecutorTarget, patience: float, tmp_path: Path) -> None:
    """A function of a module that only this machine has could not be called."""
    package = tmp_path / "mypackage"
    package.mkdir()
    (package / "__init__.py").write_text("from mypackage.inner import VALUE\n")
    (package / "inner.py").write_text("VALUE = 42\n")

    def value() -> int:
        import mypackage

        return mypackage.VALUE

    with target.make(1, code=str(package)) as ex:
        (package / "inner.py").write_text("VALUE = 0\n")  # a copy was made
        assert ex.submit(value).result(patience) == 42


def test_what_can_not_be_pickled_is_named(ex: Executor, patience: float) -> None:
    """The call would fail far away, or seem to have vanished."""

    def locks() -> dict[str, list[object]]:
        import threading

        return {"locks": [1, threading.Lock()]}

    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(PayloadError, match=r"argument 1 \(a .*generator\)"):
        ex.submit(sum, (each for each in (1, 2)))
    with pytest.raises(PayloadError, match="generator"):
        ex.submit(numbers).result(patience)
    with pytest.raises(PayloadError, match=r"\['locks'\]: \[1\] \(a _thread.lock\)"):
        ex.submit(locks).result(patience)


def test_large_arguments_and_results_travel(ex: Executor, patience: float) -> None:
    """100 MB would not fit into a request, a pipe or a command line."""
    data = os.urandom(1_000_000) * 100

    def half(given: bytes) -> tuple[str, bytes]:
        import hashlib

        return hashlib.sha256(given).hexdigest(), given[: len(given) // 2]

    digest, first = ex.submit(half, data).result(patience)
    assert digest == hashlib.sha256(data).hexdigest() and first == data[:50_000_000]


@pytest.mark.parametrize("end", ["os._exit(7)", "os.kill(os.getpid(), 9)"])
def test_a_process_that_dies_fails_its_own_call_only(
    ex: Executor, patience: float, end: str
) -> None:
    """All other calls would fail with it, as those of a broken pool do."""
    dying = ex.submit(eval, end, {"os": os})
    with pytest.raises(JobError) as caught:
        dying.result(patience)
    assert dying.job_id in str(caught.value) and caught.value.job_id == dying.job_id
    assert ex.submit(pow, 2, 5).result(patience) == 32


# -- commands ----------------------------------------------------------------------------------


def test_a_command_is_a_script_or_an_argv(ex: Executor, patience: float) -> None:
    """A list would be split by a shell, or a script be split at its blanks."""
    said = ex.submit_command("for x in a 'b c'; do echo \"[$x]\"; done; echo no >&2; exit 7")
    exact = ex.submit_command(["printf", "%s|", "a b", "$HOME", ""])
    result = said.result(patience)
    assert isinstance(result, CommandResult)
    assert (result.id, result.status, result.exit_code) == (said.job_id, "failed", 7)
    assert (result.stdout, result.stderr, result.ok) == ("[a]\n[b c]\n", "no\n", False)
    assert dict(result) == {"batch_job_id": said.job_id, "status": "FAILED", "exit_code": 7}
    done = exact.result(patience)
    assert (done.stdout, done["status"], done.exit_code) == ("a b|$HOME||", "SUCCEEDED", 0)


def test_capabilities_and_variables_reach_the_command(ex: Executor, patience: float) -> None:
    """A variable, or what a dictionary for AWS Batch says, would be dropped in silence."""
    view = ex.options(env={"A": "1", "B": "1"}).options(env={"B": "2"})
    wanted = {"vcpus": 1, "memory": 64, "timeout_seconds": 3600}
    said = view.submit_command("echo $A$B$C", wanted, env={"C": "3"})
    called = view.submit(lambda: __import__("os").environ["A"] + __import__("os").environ["B"])
    assert said.result(patience).stdout == "123\n" and called.result(patience) == "12"
    with pytest.raises(ValueError, match='"memroy" is not a capability; did you mean "memory"'):
        ex.submit_command("true", {"memroy": "1GiB"})
    for command in ("", [], ["a\0b"], 3, [1]):
        with pytest.raises(ValueError, match="command"):
            ex.submit_command(command)  # type: ignore[arg-type]


def test_check_makes_a_failure_an_exception(ex: Executor, patience: float) -> None:
    """A script would go on as if its command had worked."""
    with pytest.raises(JobError, match="exit status 3") as caught:
        ex.submit_command("exit 3", check=True).result(patience)
    assert caught.value.exit_status == 3
    assert ex.submit_command("true", check=True).result(patience).ok


def test_files_that_a_command_made_are_in_its_result(
    target: ExecutorTarget, patience: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`result_paths` would be taken and forgotten."""
    monkeypatch.chdir(tmp_path)
    with target.make(1) as ex:
        script = "mkdir -p out/a; touch out/1.txt out/a/2.txt out/3.csv"
        made = ex.submit_command(script, result_paths=["out/**/*.txt"]).result(patience)
        assert made.ok, made
        assert [each.rpartition("/")[2] for each in made.results] == ["1.txt", "2.txt"]
        failed = ex.submit_command("touch x.txt; false", result_paths=["*.txt"])
        assert failed.result(patience).results == ()
        with pytest.raises(ValueError, match="must be a list of globs"):
            ex.submit_command("true", result_paths="x")


def test_what_a_job_printed_can_be_read(ex: Executor, patience: float) -> None:
    """A function's output would be nowhere."""
    called = ex.submit(print, "said by a function")
    assert called.result(patience) is None and called.logs() == "said by a function\n"
    failed = ex.submit_command("echo out; echo err >&2; exit 1")
    assert failed.result(patience).exit_code == 1
    assert (failed.logs(), failed.logs("stderr")) == ("out\n", "err\n")


# -- time limits and retries -------------------------------------------------------------------


def test_a_job_that_takes_too_long_is_ended(ex: Executor, patience: float) -> None:
    """A timeout would be taken and forgotten."""
    called = ex.options(timeout=1).submit(time.sleep, 600)
    slow = ex.submit_command("sleep 600", timeout="1s")
    with pytest.raises(JobError, match="timed out") as caught:
        called.result(patience)
    assert caught.value.status == "timed_out"
    result = slow.result(patience)
    assert (result.status, result["status"], result.exit_code) == ("timed_out", "TIMEOUT", None)


def test_a_job_that_fails_is_tried_again(ex: Executor, patience: float) -> None:
    """A retry would be taken and forgotten, or a second one be made."""
    retry = {"max_attempts": 3, "backoff": "fixed", "base_delay": "10ms"}

    def third_time() -> str:
        attempt = __import__("os").environ["JOB_ATTEMPT"]
        if attempt != "3":
            raise ValueError(attempt)
        return attempt

    called = ex.options(retry=retry).submit(third_time)
    script = 'echo try $JOB_ATTEMPT; test "$JOB_ATTEMPT" = 2'
    command = ex.submit_command(script, retry=retry)
    assert called.result(patience) == "3"
    result = command.result(patience)
    assert (result.ok, result.stdout) == (True, "try 2\n")
    with pytest.raises(ValueError, match=r"^2$"):
        ex.options(retry={**retry, "max_attempts": 2}).submit(third_time).result(patience)
