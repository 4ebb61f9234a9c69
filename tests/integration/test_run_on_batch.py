"""A sample of the stress test of one queue in several places, with a queue's real containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from on_batch import OnBatch, account_with, job, real_commands
from s3_endpoint import Endpoint

from runner.engine.batch import backend
from runner.errors import ExitCode


@pytest.fixture
def on_batch(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnBatch]:
    account = account_with(endpoint, second_s=1.0)
    for name, value in {**endpoint.env, **account.env}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(backend, "CLAIM_AGAIN", 0.05)
    yield OnBatch(account, endpoint.bucket(), tmp_path, real_commands)
    account.close()


def test_files_are_handed_on_and_what_comes_of_them_is_stored(
    on_batch: OnBatch, endpoint: Endpoint
) -> None:
    """Jobs on AWS Batch would not find what the job before them made."""
    ended = on_batch.run(
        job("a", "mkdir d; echo 1 > d/1", output_paths=["d/*"]),
        job("b", "cat d/1 d/1 > sum; echo done", depends_on=["a"], result_paths=["sum"]),
    )
    assert ended.exit_code is ExitCode.DONE
    assert endpoint.read(on_batch.bucket, "queues/q/jobs/b/sum") == b"1\n1\n"
    assert on_batch.log("b") == "done\n"
