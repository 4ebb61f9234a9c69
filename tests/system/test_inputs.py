"""Inputs from S3 with the real ``runner run``: there before the job, whole, and fetched once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from s3_endpoint import Endpoint, env_for
from s3_faults import GET, SLOW_DOWN, FaultProxy, Flip, Match, Stall
from world import World

HEAD = Match("HEAD")


@pytest.fixture
def bucket(world: World, endpoint: Endpoint) -> str:
    """A bucket, and a world whose commands talk to the endpoint."""
    world.env.update(endpoint.env)
    return endpoint.bucket()


@pytest.fixture
def proxy(world: World, endpoint: Endpoint, bucket: str) -> Iterator[FaultProxy]:
    """The world's commands go through it."""
    proxy = FaultProxy(endpoint.port)
    world.env.update(env_for(proxy.url))
    yield proxy
    proxy.close()


def put(endpoint: Endpoint, bucket: str, **files: bytes) -> None:
    """Keys with ``__`` for ``/``."""
    for name, data in files.items():
        endpoint.client().put_object(Bucket=bucket, Key=name.replace("__", "/"), Body=data)


def job(name: str, command: str = "true", *inputs: tuple[str, str], **more: Any) -> dict[str, Any]:
    paths = [{"s3": s3, "path": path} for s3, path in inputs]
    told = {"job_id": name, "command": command, "timeout": "1m", **more}
    return {**told, "input_paths": paths} if paths else told


def outputs(world: World, name: str) -> str:
    return (world.logs / f"queues/q/jobs/{name}-stdout.log").read_text()


def test_a_key_and_a_prefix_are_there_before_the_job(
    world: World, endpoint: Endpoint, bucket: str
) -> None:
    """A job would start without its data, or find it in another place than the document says."""
    put(endpoint, bucket, data__a=b"1", data__sub__b=b"22", other=b"x", database=b"no", big=b"333")
    document = world.document(
        job(
            "read",
            "cd in && cat a sub/b other ../one; ls; stat -c %a a",
            (f"s3://{bucket}/data/", "in/"),
            (f"s3://{bucket}/other", f"{world.home}/in/"),
            (f"s3://{bucket}/big", "one"),
        )
    )
    done = world.call("run", document)
    assert done.returncode == 0, done.stderr
    assert outputs(world, "read") == "122x333a\nother\nsub\n644\n"
    assert "read inputs needed" in done.stdout and "read inputs fetched" in done.stdout


def test_one_queue_reads_what_another_wrote(world: World, bucket: str) -> None:
    """Two machines could not hand work to each other without a script around runner."""
    first = world.document(job("train", "echo model > m.pt", result_paths=["m.pt"]), name="first")
    done = world.call("run", first, "--results", f"s3://{bucket}/queues/first")
    assert done.returncode == 0, done.stderr
    source = f"s3://{bucket}/queues/first/jobs/{{job_id}}/"
    second = world.document(job("train", "cat q/train/m.pt", (source, "{queue_id}/{job_id}/")))
    done = world.call("run", second)
    assert done.returncode == 0, done.stderr
    assert outputs(world, "train") == "model\n"


def test_after_a_kill_only_what_is_missing_is_fetched(
    world: World, endpoint: Endpoint, bucket: str, proxy: FaultProxy
) -> None:
    """Hours of download would begin anew with every crash, or leave half a file in the folder."""
    put(endpoint, bucket, d__a=b"a" * 5000, d__b=b"b" * 5000, d__c=b"c" * 5000)
    document = world.document(
        job("read", "cat in/* | wc -c; ls -A in", (f"s3://{bucket}/d/", "in/"))
    )
    proxy.fail(Match("GET", key="d/c"), Stall())
    run = world.start("run", document)
    there = [world.home / "in/a", world.home / "in/b"]
    world.until(lambda: all(path.exists() for path in there))
    proxy.wait_stalled()
    assert world.until(lambda: world.jobs().get("read", {}).get("reason")) == "fetching inputs"
    assert "fetching inputs" in world.call("status").stdout
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    proxy.release()
    done = world.call("run", document)
    assert done.returncode == 0, done.stderr
    assert outputs(world, "read") == "15000\na\nb\nc\n"
    assert sorted(request.key for request in proxy.seen(GET)) == ["d/a", "d/b", "d/c", "d/c"]


def test_what_can_never_come_fails_the_job_and_says_why(
    world: World, endpoint: Endpoint, bucket: str
) -> None:
    """A misspelt key would hold a queue up until its global timeout."""
    put(endpoint, bucket, k=b"1", odd__a=b"1")
    put(endpoint, bucket, **{"odd__..__..__x": b"evil"})
    (world.home / "file").write_text("")
    told = {
        "key": (f"s3://{bucket}/none", "in/", f"input s3://{bucket}/none: there is no such key"),
        "bucket": (f"s3://{bucket}-x/none", "in/", "there is no such bucket"),
        "prefix": (f"s3://{bucket}/none/", "in/", "there is nothing below it"),
        "path": (f"s3://{bucket}/k", "file/", "file' can't be written: "),
        "odd": (f"s3://{bucket}/odd/", "in/", "the key 'odd/../../x' can't be a path in a folder"),
    }
    jobs = [
        job(name, "true", (s3, path), retry={"max_attempts": 3})
        for name, (s3, path, _) in told.items()
    ]
    document = world.document(*jobs, on_failure="continue")
    done = world.call("run", document)
    assert done.returncode == 100, done.stderr
    for name, (_, _, message) in told.items():
        state = world.jobs()[name]
        assert (state["status"], state["attempt"]) == ("failed", 0), state
        assert message in state["error_message"], state
    put(endpoint, bucket, none=b"2")
    world.call("run", document, "--retry-failed")
    assert world.jobs()["key"]["status"] == "completed", "it was put right, and asked for again"


def test_what_passes_is_shown_and_tried_again(
    world: World, endpoint: Endpoint, bucket: str, proxy: FaultProxy
) -> None:
    """A minute of throttling would fail a job, or hold it up without a word."""
    put(endpoint, bucket, k=b"1")
    throttled = proxy.fail(HEAD, SLOW_DOWN, times=1000)
    document = world.document(job("read", "cat k", (f"s3://{bucket}/k", "k")), job("other"))
    run = world.start("run", document)
    world.until(lambda: "503" in world.jobs().get("read", {}).get("reason", ""))
    assert world.jobs()["other"]["status"] == "completed"
    throttled.left = 0
    assert run.wait(20) == 0
    assert outputs(world, "read") == "1"


def test_a_fetch_that_takes_longer_than_the_timeout(
    world: World, endpoint: Endpoint, bucket: str, proxy: FaultProxy
) -> None:
    """A job whose time includes its inputs would wait for them without end."""
    put(endpoint, bucket, k=b"1")
    proxy.fail(GET, Stall())
    more = {"timeout": "500ms", "inputs_in_timeout": True}
    document = world.document(job("read", "cat k", (f"s3://{bucket}/k", "k"), **more))
    run = world.start("run", document)
    world.until(lambda: world.jobs().get("read", {}).get("status") == "failed")
    proxy.release()
    assert run.wait(20) == 100
    state = world.jobs()["read"]
    assert (state["timed_out"], state["attempt"]) == (True, 0)
    assert state["error_message"] == "timed out after 500ms, still fetching inputs"
    assert not (world.home / "k").exists()


def test_other_bytes_than_were_stored_are_fetched_again(
    world: World, endpoint: Endpoint, bucket: str, proxy: FaultProxy
) -> None:
    """A flipped bit would go into a model without anybody knowing."""
    put(endpoint, bucket, k=b"0" * 1000)
    proxy.fail(GET, Flip())
    document = world.document(job("read", "cat k", (f"s3://{bucket}/k", "k")))
    done = world.call("run", document)
    assert done.returncode == 0, done.stderr
    assert outputs(world, "read") == "0" * 1000
    assert len(proxy.seen(GET)) == 2


def test_ctrl_c_does_not_wait_for_a_store_that_is_not_there(
    world: World, endpoint: Endpoint, bucket: str
) -> None:
    """A person could not stop a queue that waits for the network."""
    put(endpoint, bucket, k=b"1")
    document = world.document(job("read", "true", (f"s3://{bucket}/k", "k")))
    run = world.start("run", document, env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    world.until(lambda: "fetching inputs: " in world.jobs().get("read", {}).get("reason", ""))
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130
    assert (world.jobs()["read"]["status"], world.jobs()["read"].get("reason")) == ("pending", None)


def test_a_cancelled_fetch_is_called_off(
    world: World, endpoint: Endpoint, bucket: str, proxy: FaultProxy
) -> None:
    """A download that nobody wants would go on, or its file appear long after."""
    put(endpoint, bucket, d__a=b"1", d__b=b"2")
    proxy.fail(Match("GET", key="d/."), Stall(), times=2)
    document = world.document(
        job("read", "true", (f"s3://{bucket}/d/", "in/")),
        job("other", "until [ -e go ]; do sleep 0.02; done"),
    )
    run = world.start("run", document)
    proxy.wait_stalled(2)
    folder = world.home / "in"
    assert len(list(folder.iterdir())) == 2, "what is unfinished"
    world.call("cancel", "read")
    proxy.release()
    world.until(lambda: not list(folder.glob(".runner-tmp-*")))
    assert list(folder.iterdir()) == []
    (world.home / "go").touch()
    assert run.wait(20) == 103
