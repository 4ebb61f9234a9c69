"""A queue on AWS Batch with its coordinator: launched, looked at, acted upon, lost, resumed.

The coordinator is a job of the tests' Batch, and so are the queue's jobs.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from batch_laptop import Laptop
from on_batch import job
from s3_endpoint import Endpoint

from runner.cli.main import run_command
from runner.core.run_mode import RunMode
from runner.errors import (
    ConflictError,
    EndedElsewhereError,
    ExitCode,
    UnreachableError,
    UsageError,
)
from runner.results.layout import Layout
from runner.results.stores import open_store
from runner.targets.batch import connection as batch_connection
from runner.targets.batch.launcher import (
    IdTakenError,
    check_launchable,
    check_undriven,
    look_into,
)


@pytest.fixture
def laptop(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    made = Laptop(endpoint, tmp_path)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(batch_connection, "ANSWER_EVERY", 0.05)
    yield made
    made.account.close()


def test_a_queue_is_driven_to_its_end_with_the_laptop_closed(laptop: Laptop) -> None:
    """`launch --target batch` would need its computer; a lost coordinator would run jobs twice."""
    go, proof = laptop.folder / "go", laptop.folder / "proof"
    ran = f'echo "$JOB_ID $JOB_ATTEMPT" | tee -a {proof}'
    queue = laptop.document(
        job("a", f"{ran}; echo 42 > out.txt", result_paths=["out.txt"]),
        job("long", f"{ran}; while [ ! -e {go} ]; do sleep 0.05; done"),
        job("bad", f"{ran}; exit 3", depends_on=["long"]),
        job("after", ran, depends_on=["bad"]),
    )
    launch = laptop.launch(queue)
    laptop.until(lambda queue: queue["counts"].get("completed") == 1)
    there = laptop.connect()
    assert "AWS Batch" in there.query("status", limit=0)["queue"]["worker"]
    with pytest.raises(UsageError, match="job 'a' has ended already"):
        there.act("cancel", jobs=["a"])
    assert there.act("pause")["queue"]["paused"]
    assert laptop.kill_coordinator(str(launch.job))
    go.touch()
    laptop.until(lambda queue: queue["counts"].get("completed") == 2)
    with closing(open_store(laptop.store)) as store:
        with pytest.raises(ConflictError, match="is driven already"):
            check_undriven(look_into(store).launch)
    assert not there.act("unpause")["queue"].get("paused")
    assert laptop.wait()["status"] == "failed"
    done = laptop.account.wait(str(launch.job))
    assert (done["container"]["exitCode"], len(done["attempts"])) == (100, 2)
    rows = {name: (each["status"], each["attempt"]) for name, each in laptop.jobs().items()}
    assert rows == {
        "a": ("completed", 1), "long": ("completed", 1), "bad": ("failed", 1),
        "after": ("skipped", 0),
    }  # fmt: skip
    assert sorted(proof.read_text().split("\n")[:-1]) == ["a 1", "bad 1", "long 1"]
    plan = there.query("plan")
    assert ["after", "success", "bad"] in plan["plan"]
    assert plan["batch"] == {"job_queue": "queue", "region": "us-east-1"}
    answer = there.query("logs", job="a", offsets={"stdout": 0})
    assert base64.b64decode(answer["streams"]["stdout"]["data"]) == b"a 1\n"
    assert "attempt_failed" in [each["event"] for each in there.query("job", job="bad")["story"]]
    with closing(open_store(laptop.store)) as store:
        assert store.get_bytes("jobs/a/out.txt") == b"42\n"
        assert list(store.list(Layout.control_prefix)) == []
        with pytest.raises(EndedElsewhereError):
            check_launchable(queue, store, look_into(store))
    with pytest.raises(UnreachableError, match="has ended: it is failed"):
        there.act("cancel")


def test_a_queue_that_is_launched_afresh_begins_anew_once(laptop: Laptop) -> None:
    """What has ended would stay as it is; or each coordinator that is lost would begin anew."""
    proof, go = laptop.folder / "ran", laptop.folder / "go"
    first = laptop.launch(laptop.document(job("a", f"echo first >> {proof}; sleep 600")))
    laptop.until(lambda queue: queue["counts"].get("running") == 1)
    deadline = time.monotonic() + 30
    while not proof.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    former = laptop.connect().query("status", limit=0)["queue"]["run_id"]
    laptop.account.client.terminate_job(jobId=str(first.job), reason="its computer is needed")
    laptop.account.wait(str(first.job))
    (left,) = [each.id for each in laptop.account.server.jobs() if each.id != first.job]
    assert laptop.account.job(left)["status"] == "RUNNING"

    command = f"echo again >> {proof}; until [ -e {go} ]; do sleep 0.05; done"
    document = laptop.document(job("a", command), job("b", depends_on=["a"]))
    second = laptop.launch(document, RunMode(fresh=True))
    deadline = time.monotonic() + 60
    while "again" not in proof.read_text():
        assert time.monotonic() < deadline, laptop.said()
        time.sleep(0.05)
    assert laptop.account.job(left)["status"] == "FAILED"
    assert laptop.kill_coordinator(str(second.job))
    go.touch()
    assert laptop.wait()["status"] == "completed"
    assert proof.read_text() == "first\nagain\n"
    queue = laptop.connect().query("status", limit=0)["queue"]
    assert queue["run_id"] != former and queue["counts"]["completed"] == 2
    with closing(open_store(laptop.store)) as store:
        assert store.get_bytes(Layout().former_state_key(former)) is not None


def test_what_can_be_refused_is_refused_before_anything_is_written(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Something of a queue that can't run would be left in the bucket, or be submitted."""
    monkeypatch.chdir(laptop.folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(laptop.folder / "state"))
    monkeypatch.setenv("RUNNER_BATCH_IMAGE", "local/deb")
    kept = job("a", keep_background=True)

    def refused(queue: str, bucket: str, *jobs: dict[str, Any]) -> str:
        base = {"queue_id": "q", "queue_name": "q", "global_timeout": "1h", "on_failure": "stop"}
        told = {**base, "result_s3_bucket": bucket, "jobs": jobs}
        Path("q.json").write_text(json.dumps(told))
        flags = ["--target", "batch", "--batch-queue", "q.json", "--job-queue", queue]
        assert run_command(["launch", *flags]) == ExitCode.USAGE
        return capsys.readouterr().err

    assert "there is no job queue none" in refused("none", laptop.bucket, job("a"))
    assert "there is no bucket no-such" in refused("queue", "no-such-bucket", job("a"))
    assert "keep_background: " in refused("queue", laptop.bucket, kept)
    with closing(open_store(f"s3://{laptop.bucket}")) as store:
        assert list(store.list("")) == []
    assert laptop.account.server.jobs() == []
    assert not Path("state").exists()


def test_an_id_that_was_made_is_no_other_launchs(laptop: Laptop) -> None:
    """Two people who launch the same document at once would have one queue between them."""
    queue = laptop.document(job("a"))
    laptop.account.server.set_placing(laptop.account.environment, False)
    laptop.launch(queue, new_id=True)
    with pytest.raises(IdTakenError):
        laptop.launch(queue, new_id=True)
    assert len(laptop.account.server.jobs()) == 1
