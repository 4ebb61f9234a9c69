"""Every door for outside data, with a sample of what comes through it and what must hold then.

A door takes damaged bytes. It returns, or raises an error of ours; what it has let in must be fit
for all that is done with it next.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runner.control import ssm_codec
from runner.control.answers import checked
from runner.control.protocol import decode_answer, decode_request
from runner.core.machine_lifetime import Moment
from runner.core.resume_from_store import from_stored
from runner.core.state_file import parse_state
from runner.core.states import (
    JobState,
    JobStatus,
    Live,
    QueueState,
    QueueStatus,
    StopReason,
    job_from_record,
    queue_from_record,
    to_record,
)
from runner.errors import UsageError
from runner.host.machine_file import parse_machine
from runner.model.document import parse_document
from runner.model.records import decode
from runner.results.claim import mark_of
from runner.results.layout import Layout
from runner.results.lease import parse_lease
from runner.results.manifest import FileEntry, Manifest, parse_manifest
from runner.results.store import Versioned
from runner.service import request_fields
from runner.service.machine_view import describe_end
from runner.store.projection import job_view, queue_view
from runner.targets.ec2 import launch_record
from runner.targets.ec2.launch import local_launches
from runner.targets.ec2.observe.queue_standing import standing_of
from runner.targets.stored_status import Seen, job, page, parse_seen, summary

HOUR = "2026-01-22T14:05:30.125Z"
SHA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
DOCUMENT = parse_document(
    b'{"queue_id": "q", "queue_name": "n", "global_timeout": "1h", "on_failure": "stop", "jobs": ['
    b'{"job_id": "a", "command": "true", "timeout": "1m", "result_paths": ["out/**"]},'
    b'{"job_id": "b", "command": "true", "timeout": "1m", "retry": {"max_attempts": 3}}]}'
)


def to_json(value: Any) -> None:
    """It can be shown, sent and stored: strict JSON, and UTF-8."""
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Door:
    """``enter`` raises a RunnerError, or returns once all that follows has been tried."""

    name: str
    sample: Any
    enter: Callable[[bytes], None]


def _check_records(queue: QueueState, jobs: list[JobState]) -> None:
    """What the database would get: it reads back, and shows."""
    to_json(queue_view("q", "n", queue))
    assert queue_from_record(json.loads(json.dumps(to_record(queue))), "it") == queue
    for each in jobs:
        to_json(job_view("a", each))
        assert job_from_record(json.loads(json.dumps(to_record(each))), "it") == each
        assert each.attempt + 1 > 0 and (each.duration or 0.0) >= 0


def _state(data: bytes) -> None:
    state = parse_state(data, "it")
    queue, jobs = from_stored(DOCUMENT, state)
    _check_records(queue, list(jobs.values()))


def _seen(data: bytes) -> None:
    seen = Seen(parse_seen(data, "s3://bkt/q"), 1.0, 0.0)
    for shown in (summary(seen), page(seen, {"limit": 1}), page(seen, {})):
        to_json(shown)
    for each in seen.state["jobs"]:
        to_json(job(seen, each["job_id"]))
    assert seen.at is None or datetime.fromisoformat(seen.at)


def _standing(data: bytes) -> None:
    standing = standing_of(data)
    if standing is not None:
        assert standing.status in {each.value for each in QueueStatus}
        assert standing.jobs.keys() <= {each.value for each in JobStatus}
        to_json(standing.reason)


def _manifest(data: bytes) -> None:
    manifest = parse_manifest(data, "it")
    again = parse_manifest(manifest.to_bytes(), "it")
    assert again == manifest
    layout = Layout()
    for file in manifest.files:
        layout.stream_of(file.name)
        assert 0 <= file.size < 2**63 and file.mode >= 0


def _lease(data: bytes) -> None:
    held = parse_lease(Versioned(data, "v"))
    if held is not None:
        assert 0 <= held.valid_for <= 86_400 and 0 <= held.epoch <= 10**9
        to_json([held.run_id, held.who, held.renewed_at])


def _mark(data: bytes) -> None:
    mark = mark_of(Versioned(data, "v"))
    if mark is not None:
        assert 0 <= mark.epoch <= 10**9
        to_json([mark.run_id, mark.holder])


def _answer(request: str) -> Callable[[bytes], None]:
    def enter(data: bytes) -> None:
        answer = checked(request, decode_answer(data))
        ssm_codec.pack({name: value for name, value in answer.items() if name != "jobs"})
        for row in answer.get("jobs", []):
            assert row["status"] in {each.value for each in JobStatus}

    return enter


def _over_ssm(data: bytes) -> None:
    word = base64.b64encode(gzip.compress(data, 1)).decode()
    answer = ssm_codec.unpack(word)
    if answer.get("ok") is True:
        checked("status", answer)


def _request(data: bytes) -> None:
    request = decode_request(data)
    for name in request:
        for take in (
            request_fields.word,
            request_fields.words,
            request_fields.flag,
            request_fields.statuses,
        ):
            with suppress(UsageError):
                take(request, name)
        with suppress(UsageError):
            request_fields.number(request, name, 0)
        with suppress(UsageError):
            assert 0 <= request_fields.seconds(request, name, 0.0) < math.inf


def _machine(data: bytes) -> None:
    machine = parse_machine(data, "it")
    now = Moment("b", 1.0, 1_769_090_730.0)
    to_json(describe_end(machine, now))


def _launch(data: bytes) -> None:
    plain = decode(data, "it")
    record = launch_record.parse(plain)
    if record is not None:
        to_json(record.plain)
        with suppress(ValueError):
            launch = local_launches.parse_launch(plain)
            to_json(launch.record.plain)
            assert launch.asked is None or isinstance(launch.asked.request["UserData"], bytes)


def _job_record(data: bytes) -> None:
    _check_records(QueueState("r"), [job_from_record(decode(data, "it"), "it")])


def _queue_record(data: bytes) -> None:
    _check_records(queue_from_record(decode(data, "it"), "it"), [])


STATE = {
    "epoch": 1,
    "holder": "0123",
    "schema_version": 1,
    "queue_id": "q",
    "queue_name": "n",
    "run_id": "0011223344556677",
    "status": "running",
    "reason": "é",
    "started_at": HOUR,
    "updated_at": HOUR,
    "worked_seconds": 1.5,
    "jobs": [
        {
            "job_id": "a",
            "status": "completed",
            "attempt": 1,
            "started_at": HOUR,
            "completed_at": HOUR,
            "exit_code": 0,
            "duration_seconds": 1.25,
            "cpu_seconds": 0.5,
            "max_rss_bytes": 4096,
            "results_uploaded": True,
        },
        {
            "job_id": "b",
            "status": "pending",
            "attempt": 2,
            "interruptions": 1,
            "next_attempt_at": HOUR,
            "error_message": "command execution failed: exit status 1",
        },
    ],
}
MANIFEST = Manifest(
    run_id="0011223344556677",
    epoch=1,
    job_id="a",
    attempt=1,
    completed=True,
    files=(
        FileEntry("jobs/a/f", "f", 0, SHA, 1_769_090_730_125_000_000, 0o644, "/w/out/f", 1),
        FileEntry("jobs/a/stdout.log", "stdout.log", 0, SHA, 0, 0o644, "/l/stdout.log", 1),
    ),
    problems=("one",),
)
LEASE = {
    "run_id": "0011223344556677",
    "epoch": 1,
    "holder": "0123",
    "instance_id": "i-0123",
    "renewed_at": HOUR,
    "valid_for_seconds": 90.0,
    "released": False,
}
RECORD = JobState(
    status=JobStatus.RUNNING,
    attempt=2,
    counted=1,
    started_at=1_769_090_730.5,
    pid=77,
    slot=0,
    token="00112233-1",
    live=Live(
        "00112233-1", 0, 2, JobState(attempt=1, exit_code=3), 5.5, StopReason.TIMEOUT, kill_at=9.5
    ),
)
QUEUE = QueueState(
    "0011223344556677", QueueStatus.RUNNING, None, 1_769_090_730.5, worked=3.5, mono=77.5, epoch=2
)

ANSWER = {
    "v": 1,
    "ok": True,
    "queue": {
        "queue_id": "q",
        "status": "running",
        "started_at": HOUR,
        "worked_seconds": 1.5,
        "counts": {"pending": 1, "completed": 1},
        "jobs_total": 2,
    },
    "jobs": STATE["jobs"],
    "after": 2,
}
LOGS = {
    "v": 1,
    "ok": True,
    "job": "a",
    "attempt": 1,
    "running": False,
    "streams": {"stdout": {"data": "aGVsbG8=", "offset": 5, "size": 5}},
    "status": "completed",
}
PACKED = {
    **{name: value for name, value in ANSWER.items() if name != "jobs"},
    "jobs": {
        "rows": 2,
        "columns": {"job_id": ["a", "b"], "status": {"all": "pending"}, "attempt": {"all": 0}},
    },
}
MACHINE = {
    "version": 1,
    "plan": {"what": "stop", "why": "w", "boot_id": "b", "due": 9.0, "after": 5.0, "at": 1.7e9},
    "hold": {"at": 1.7e9, "boot_id": "b", "due": 3.0},
    "life": {
        "began": 1.7e9,
        "instance": "i-0123",
        "limit": 3600.0,
        "what": "terminate",
        "boot_id": "b",
        "before": 1.0,
    },
    "ending": {"what": "stop", "why": "w", "boot_id": "a", "since": 3.0},
}
LAUNCH = {
    "version": 1,
    "queue_id": "q",
    "store": "s3://bkt/queues/q",
    "region": "us-east-1",
    "instance_id": "i-0123",
    "launch": "20260122-140530-0123abcd",
    "launched_at": "2026-01-22T14:05:30Z",
    "expires": "2026-01-23T14:05:30Z",
    "launched": 1_769_090_730.5,
    "ends": 1_769_177_130.5,
    "digest": "0123",
    "open": True,
    "asked": {"number": 0, "at": 1_769_090_730.5, "request": {"ClientToken": "t", "UserData": ""}},
}
REQUEST = {
    "v": 1,
    "request": "status",
    "queue": "q",
    "after": 0,
    "limit": 10,
    "status": ["running"],
    "timeout": 1.5,
    "brief": True,
    "self": 1,
}

DOORS = (
    Door("stored state", STATE, _state),
    Door("state for looking", STATE, _seen),
    Door("head of a state", STATE, _standing),
    Door("claim", STATE, _mark),
    Door("manifest", json.loads(MANIFEST.to_bytes()), _manifest),
    Door("lease", LEASE, _lease),
    Door("job record", to_record(RECORD), _job_record),
    Door("queue record", to_record(QUEUE), _queue_record),
    Door("answer", ANSWER, _answer("status")),
    Door("answer with logs", LOGS, _answer("logs")),
    Door("answer over SSM", PACKED, _over_ssm),
    Door("request", REQUEST, _request),
    Door("machine", MACHINE, _machine),
    Door("launch", LAUNCH, _launch),
)
