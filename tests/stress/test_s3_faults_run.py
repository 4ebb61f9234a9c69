"""A real run whose S3 fails in every way that it can: jobs go on, nothing is lost, all is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_proof import Expected, check_evidence, check_nothing_left, check_projection
from kill_queues import job, made, queue
from kill_s3 import S3World, check_in_s3, expected_in_s3, s3_world, uploading
from kill_timing import PATIENCE, until
from s3_endpoint import Endpoint
from s3_faults import (
    COMPLETE,
    CREATE,
    DENIED,
    EXPIRED,
    GET,
    INTERNAL,
    LIST,
    LIST_UPLOADS,
    PART,
    SLOW_DOWN,
    Answer,
    Fault,
    FaultProxy,
    Garbage,
    Match,
    ResetAnswer,
    ResetRequest,
    Stall,
    Truncate,
    WrongETag,
)

pytestmark = pytest.mark.share

ALWAYS = 1_000_000

FILES = Match("PUT", key=".*/jobs/.*", without=("partNumber",))
"""Results, logs and manifests in one piece; not the probe, nor the state."""

STATE = ".*/queue-state.json"

LOOKS = 4.0
"""Seconds for which a run that has looked whose the store is believes that it is its own."""

LATER = 5.0
"""Seconds by which a busy machine may delay what a fault must not delay at all."""


@pytest.fixture
def proxy(endpoint: Endpoint) -> Iterator[FaultProxy]:
    proxy = FaultProxy(endpoint.port)
    yield proxy
    proxy.close()


def through(proxy: FaultProxy, **more: str) -> dict[str, str]:
    """The settings of a run that talks to the proxy, and waits for no upload for long."""
    waits = {"RUNNER_UPLOAD_WAIT": "500ms", "RUNNER_PROJECTION_INTERVAL": "100ms"}
    return {"AWS_ENDPOINT_URL": proxy.url, **waits, **more}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, endpoint: Endpoint) -> Expected:
    """What the queue comes to, and stores, when nothing fails."""
    with s3_world(tmp_path_factory.mktemp("undisturbed") / "w", uploading, endpoint) as quiet:
        return expected_in_s3(quiet)


# -- faults that pass ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([(FILES, SLOW_DOWN, 20), (PART, SLOW_DOWN, 5)], id="a storm of SlowDown"),
        pytest.param(
            [(FILES, ResetRequest(4), 8), (PART, ResetRequest(1 << 20), 5)], id="reset in mid-body"
        ),
        pytest.param([(COMPLETE, ResetAnswer(), 4), (FILES, ResetAnswer(), 8)], id="answer lost"),
        pytest.param(
            [(FILES, EXPIRED, 7), (PART, EXPIRED, 3), (GET, EXPIRED, 2)], id="expired token"
        ),
        pytest.param(
            [(FILES, Answer(400, "BadDigest"), 6), (PART, Answer(400, "BadDigest"), 2)],
            id="wrong checksum",
        ),
        pytest.param([(COMPLETE, WrongETag(), 1), (PART, WrongETag(), 1)], id="wrong ETag"),
        pytest.param(
            [(CREATE, INTERNAL, 4), (LIST, Truncate(), 2), (LIST_UPLOADS, Garbage(), 2)],
            id="broken answers",
        ),
    ],
)
def test_what_passes_costs_nothing(
    tmp_path: Path,
    endpoint: Endpoint,
    proxy: FaultProxy,
    undisturbed: Expected,
    faults: list[tuple[Match, Fault, int]],
) -> None:
    """A fault that passes by itself would cost results, or leave rubbish."""
    with s3_world(tmp_path / "w", uploading, endpoint, through(proxy)) as place:
        process = place.start(*place.run_words())
        until("the store was tried", lambda: place.is_taken_up())
        rules = [proxy.fail(match, fault, times=times) for match, fault, times in faults]
        assert process.wait(PATIENCE) == undisturbed.exit_code, place.said_by_runner()
        assert all(rule.done for rule in rules), rules
        place.settings = {}
        check_in_s3(place, undisturbed)


def test_stalls(
    tmp_path: Path, endpoint: Endpoint, proxy: FaultProxy, undisturbed: Expected
) -> None:
    """Whoever doesn't need what hangs on its way would wait for it."""
    proxy.fail(FILES, Stall(), times=3)
    proxy.fail(PART, Stall(served=True), times=2)
    with s3_world(tmp_path / "w", uploading, endpoint, through(proxy)) as place:
        process = place.start(*place.run_words())
        proxy.wait_stalled()
        until("all have run", lambda: place.said("last", "end-0"))
        assert process.poll() is None
        proxy.release()
        assert process.wait(PATIENCE) == undisturbed.exit_code, place.said_by_runner()
        place.settings = {}
        check_in_s3(place, undisturbed)


# -- the network is away ---------------------------------------------------------------------


def gated(proof: Path) -> dict[str, Any]:
    """When it is let go: a result and who needs it and changes it; beside them a chain."""
    change = 'cp "$PROOF/out/first.txt" "$PROOF/out/seen"; echo changed > "$PROOF/out/first.txt"'
    chain = [job(f"c{n}", "work 0.02", f"c{n - 1}" if n else "gate") for n in range(6)]
    jobs = [
        job("gate", "until_let_go"),
        job("first", "make first.txt", "gate", result_paths=made("first", proof)),
        job("dependant", change, "first"),
        *chain,
    ]
    return queue("gated", jobs, proof, max_parallel_jobs=2)


def _when(place: S3World, job_id: str, what: str) -> float:
    """When the job told it, in seconds of uptime."""
    [up] = [line.up for line in place.evidence() if (line.job_id, line.what) == (job_id, what)]
    return up


def _behind_the_gate(place: S3World) -> Any:
    """Start, and wait until the gate's job runs."""
    process = place.start(*place.run_words())
    until("the gate's job runs", lambda: place.said("gate", "start"))
    return process


def test_refused_in_mid_queue(tmp_path: Path, endpoint: Endpoint, proxy: FaultProxy) -> None:
    """A network that is away for a while would hold up jobs, or have changed files stored."""
    with s3_world(tmp_path / "quiet", gated, endpoint, through(proxy)) as quiet:
        quiet.let_go()
        wanted = expected_in_s3(quiet)
        usual = _when(quiet, "c5", "start") - _when(quiet, "gate", "end-0")
    with s3_world(tmp_path / "w", gated, endpoint, through(proxy)) as place:
        process = _behind_the_gate(place)
        with proxy.closed_door():
            place.let_go()
            until("all have run", lambda: place.said("dependant", "end-0"))
            until("the others too", lambda: place.said("c5", "end-0"))
            assert process.poll() is None
            assert place.key("jobs/first/manifest.json") not in endpoint.keys(place.bucket)
        assert process.wait(PATIENCE) == 0, place.said_by_runner()
        took = _when(place, "c5", "start") - _when(place, "gate", "end-0")
        assert took < usual + LATER, f"{took} s instead of {usual} s"
        waited = _when(place, "dependant", "start") - _when(place, "first", "end-0")
        assert 0.4 < waited < 0.5 + LATER, waited
        assert (place.proof / "out" / "seen").read_text() == "made by first\n"
        assert (place.proof / "out" / "first.txt").read_text() == "changed\n"
        assert place.in_s3("jobs/first/first.txt") == b"made by first\n"
        check_in_s3(place, wanted)
        spool = place.queue_dir / "spool"
        assert not [path for path in spool.rglob("*") if path.is_file()], "copies were left"


@pytest.mark.parametrize("how", ["refused", "stalled"])
def test_dead_network(tmp_path: Path, endpoint: Endpoint, proxy: FaultProxy, how: str) -> None:
    """A dead network would hold the end up for ever, change an outcome, or cost results."""
    with s3_world(tmp_path / "quiet", gated, endpoint) as quiet:
        quiet.let_go()
        wanted = expected_in_s3(quiet)
    settings = through(proxy, RUNNER_UPLOAD_TIMEOUT="1s")
    with s3_world(tmp_path / "w", gated, endpoint, settings) as place:
        process = _behind_the_gate(place)
        if how == "refused":
            proxy.close_door()
        else:
            proxy.fail(Match(), Stall(), times=ALWAYS)
        place.let_go()
        until("all have run", lambda: place.said("dependant", "end-0"))
        assert process.wait(15) == 105, place.said_by_runner()
        for job_id, state in place.job_states().items():
            assert state["status"] == "completed", job_id
            assert state["logs_uploaded"] is False and state["result_error"], state
            assert state.get("results_uploaded") is not True, state
        check_evidence(place)
        check_projection(place)
        if how == "refused":
            proxy.open_door()
        else:
            proxy.close()
            place.settings = {}
        assert place.run() == 0, place.said_by_runner()
        assert place.in_s3("jobs/first/first.txt") == b"made by first\n"
        check_in_s3(place, wanted)


# -- what a person has to change -------------------------------------------------------------


def _refused(place: S3World, told: str) -> None:
    """The run ends at once, says so, and has written nothing."""
    assert place.run() == 2, place.said_by_runner()
    assert told in place.said_by_runner()
    assert not place.state.exists() and not place.logs.exists()
    assert not place.evidence()


def test_denied_before_the_first_job(tmp_path: Path, endpoint: Endpoint, proxy: FaultProxy) -> None:
    """A queue would run for days whose results nobody may store."""
    proxy.fail(Match("PUT"), DENIED, times=ALWAYS)
    with s3_world(tmp_path / "w", gated, endpoint, through(proxy)) as place:
        _refused(place, "s3:PutObject")
        assert not endpoint.keys(place.bucket)


def test_no_such_bucket(tmp_path: Path, endpoint: Endpoint) -> None:
    """The same for a bucket that was misspelt."""
    with s3_world(tmp_path / "w", gated, endpoint) as place:
        place.write({**place.document, "result_s3_bucket": "misspelt-bucket"})
        _refused(place, "s3://misspelt-bucket: there is no such bucket")


def test_no_credentials(tmp_path: Path, endpoint: Endpoint) -> None:
    """The same for a machine without a role."""
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    with s3_world(tmp_path / "w", gated, endpoint, none) as place:
        _refused(place, "there are no AWS credentials")


def test_denied_in_mid_queue(tmp_path: Path, endpoint: Endpoint, proxy: FaultProxy) -> None:
    """Somebody who takes a permission away would stop the work, or it would be hidden."""
    settings = through(proxy, RUNNER_UPLOAD_TIMEOUT="500ms")
    with s3_world(tmp_path / "w", gated, endpoint, settings) as place:
        process = _behind_the_gate(place)
        proxy.fail(Match("PUT"), DENIED, times=ALWAYS)
        place.let_go()
        assert process.wait(PATIENCE) == 105, place.said_by_runner()
        for job_id, state in place.job_states().items():
            assert state["status"] == "completed", job_id
            assert "s3:PutObject" in state["result_error"], state
        check_evidence(place)
        check_projection(place)
        check_nothing_left(place)


# -- whose the store is ----------------------------------------------------------------------


def claimed(proof: Path) -> dict[str, Any]:
    """When it is let go one job ends that has results."""
    late = job("late", "until_let_go; make late.txt", result_paths=made("late", proof))
    return queue("claimed", [job("early", "true"), late], proof, max_parallel_jobs=2)


def test_taken_over_in_mid_run(tmp_path: Path, endpoint: Endpoint, proxy: FaultProxy) -> None:
    """Two runs would write to one prefix, and each spoil what the other has stored."""
    with s3_world(tmp_path / "w", claimed, endpoint, through(proxy)) as place:
        process = place.start(*place.run_words())
        until("the other job's files are stored", lambda: _is_stored(place, "early"))
        until("so is the state", lambda: b'"logs_uploaded":true' in _packed(place))
        until("its last look is some time ago", lambda: _quiet_since(proxy) > LOOKS)
        state = json.loads(place.in_s3("queue-state.json"))
        other = {**state, "run_id": "another", "holder": "elsewhere", "epoch": state["epoch"] + 1}
        theirs = {
            "queue-state.json": json.dumps(other).encode(),
            "jobs/late/manifest.json": json.dumps({"schema_version": 1, "run_id": "another"}),
            "jobs/late/late.txt": b"theirs",
            "jobs/late/more.txt": b"theirs too",
        }
        client = endpoint.client()
        for name, content in theirs.items():
            client.put_object(Bucket=place.bucket, Key=place.key(name), Body=content)
        before = _contents(place)
        place.let_go()
        assert process.wait(PATIENCE) == 105, place.said_by_runner()
        assert _contents(place) == before
        late = place.job_states()["late"]
        assert late["status"] == "completed" and late["results_uploaded"] is False
        assert "taken over by run another" in late["result_error"], late
        assert "taken over by run another" in place.said_by_runner()
        check_projection(place)


def _quiet_since(proxy: FaultProxy) -> float:
    """Seconds since anything was asked."""
    return time.monotonic() - proxy.last_asked


def _is_stored(place: S3World, job_id: str) -> bool:
    return (place.stored_job(job_id) or {}).get("logs_uploaded") is True


def _packed(place: S3World) -> bytes:
    return place.in_s3("queue-state.json").replace(b" ", b"")


def _contents(place: S3World) -> dict[str, bytes]:
    """All that the bucket holds but parts of logs, which a running job may have had stored."""
    assert place.endpoint is not None
    keys = place.endpoint.keys(place.bucket)
    return {key: place.endpoint.read(place.bucket, key) for key in keys if ".parts/" not in key}
