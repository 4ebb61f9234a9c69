"""What an Executor on AWS Batch needs of an account is what `runner setup --batch` gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from batch_account import BatchAccount
from guarded import Guarded
from test_batch_permissions import JOB_ROLE, account, guarded

__all__ = ["account", "guarded"]

PROGRAM = """
import json, os, sys
from runner import Executor

with Executor(**json.loads(sys.argv[1])) as ex:
    called = ex.submit(lambda: {"large": "x" * 300_000})
    failed = ex.submit(divmod, 1, 0)
    made = ex.submit_command("echo made > out; echo said", result_paths=["out"])
    tried = ex.submit_command('test "$JOB_ATTEMPT" = 2', retry={"max_attempts": 2})
    elements = list(ex.map(pow, range(3), range(3)))
    assert len(called.result()["large"]) == 300_000 and elements == [1, 1, 4]
    assert type(failed.exception()) is ZeroDivisionError
    (address,) = made.result().results
    assert made.result().stdout == "said\\n" and made.logs() == "said\\n"
    assert tried.result().ok, tried.result()
    ended = ex.submit_command("sleep 600")
    while ended.status() != "running":
        pass
    ended.terminate()
    assert ended.result().status == "cancelled", ended.result()
    print(address)
"""


def test_an_executor_needs_no_more_than_the_policies_that_ship(
    account: BatchAccount, guarded: Guarded, tmp_path: Path
) -> None:
    """The first call after `runner setup --batch` would be denied: calls, results, logs, ends."""
    options = (
        f'{{"target": "batch", "job_queue": "queue", "image": "i", "bucket": "{guarded.bucket}", '
        f'"job_role": "{JOB_ROLE}", "bundle": "image", "every": 0.1, "staging": "in-image"}}'
    )
    env = {
        **os.environ,
        **guarded.env,
        "AWS_ENDPOINT_URL_BATCH": account.server.url,
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, options],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    refused = [each for each in account.server.seen if each.error == "AccessDeniedException"]
    assert (done.returncode, done.stderr, refused) == (0, "", []), done.stderr
    assert done.stdout.startswith(f"s3://{guarded.bucket}/queues/")
    with guarded.off_guard():
        left = guarded.endpoint.keys(guarded.bucket, "")
    assert not left, "without a state_dir nothing stays"
