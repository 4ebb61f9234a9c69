"""Uploads that fail half-way: what is stored stays stored, and what is refused is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_endpoint import Endpoint, env_for
from s3_faults import DENIED, SLOW_DOWN, Answer, FaultProxy, Match

from runner.results.checkpoint import JobCheckpoint, save_checkpoint
from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.manifest import Manifest, parse_manifest
from runner.results.s3 import calls
from runner.results.s3.store import S3Store
from runner.results.store import ResultStore
from runner.results.upload import upload_record
from runner.results.upload.job_upload import JobUpload, UploadOutcome, upload_job

BACKOFF = "botocore.retries.standard.ExponentialBackoff.delay_amount"
ALWAYS = 1_000_000
TOO_LONG = Answer(400, "KeyTooLongError")


@pytest.fixture
def proxy(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    proxy = FaultProxy(endpoint.port)
    for name, value in env_for(proxy.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(BACKOFF, lambda *_: 0.0)
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.0)
    yield proxy
    proxy.close()


@pytest.fixture
def bucket(endpoint: Endpoint, proxy: FaultProxy) -> str:
    return endpoint.bucket()


def spec(top: Path, **changes: object) -> JobUpload:
    """A job that has left some files and its logs."""
    (top / "work").mkdir(exist_ok=True)
    for stream in ("stdout", "stderr"):
        (top / stream).write_text(stream)
    given: dict[str, object] = {
        "job_id": "j", "run_id": "run-1", "epoch": 1, "attempt": 1, "completed": True,
        "patterns": ("**",), "working_directory": str(top / "work"),
        "stdout": top / "stdout", "stderr": top / "stderr", "record": top / "record" / "j.jsonl",
        **changes,
    }  # fmt: skip
    return JobUpload(**given)  # type: ignore[arg-type]


def upload(bucket: str, job: JobUpload) -> UploadOutcome:
    """As another process would."""
    store = S3Store(bucket, "q")
    try:
        return upload_job(store, Layout(), job)
    finally:
        store.close()


def manifest(store: ResultStore) -> Manifest:
    data = store.get_bytes(Layout().manifest_key("j"))
    assert data is not None
    return parse_manifest(data)


@pytest.mark.parametrize("noted_after", [0.0, 5.0])
def test_what_is_stored_is_not_sent_again(
    tmp_path: Path,
    proxy: FaultProxy,
    bucket: str,
    noted_after: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With four of ten requests refused, 400 files would never get there."""
    monkeypatch.setattr(upload_record, "WRITE_AFTER", noted_after)
    job = spec(tmp_path)
    for number in range(30):
        (tmp_path / "work" / f"f{number}").write_text(f"{number}")
    rules = [
        proxy.fail(Match("PUT", key=f".*/f{number}"), SLOW_DOWN, times=ALWAYS)
        for number in range(0, 30, 7)
    ]
    first = upload(bucket, job)
    assert not first.ok and "SlowDown" in first.problems[0] and "more files" in first.problems[0]
    assert job.record is not None and job.record.exists()
    job.record.write_bytes(job.record.read_bytes() + b'{"run_id": "cut')
    (tmp_path / "work/f1").write_text("changed since")
    for rule in rules:
        rule.left = 0
    began = len(proxy.requests)
    outcome = upload(bucket, job)
    assert (outcome.ok, outcome.problems, outcome.files) == (True, (), 32)
    sent = Counter(r.key.rpartition("/")[2] for r in proxy.requests[began:] if r.method == "PUT")
    assert sent == dict.fromkeys(["f0", "f1", "f7", "f14", "f21", "f28", "manifest.json"], 1)
    assert not job.record.exists()
    store = S3Store(bucket, "q")
    assert store.get_bytes("jobs/j/f1") == b"changed since"
    store.close()


def test_a_checkpoint_that_is_tried_again_goes_on(
    tmp_path: Path, proxy: FaultProxy, bucket: str
) -> None:
    """Of the two minutes before a spot machine goes, each try would begin with the first file."""
    (tmp_path / "work").mkdir()
    for number in range(20):
        (tmp_path / "work" / f"f{number}").write_text(f"{number}")
    saved = JobCheckpoint(
        "j", "run-1", 1, ("**",), str(tmp_path / "work"), epoch=1, record=tmp_path / "r" / "c.jsonl"
    )
    rule = proxy.fail(Match("PUT", key=".*/f7"), SLOW_DOWN, times=ALWAYS)
    store = S3Store(bucket, "q")
    assert "SlowDown" in str(save_checkpoint(store, Layout(), saved).problem)
    rule.left = 0
    began = len(proxy.requests)
    assert save_checkpoint(store, Layout(), saved).files == 20
    sent = [r.key.rpartition("/")[2] for r in proxy.requests[began:] if r.method == "PUT"]
    assert sent == ["f7", "manifest.json"]
    store.close()


def test_what_is_noted_counts_only_where_it_is_stored(
    tmp_path: Path, proxy: FaultProxy, endpoint: Endpoint, bucket: str
) -> None:
    """Another bucket, or one that was emptied, would be believed to hold the files."""
    job = spec(tmp_path)
    for number in range(12):
        (tmp_path / "work" / f"f{number}").write_text(f"{number}")
    rule = proxy.fail(Match("PUT", key=".*/f3"), SLOW_DOWN, times=ALWAYS)
    assert not upload(bucket, job).ok
    rule.left = 0
    endpoint.client().put_object(Bucket=bucket, Key="q/jobs/j/f5", Body=b"X")
    endpoint.client().delete_object(Bucket=bucket, Key="q/jobs/j/f6")
    for where in (bucket, endpoint.bucket()):
        assert upload(where, job).files == 14
        for number in range(12):
            assert endpoint.read(where, f"q/jobs/j/f{number}") == f"{number}".encode()


@pytest.mark.parametrize("fault", [TOO_LONG, DENIED])
def test_a_refused_file_is_left_out_and_told(
    tmp_path: Path, proxy: FaultProxy, bucket: str, fault: Answer
) -> None:
    """For one name that S3 doesn't take, nothing of the job could be fetched."""
    job = spec(tmp_path)
    for name in ("bad", "good"):
        (tmp_path / "work" / name).write_text(name)
    proxy.fail(Match("PUT", key=".*/bad"), fault, times=ALWAYS)
    outcome = upload(bucket, job)
    assert outcome.ok
    (told,) = outcome.missing
    assert told.startswith(f"'{tmp_path}/work/bad' is refused: ") and told.endswith(": left out")
    store = S3Store(bucket, "q")
    assert {file.name for file in manifest(store).files} == {"good", "stdout.log", "stderr.log"}
    store.close()


def test_a_role_that_may_store_nothing_is_tried_again(
    tmp_path: Path, proxy: FaultProxy, bucket: str
) -> None:
    """A permission that comes a minute late would cost all results."""
    job = spec(tmp_path)
    (tmp_path / "work/a").write_text("a")
    rule = proxy.fail(Match("PUT"), DENIED, times=ALWAYS)
    outcome = upload(bucket, job)
    assert not outcome.ok and "s3:PutObject" in outcome.problems[0]
    rule.left = 0
    assert upload(bucket, job).files == 3


def test_a_folder_leaves_out_what_its_file_system_refuses(tmp_path: Path) -> None:
    """A name that a mounted disk can't have would keep a job's other results from counting."""
    deep = tmp_path / "store" / "/".join(["d" * 200] * 18)
    store = FolderStore(deep)
    job = spec(tmp_path)
    long = "/".join(["e" * 200] * 3)
    (tmp_path / "work" / long).mkdir(parents=True)
    (tmp_path / "work" / long / "bad").write_text("bad")
    (tmp_path / "work" / "good").write_text("good")
    outcome = upload_job(store, Layout(), job)
    assert outcome.ok and "File name too long" in outcome.missing[0]
    assert store.get_bytes("jobs/j/good") == b"good"


def test_copies_that_can_not_be_read_are_told(tmp_path: Path) -> None:
    """A damaged file on the disk would end the upload without a word, and the queue wait for it."""
    spool, store = FolderStore(tmp_path / "spool"), FolderStore(tmp_path / "store")
    (tmp_path / "work").mkdir()
    (tmp_path / "work/a").write_text("a")
    job = spec(tmp_path)
    assert upload_job(spool, Layout(), job.for_copies()).ok
    spool.put_bytes(Layout().manifest_key("j"), b"[]")
    outcome = upload_job(store, Layout(), spec(tmp_path, spool=spool))
    assert outcome.ok and "can't be used" in outcome.problems[0]
    assert store.get_bytes("jobs/j/a") == b"a"


def test_keys_are_never_longer_than_s3_takes(
    tmp_path: Path, proxy: FaultProxy, endpoint: Endpoint
) -> None:
    """The longest prefix, job id and name that are accepted would add up to too much."""
    bucket, prefix = endpoint.bucket(), "p" * 200 + "/" + "ä" * 155 + "x"
    assert len(prefix.encode()) == 512
    store, name = S3Store(bucket, prefix), "j" * 128
    longest = Layout().longest_name(name, store.key_bytes)
    job = spec(tmp_path, job_id=name, longest_name=longest)
    folder = tmp_path / "work" / ("d" * 200) / ("e" * 200) / ("f" * 180)
    folder.mkdir(parents=True)
    (folder / "x").write_text("hi")
    (tmp_path / "work/short").write_text("short")
    assert upload_job(store, Layout(), job).ok
    keys = endpoint.keys(bucket)
    assert len(keys) == 5 and max(len(key.encode()) for key in keys) <= 1024
    data = store.get_bytes(Layout().manifest_key(name))
    assert data is not None
    sources = {os.path.basename(file.source) for file in parse_manifest(data).files}
    assert sources == {"x", "short", "stdout", "stderr"}
    store.close()
