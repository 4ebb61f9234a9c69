"""The Executor on this machine, from submit to result: the one test of it that always runs."""

from __future__ import annotations

import threading
import time
from concurrent.futures import as_completed

import pytest

from runner import CommandResult, Executor, JobError, PayloadError


def test_functions_and_commands_are_jobs_of_one_queue() -> None:
    """`submit` and `submit_command` would not give what they were asked for, or lose it."""
    factor = 3
    with Executor(max_workers=2) as ex:
        tripled = ex.submit(lambda x, *, plus: x * factor + plus, 13, plus=3)
        said = ex.options(env={"WHO": "me"}).submit_command("echo $WHO; echo no >&2; exit 7")
        exact = ex.submit_command(["printf", "%s|", "a b", "$HOME", ""])
        broken = ex.submit(lambda: {}["missing"])
        slow = ex.submit_command("sleep 60")
        last = [ex.submit_command("sleep 60") for _ in range(3)]
        assert {*as_completed([tripled, said], timeout=60)} == {tripled, said}
        assert tripled.result() == 42
        assert said.result() == CommandResult(
            said.job_id,
            "failed",
            7,
            "me\n",
            "no\n",
            message="command execution failed: exit status 7",
        )
        assert exact.result(60).stdout == "a b|$HOME||"
        with pytest.raises(KeyError, match="missing") as caught:
            broken.result(60)
        assert "in <lambda>" in str(caught.value.__cause__)
        while slow.status() != "running":
            time.sleep(0.01)
        assert last[-1].cancel() and last[-1].cancelled() and not slow.cancel()
        for each in (slow, *last[:-1]):
            each.terminate()
        assert slow.result(60).status == "cancelled"
        with pytest.raises(PayloadError, match=r"argument 1 \(a _thread.lock\)"):
            ex.submit(len, threading.Lock())
        failing = ex.submit_command("exit 1", check=True)
        with pytest.raises(JobError, match="exit status 1"):
            failing.result(60)
    with pytest.raises(RuntimeError, match="after shutdown"):
        ex.submit(int)
