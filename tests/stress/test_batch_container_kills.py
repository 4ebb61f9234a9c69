"""An attempt's containers, killed at any instant, and started again or by another Batch job."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from batch_attempt import Attempt, Attempts
from s3_endpoint import Endpoint

from runner.batch.container import stage
from runner.batch.records import EndKind, StoredResult

LONGEST = 60.0


@pytest.fixture
def queue(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Attempts]:
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    made = Attempts(endpoint, tmp_path)
    yield made
    made.close()


def container(attempt: Attempt, program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"runner.batch.container.{program}"],
        env={**os.environ, **attempt.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def killed_after(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Its exit code, or None where it had to be killed."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def test_whatever_is_killed_a_command_runs_once_and_is_stored(
    queue: Attempts, tmp_path: Path, seed: int, scaled: Callable[[int], int]
) -> None:
    """A container that dies at the wrong moment would have a job run twice, or never again."""
    dice = random.Random(seed)
    for turn in range(scaled(16)):
        proof = tmp_path / f"proof-{turn}"
        name = f"job-{turn}"
        attempt = queue.submit(
            f"echo ran >> {proof}; echo r > r.txt; echo hello",
            name,
            result_paths=(StoredResult("*.txt"),),
        )
        jobs = [attempt]
        # Any number of Batch jobs with this submission stage, and die somewhere in it.
        for _ in range(dice.randrange(1, 4)):
            killed_after(container(jobs[-1], "stage"), dice.uniform(0.2, 2.5))
            if dice.random() < 0.5:
                jobs.append(attempt.again(f"volume-{turn}-{len(jobs)}"))
        codes = {job: container(job, "stage").wait(LONGEST) for job in jobs}
        ready = [job for job, code in codes.items() if code == stage.READY]
        assert len(ready) == 1, codes
        assert set(codes.values()) <= {stage.READY, stage.TAKEN}
        (ours,) = ready
        main = ours.start_main()
        for _ in range(dice.randrange(3)):
            killed_after(container(ours, "agent"), dice.uniform(0.2, 2.5))
        begun = time.monotonic()
        while (code := killed_after(container(ours, "agent"), LONGEST)) is None:
            assert time.monotonic() - begun < LONGEST
        ours.end_main()
        assert main.returncode is not None and code == 0
        assert proof.read_text() == "ran\n", seed
        assert ours.end is not None and (ours.end.kind, ours.end.code) == (EndKind.EXIT, 0)
        assert ours.stored is not None and ours.stored.ok and not ours.stored.missing
        manifest = queue.manifest(name)
        assert {file.name for file in manifest.files} == {"r.txt", "stdout.log", "stderr.log"}
        left = queue.endpoint.keys(queue.bucket, f"q/jobs/{name}/attempts/")
        assert {key.rpartition(".")[0].rpartition(".")[2] for key in left} == {
            "claim", "end", "stored",
        }, left  # fmt: skip
