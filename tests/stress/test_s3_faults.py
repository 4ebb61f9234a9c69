"""The S3 store behind a proxy that makes faults: survived, or told as what they are."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_endpoint import Endpoint, env_for
from s3_faults import (
    ABORT,
    COMPLETE,
    CREATE,
    DELETE,
    DENIED,
    EXPIRED,
    GET,
    INTERNAL,
    LIST,
    LIST_UPLOADS,
    NOT_ALLOWED,
    NOT_IMPLEMENTED,
    PART,
    PUT,
    SLOW_DOWN,
    WAIT,
    Answer,
    Canned,
    Fault,
    FaultProxy,
    Flip,
    Garbage,
    Match,
    Nothing,
    ResetAnswer,
    ResetRequest,
    Stall,
    Truncate,
    WrongETag,
)

from runner.aws import clients
from runner.errors import UsageError
from runner.results.s3 import calls, multipart_upload
from runner.results.s3.store import S3Store
from runner.results.store import ChangedError, Entry, StoreError
from runner.results.upload.source_file import SourceFile, WithdrawnError

pytestmark = pytest.mark.share

SMALL_PART = 5 << 20
"""The least that S3 takes as a part that isn't the last."""

LARGE = SMALL_PART + 100_000
"""Two parts."""

ALWAYS = 1_000

BACKOFF = "botocore.retries.standard.ExponentialBackoff.delay_amount"


@pytest.fixture
def proxy(endpoint: Endpoint) -> Iterator[FaultProxy]:
    proxy = FaultProxy(endpoint.port)
    yield proxy
    proxy.close()


@pytest.fixture
def bucket(endpoint: Endpoint, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in env_for(proxy.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(multipart_upload, "PART", SMALL_PART)
    monkeypatch.setattr(BACKOFF, lambda *_: 0.0)
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.0)
    return endpoint.bucket()


@pytest.fixture
def store(bucket: str) -> Iterator[S3Store]:
    store = S3Store(bucket, "q")
    yield store
    store.close()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return _file(tmp_path / "small", 100_000)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return _file(tmp_path / "large", LARGE)


def _file(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def _source(path: Path, withdrawn: threading.Event | None = None) -> SourceFile:
    return SourceFile(os.path.realpath(path), withdrawn=withdrawn)


def _fetch(store: S3Store, key: str, target: Path) -> bytes:
    with target.open("w+b") as file:
        assert store.get_file(key, file.fileno())
    return target.read_bytes()


def _round(store: S3Store, small: Path, large: Path) -> None:
    """Every call once; what comes back is what was stored, and nothing else is there."""
    target = small.parent / "back"
    for path in (small, large):
        stored = store.put_file(path.name, _source(path))
        data = path.read_bytes()
        assert (stored.size, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert _fetch(store, path.name, target) == data
    store.put_bytes("bytes", b"some bytes")
    assert store.get_bytes("bytes") == b"some bytes"
    version = store.swap_bytes("swapped", b"1", None)
    store.swap_bytes("swapped", b"2", version)
    found = store.get_versioned("swapped")
    assert found is not None and found.data == b"2"
    assert {entry.key: entry.size for entry in store.list("")} == {
        "small": 100_000,
        "large": LARGE,
        "bytes": 10,
        "swapped": 1,
    }
    store.discard_unfinished("")
    for key in ("small", "large", "bytes", "swapped"):
        store.delete(key)
    assert list(store.list("")) == []


@pytest.mark.parametrize(
    ("matching", "fault"),
    [
        *((each, INTERNAL) for each in (PUT, LIST, LIST_UPLOADS, CREATE, PART, COMPLETE, DELETE)),
        *((each, SLOW_DOWN) for each in (GET, PART)),
        *((each, ResetRequest(after=50_000)) for each in (PUT, PART)),
        *((each, ResetRequest()) for each in (GET, LIST, DELETE)),
        *((each, ResetAnswer()) for each in (PUT, PART, CREATE, LIST, DELETE)),
        (Match("GET", "q/small"), Truncate()),
        (Match("GET", "q/large"), ResetAnswer()),
        (LIST, Truncate()),
    ],
)
def test_a_fault_that_passes_is_survived(
    store: S3Store,
    proxy: FaultProxy,
    small: Path,
    large: Path,
    matching: Match,
    fault: Fault,
) -> None:
    """A result would be refused, or be stored half, for a second's trouble of the network."""
    rule = proxy.fail(matching, fault, times=2 if isinstance(fault, Answer) else 1)
    _round(store, small, large)
    assert rule.left == 0


def test_a_refused_connection_is_tried_again(
    store: S3Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that restarts would fail the upload of that moment."""
    store.put_bytes("a", b"1")
    refused: list[float] = []

    def reopened(*_: object) -> float:
        if not refused:
            proxy.open_door()
        refused.append(0.0)
        return 0.0

    monkeypatch.setattr(BACKOFF, reopened)
    proxy.close_door()
    store.put_bytes("a", b"2")
    assert refused
    assert store.get_bytes("a") == b"2"


CALLS: dict[str, Callable[[S3Store, Path, Path], object]] = {
    "put_file": lambda store, small, _: store.put_file("f", _source(small)),
    "put_file large": lambda store, _, large: store.put_file("f", _source(large)),
    "put_bytes": lambda store, *_: store.put_bytes("f", b"x"),
    "get_bytes": lambda store, *_: store.get_bytes("there"),
    "get_file": lambda store, small, _: _fetch(store, "there", small.parent / "back"),
    "swap_bytes": lambda store, *_: store.swap_bytes("f", b"x", None),
    "swap_bytes again": lambda store, *_: store.swap_bytes("f", b"x", '"1"'),
    "list": lambda store, *_: list(store.list("")),
    "delete": lambda store, *_: store.delete("there"),
    "discard": lambda store, *_: store.discard_unfinished(""),
    "prepare": lambda store, *_: store.prepare(),
}


@pytest.mark.parametrize(
    "fault",
    [INTERNAL, SLOW_DOWN, ResetRequest(), ResetAnswer(), Truncate(), Garbage(), None],
    ids=lambda fault: getattr(fault, "code", type(fault).__name__),
)
def test_a_fault_that_stays_is_a_store_error(
    store: S3Store, proxy: FaultProxy, small: Path, large: Path, fault: Fault | None
) -> None:
    """The engine would get an exception that it doesn't expect, or believe that all is well."""
    store.put_bytes("there", b"1234")
    if fault:
        proxy.fail(Match(), fault, times=ALWAYS)
    else:
        proxy.close_door()
    believed = set()
    for name, call in CALLS.items():
        try:
            call(store, small, large)
        except StoreError:
            pass
        else:
            believed.add(name)
    if isinstance(fault, Truncate):
        # An answer without a body can't be cut.
        assert believed <= {"put_file", "put_bytes", "swap_bytes", "swap_bytes again", "delete"}
    else:
        assert believed == set()


@pytest.mark.parametrize("fault", [Flip(), WrongETag(), ResetAnswer(), Truncate()])
def test_wrong_bytes_are_never_taken_for_a_state(
    store: S3Store, proxy: FaultProxy, fault: Fault
) -> None:
    """A state with a flipped or a missing byte would be gone on with."""
    version = store.swap_bytes("state", b"state" * 1_000, None)
    proxy.fail(GET, fault)
    try:
        found = store.get_versioned("state")
    except StoreError:
        pass
    else:
        assert found is not None and found.data == b"state" * 1_000
        assert found.version != version
        with pytest.raises(ChangedError):
            store.swap_bytes("state", b"new", found.version)
    assert store.get_bytes("state") == b"state" * 1_000


def test_a_flipped_byte_of_a_file_shows_in_its_sha256(
    store: S3Store, proxy: FaultProxy, small: Path, tmp_path: Path
) -> None:
    """Whoever fetches a result compares the manifest's sha256, which must be of the true bytes."""
    stored = store.put_file("f", _source(small))
    rule = proxy.fail(GET, Flip())
    data = _fetch(store, "f", tmp_path / "back")
    assert rule.done and len(data) == stored.size
    assert hashlib.sha256(data).hexdigest() != stored.sha256


def test_a_part_whose_answer_was_wrong_is_looked_at(
    store: S3Store, proxy: FaultProxy, endpoint: Endpoint, bucket: str, large: Path
) -> None:
    """An object would be made of other parts than ours, or all of them be sent again."""
    proxy.fail(PART, WrongETag(), times=ALWAYS)
    store.put_file("f", _source(large))
    assert endpoint.read(bucket, "q/f") == large.read_bytes()
    assert (len(proxy.seen(PART)), len(proxy.seen(COMPLETE))) == (2, 2)


# -- bodies that break off ---------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "times"), [(ResetAnswer(), 3), (Truncate(), 7), (SLOW_DOWN, 7)])
def test_a_body_that_breaks_off_is_gone_on_with(
    store: S3Store,
    proxy: FaultProxy,
    tmp_path: Path,
    fault: Fault,
    times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a bad line a large file would come to no end, or each of its parts come many times."""
    monkeypatch.setattr(multipart_upload, "PART", 1 << 20)
    data = os.urandom(4 << 20)
    store.put_bytes("f", data)
    rule = proxy.fail(GET, fault, times=times)
    assert _fetch(store, "f", tmp_path / "back") == data
    assert rule.left == 0
    if isinstance(fault, Truncate):
        asked = [request.headers["range"] for request in proxy.seen(GET)]
        assert len(set(asked)) == len(asked), "nothing is asked for twice"


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_what_is_known_to_be_small_is_asked_for_as_a_whole(
    store: S3Store, proxy: FaultProxy, tmp_path: Path, size: int
) -> None:
    """Some stores answer a range of an empty object with a byte that isn't there."""
    store.put_bytes("f", bytes(size))
    with (tmp_path / "back").open("w+b") as file:
        assert store.get_file("f", file.fileno(), size)
    assert (tmp_path / "back").read_bytes() == bytes(size)
    (request,) = proxy.seen(GET)
    assert "range" not in request.headers


# -- conditional writes ----------------------------------------------------------------------


def test_a_swap_whose_answer_was_lost_is_no_conflict(store: S3Store, proxy: FaultProxy) -> None:
    """A machine would think that another has taken over, and give up its queue."""
    for fault in (ResetAnswer(), INTERNAL):
        proxy.fail(PUT, fault)
    first = store.swap_bytes("state", b"1", None)
    proxy.fail(PUT, ResetAnswer())
    second = store.swap_bytes("state", b"2", first)
    found = store.get_versioned("state")
    assert found is not None and (found.data, found.version) == (b"2", second)


def test_a_swap_that_failed_but_was_done_can_be_repeated(
    store: S3Store, proxy: FaultProxy, bucket: str
) -> None:
    """After an outage a machine would take its own last state for another machine's."""
    first = store.swap_bytes("state", b"1", None)
    for data in (b"2", b"3"):
        proxy.fail(PUT, ResetAnswer(), times=clients.ATTEMPTS)
        with pytest.raises(StoreError):
            store.swap_bytes("state", data, first)
    second = store.swap_bytes("state", b"4", first)
    with pytest.raises(ChangedError):
        store.swap_bytes("state", b"5", first)
    proxy.fail(PUT, ResetAnswer(), times=clients.ATTEMPTS)
    with pytest.raises(StoreError):
        store.swap_bytes("state", b"6", second)
    other = S3Store(bucket, "q")
    found = other.get_versioned("state")
    assert found is not None and found.data == b"6"
    other.swap_bytes("state", b"theirs", found.version)
    other.close()
    with pytest.raises(ChangedError):
        store.swap_bytes("state", b"7", second)
    assert store.get_bytes("state") == b"theirs"


@pytest.mark.parametrize(
    "fault", [Answer(409, "ConditionalRequestConflict"), Answer(404, "NoSuchBucket")]
)
def test_only_another_version_is_a_change(store: S3Store, proxy: FaultProxy, fault: Fault) -> None:
    """A machine would give up its queue although nobody else has written."""
    first = store.swap_bytes("state", b"1", None)
    proxy.fail(PUT, fault)
    with pytest.raises(StoreError) as caught:
        store.swap_bytes("state", b"2", first)
    assert not isinstance(caught.value, ChangedError)
    store.swap_bytes("state", b"2", first)


# -- credentials and permissions -------------------------------------------------------------


@pytest.mark.parametrize("matching", [PUT, GET, LIST, LIST_UPLOADS, CREATE, PART, COMPLETE, DELETE])
def test_expired_keys_are_read_again(
    store: S3Store,
    proxy: FaultProxy,
    small: Path,
    large: Path,
    matching: Match,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A queue of two days would lose its results when the first night's keys end."""

    def renew() -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")

    rule = proxy.fail(matching, EXPIRED, before=renew)
    _round(store, small, large)
    assert rule.done
    assert "Credential=renewed/" in proxy.seen(matching)[-1].headers["authorization"]


def test_keys_that_expire_in_mid_download_are_read_again(
    store: S3Store, proxy: FaultProxy, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fetch of a large file would fail when keys end, or mix what came before and after."""
    monkeypatch.setattr(multipart_upload, "PART", 1 << 20)
    store.put_bytes("f", large.read_bytes())
    rule = proxy.fail(GET, EXPIRED, skip=2)
    assert _fetch(store, "f", tmp_path / "back") == large.read_bytes()
    assert rule.done


def test_keys_that_stay_expired_are_told(store: S3Store, proxy: FaultProxy) -> None:
    """An upload would go round for ever, or nobody be told what to renew."""
    proxy.fail(Match(), EXPIRED, times=ALWAYS)
    with pytest.raises(StoreError, match="ExpiredToken"):
        store.put_bytes("f", b"")
    with pytest.raises(UsageError, match="ExpiredToken"):
        store.prepare()


PROBES = [
    (PUT, "s3:PutObject"),
    (LIST, "s3:ListBucket"),
    (GET, "s3:GetObject"),
    (LIST_UPLOADS, "s3:ListBucketMultipartUploads"),
    (CREATE, "s3:PutObject"),
    (ABORT, "s3:AbortMultipartUpload"),
    (DELETE, "s3:DeleteObject"),
]


@pytest.mark.parametrize(("matching", "permission"), PROBES)
def test_a_missing_permission_is_named_before_any_job_runs(
    store: S3Store,
    proxy: FaultProxy,
    endpoint: Endpoint,
    bucket: str,
    matching: Match,
    permission: str,
) -> None:
    """After hours of computing nothing could be stored, and nobody would know what is missing."""
    proxy.fail(matching, DENIED, times=ALWAYS)
    with pytest.raises(UsageError, match=f"it needs the permission {permission}$"):
        store.prepare()
    assert len(endpoint.keys(bucket)) == (matching is DELETE)


def test_of_several_missing_permissions_the_first_is_named(
    store: S3Store, proxy: FaultProxy
) -> None:
    """With keys that may only read, a person would be sent after s3:DeleteObject first."""
    proxy.fail(Match(), DENIED, times=ALWAYS)
    with pytest.raises(UsageError, match=r"it needs the permission s3:PutObject$"):
        store.prepare()


@pytest.mark.parametrize("fault", [NOT_ALLOWED, NOT_IMPLEMENTED])
@pytest.mark.parametrize("matching", [LIST, LIST_UPLOADS, CREATE, ABORT, DELETE])
def test_what_a_store_does_not_have_is_noted(
    store: S3Store, proxy: FaultProxy, fault: Fault, matching: Match
) -> None:
    """Compatible stores that do what most queues need would be refused."""
    proxy.fail(matching, fault, times=ALWAYS)
    (note,) = store.prepare()
    assert "the store doesn't know" in note
    store.discard_unfinished("")
    store.put_bytes("jobs/j/x", b"")
    assert list(store.list("jobs/")) == ([] if matching is LIST else [Entry("jobs/j/x", 0)])


@pytest.mark.parametrize("matching", [PUT, GET])
def test_a_server_that_is_no_object_store_is_refused(
    store: S3Store, proxy: FaultProxy, matching: Match
) -> None:
    """A web server's address given for S3's would be found out when the first result is lost."""
    proxy.fail(matching, NOT_ALLOWED, times=ALWAYS)
    with pytest.raises(UsageError, match="the store doesn't know"):
        store.prepare()


def test_an_endpoint_that_is_no_url_is_the_users_to_change(
    monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    """A mistyped variable would end in a traceback."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "no url")
    with pytest.raises(UsageError, match="no url"):
        S3Store(bucket).prepare()


# -- uploads in parts ------------------------------------------------------------------------


@pytest.mark.parametrize("again", ["the same process", "the next process"])
@pytest.mark.parametrize("checksums", [True, False])
def test_what_was_sent_before_a_cut_is_not_sent_again(
    store: S3Store,
    proxy: FaultProxy,
    endpoint: Endpoint,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    again: str,
    checksums: bool,
) -> None:
    """A model of 100 GB on a line that is cut once an hour would never get there."""
    monkeypatch.setattr(clients.S3Client, "compatible_only", not checksums)
    path = _file(tmp_path / "f", 4 * SMALL_PART + 1)
    rule = proxy.fail(PART, SLOW_DOWN, skip=3, times=ALWAYS)
    with pytest.raises(StoreError, match="SlowDown"):
        store.put_file("f", _source(path))
    rule.left = 0
    assert (endpoint.keys(bucket), endpoint.open_uploads(bucket)) == ({}, ["q/f"])
    begun = len(proxy.seen(PART))
    other = store if again == "the same process" else S3Store(bucket, "q")
    with path.open("r+b") as file:
        file.write(b"changed in its first part")
    stored = other.put_file("f", _source(path))
    data = path.read_bytes()
    assert endpoint.read(bucket, "q/f") == data
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert len(proxy.seen(PART)) - begun == 3, "the first anew, and the two that were missing"
    assert len(proxy.seen(CREATE)) == 1
    other.close()


def test_of_several_that_are_open_the_fullest_is_gone_on_with(
    store: S3Store, endpoint: Endpoint, bucket: str, proxy: FaultProxy, large: Path
) -> None:
    """Parts of the others would be paid for, or the wrong one be gone on with."""
    client, data = endpoint.client(), large.read_bytes()[:SMALL_PART]
    for body in (None, data, None):
        made = client.create_multipart_upload(Bucket=bucket, Key="q/f")["UploadId"]
        if body is not None:
            which = {"Bucket": bucket, "Key": "q/f", "UploadId": made}
            client.upload_part(**which, PartNumber=1, Body=body)
    store.put_file("f", _source(large))
    assert endpoint.read(bucket, "q/f") == large.read_bytes()
    assert endpoint.open_uploads(bucket) == []
    assert len(proxy.seen(PART)) == 1


@pytest.mark.parametrize("fault", [DENIED, NOT_IMPLEMENTED, Answer(404, "NoSuchUpload")])
def test_what_can_not_be_looked_into_is_begun_anew(
    store: S3Store, endpoint: Endpoint, bucket: str, proxy: FaultProxy, large: Path, fault: Answer
) -> None:
    """A role from before it was allowed to list parts could store no large file any more."""
    endpoint.client().create_multipart_upload(Bucket=bucket, Key="q/f")
    proxy.fail(Match("GET", query=("uploadId",)), fault, times=ALWAYS)
    store.put_file("f", _source(large))
    assert endpoint.read(bucket, "q/f") == large.read_bytes()
    assert endpoint.open_uploads(bucket) == []


@pytest.mark.parametrize("times", [1, clients.ATTEMPTS, 3 * clients.ATTEMPTS])
def test_an_end_nobody_heard_of_is_found(
    store: S3Store, proxy: FaultProxy, endpoint: Endpoint, bucket: str, large: Path, times: int
) -> None:
    """A file of a terabyte would be sent once more for one lost answer."""
    proxy.fail(COMPLETE, ResetAnswer(), times=times)
    store.put_file("f", _source(large))
    assert endpoint.read(bucket, "q/f") == large.read_bytes()
    assert len(proxy.seen(PART)) == 2
    store.discard_unfinished("")
    assert endpoint.open_uploads(bucket) == []


@pytest.mark.parametrize("fault", [EXPIRED, Answer(409, "OperationAborted"), WrongETag(), INTERNAL])
def test_a_fault_of_the_look_for_it_does_not_send_it_again(
    store: S3Store, proxy: FaultProxy, endpoint: Endpoint, bucket: str, large: Path, fault: Fault
) -> None:
    """A second fault would be taken for the proof that the file isn't there."""
    proxy.fail(COMPLETE, ResetAnswer())
    proxy.fail(COMPLETE, Answer(404, "NoSuchUpload"))
    rule = proxy.fail(Match("GET", "q/f"), fault, skip=1)
    store.put_file("f", _source(large))
    assert endpoint.read(bucket, "q/f") == large.read_bytes()
    assert (len(proxy.seen(PART)), len(proxy.seen(CREATE)), rule.done) == (2, 1, 1)


def test_what_was_put_together_unheard_is_found_by_the_next_process(
    store: S3Store, proxy: FaultProxy, endpoint: Endpoint, bucket: str, large: Path
) -> None:
    """A terabyte would be sent again because the machine went away in the very last moment."""
    store.put_file("f", _source(large))
    other = S3Store(bucket, "q")
    stored = other.put_file("f", _source(large))
    assert stored.sha256 == hashlib.sha256(large.read_bytes()).hexdigest()
    assert len(proxy.seen(PART)) == 2
    with large.open("r+b") as file:
        file.seek(LARGE - 1)
        file.write(b"x")
    other.put_file("f", _source(large))
    assert len(proxy.seen(PART)) == 4
    assert endpoint.read(bucket, "q/f") == large.read_bytes()
    other.close()


def test_all_that_is_open_ends_with_the_upload(
    store: S3Store, proxy: FaultProxy, endpoint: Endpoint, bucket: str, large: Path
) -> None:
    """Parts that nobody knows of (a creation whose answer was lost) would be paid for for ever."""
    proxy.fail(CREATE, ResetAnswer())
    store.put_file("jobs/a/f", _source(large))
    assert endpoint.open_uploads(bucket) == ["q/jobs/a/f"]
    endpoint.client().create_multipart_upload(Bucket=bucket, Key="q/jobs/b/f")
    store.discard_unfinished("jobs/a/")
    assert endpoint.open_uploads(bucket) == ["q/jobs/b/f"]


def test_what_could_not_be_aborted_is_aborted_later(
    store: S3Store, proxy: FaultProxy, endpoint: Endpoint, bucket: str, large: Path
) -> None:
    """An outage would leave parts that are paid for until the queue is started again."""
    for key in ("a", "b"):
        proxy.fail(PART, DENIED, times=1)
        with pytest.raises(StoreError, match="s3:PutObject"):
            store.put_file(key, _source(large))
    assert sorted(endpoint.open_uploads(bucket)) == ["q/a", "q/b"]
    proxy.fail(ABORT, INTERNAL, times=clients.ATTEMPTS)
    with pytest.raises(StoreError, match="AbortMultipartUpload"):
        store.discard_unfinished("")
    assert len(endpoint.open_uploads(bucket)) == 1
    store.discard_unfinished("")
    assert endpoint.open_uploads(bucket) == []


def test_open_uploads_have_more_than_one_page(
    store: S3Store, proxy: FaultProxy, endpoint: Endpoint, bucket: str
) -> None:
    """Of 1,001 killed uploads the last would be paid for for ever; moto itself has no pages."""
    first, _ = (
        endpoint.client().create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        for key in ("q/a", "q/b")
    )
    page = f"<Upload><Key>q/a</Key><UploadId>{first}</UploadId></Upload><IsTruncated>true"
    more = "<NextKeyMarker>q/a</NextKeyMarker><NextUploadIdMarker>n</NextUploadIdMarker>"
    proxy.fail(LIST_UPLOADS, Canned(f"<Result>{page}</IsTruncated>{more}</Result>"))
    store.discard_unfinished("")
    assert endpoint.open_uploads(bucket) == []
    query = proxy.seen(LIST_UPLOADS)[1].query
    assert (query["key-marker"], query["upload-id-marker"]) == ("q/a", "n")


def test_a_failed_upload_ends_after_its_last_part(
    store: S3Store, proxy: FaultProxy, large: Path
) -> None:
    """A part that arrives after an abort stays, says S3, and is paid for."""
    failed = threading.Event()
    proxy.fail(PART, Stall())
    proxy.fail(PART, DENIED)

    def put() -> None:
        try:
            store.put_file("f", _source(large))
        finally:
            failed.set()

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(put)
        proxy.wait_stalled()
        assert not failed.wait(0.3)
        proxy.release()
        with pytest.raises(StoreError, match="s3:PutObject"):
            work.result(WAIT)


def test_an_upload_that_runs_is_not_taken_for_a_dead_one(
    store: S3Store, proxy: FaultProxy, large: Path
) -> None:
    """Of two jobs that end at once, one would abort the other's upload."""
    proxy.fail(LIST_UPLOADS, Stall())
    creating = threading.Event()
    proxy.fail(CREATE, Nothing(), before=creating.set)

    def upload() -> int:
        store.discard_unfinished("jobs/b/")
        return store.put_file("jobs/b/f", _source(large)).size

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.discard_unfinished, "jobs/a/")
        proxy.wait_stalled()
        second = pool.submit(upload)
        assert not creating.wait(0.3)
        proxy.release()
        first.result(WAIT)
        assert second.result(WAIT) == LARGE


def test_a_withdrawn_source_makes_no_object(
    proxy: FaultProxy,
    endpoint: Endpoint,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bytes of the next attempt would be stored as the last one's."""
    monkeypatch.setattr(multipart_upload, "IN_FLIGHT", SMALL_PART)
    withdrawn = threading.Event()
    proxy.fail(PART, ResetRequest(), before=withdrawn.set)
    store = S3Store(bucket, "q")
    path = _file(tmp_path / "f", 3 * SMALL_PART)
    with pytest.raises(WithdrawnError):
        store.put_file("f", _source(path, withdrawn))
    with pytest.raises(WithdrawnError):
        store.put_file("small", _source(_file(tmp_path / "small", 1), withdrawn))
    assert len(proxy.seen(PART)) <= 3
    assert endpoint.keys(bucket) == {}
    store.put_file("f", _source(path))
    assert (list(endpoint.keys(bucket)), endpoint.open_uploads(bucket)) == (["q/f"], [])
    store.close()


def test_a_store_that_is_closed_says_so(
    proxy: FaultProxy,
    endpoint: Endpoint,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of the daemon would be a traceback of an upload."""
    monkeypatch.setattr(multipart_upload, "IN_FLIGHT", SMALL_PART)
    proxy.fail(PART, Stall())
    store = S3Store(bucket, "q")
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(store.put_file, "f", _source(_file(tmp_path / "f", LARGE)))
        proxy.wait_stalled()
        store.close()
        proxy.release()
        with pytest.raises(StoreError, match="the store was closed"):
            put.result(WAIT)
    assert endpoint.keys(bucket) == {}


@pytest.mark.parametrize("times", [1, ALWAYS])
def test_a_large_file_that_changes_is_read_again(
    store: S3Store, proxy: FaultProxy, endpoint: Endpoint, bucket: str, large: Path, times: int
) -> None:
    """A mixture of two versions would be stored as if it were a result."""
    changes = iter(range(1, ALWAYS))

    def change() -> None:
        number = next(changes)
        with large.open("r+b") as file:
            file.write(f"changed {number}".encode())
        os.utime(large, ns=(0, number))

    rule = proxy.fail(COMPLETE, Nothing(), times=times, before=change)
    stored = store.put_file("f", _source(large))
    data = endpoint.read(bucket, "q/f")
    assert hashlib.sha256(data).hexdigest() == stored.sha256
    assert data.startswith(b"changed")
    assert (stored.changed, rule.done) == ((False, 1) if times == 1 else (True, 3))
    assert endpoint.open_uploads(bucket) == []


def test_real_s3_is_told_the_checksums_of_parts(
    store: S3Store, proxy: FaultProxy, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 refuses parts whose kind of checksum wasn't told, and a list of parts without theirs."""
    monkeypatch.setattr(clients.S3Client, "compatible_only", False)
    store.put_file("f", _source(large))
    (created,) = proxy.seen(CREATE)
    assert created.headers["x-amz-checksum-algorithm"] == "CRC32"
    (completed,) = proxy.seen(COMPLETE)
    parts = proxy.seen(PART)
    assert len(parts) == 2
    for part in parts:
        crc = part.headers["x-amz-checksum-crc32"]
        assert f"<ChecksumCRC32>{crc}</ChecksumCRC32>".encode() in completed.body
    store.put_bytes("b", b"")
    assert proxy.seen(PUT)[-1].headers["x-amz-checksum-crc32"] == "AAAAAA=="
    assert _fetch(store, "f", large.with_name("back")) == large.read_bytes()


def test_a_compatible_store_has_every_body_in_its_signature(
    store: S3Store, proxy: FaultProxy, large: Path, small: Path
) -> None:
    """A store that may not know S3's checksums would take what a bad line made of the bytes."""
    store.put_file("f", _source(large))
    store.put_file("g", _source(small))
    sent = [*proxy.seen(PART), *proxy.seen(PUT)]
    assert len(sent) == 3
    data = large.read_bytes()
    bodies = [data[: multipart_upload.PART], data[multipart_upload.PART :], small.read_bytes()]
    wanted = {hashlib.sha256(body).hexdigest() for body in bodies}
    assert {request.headers["x-amz-content-sha256"] for request in sent} == wanted
    for request in sent:
        assert "x-amz-content-sha256" in request.headers["authorization"]


# -- time and memory -------------------------------------------------------------------------


def test_a_stalled_request_is_given_up_and_tried_again(
    bucket: str, proxy: FaultProxy, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that a router forgot would hold an upload for ever."""
    monkeypatch.setattr(clients, "S3_READ_TIMEOUT", 0.2)
    store = S3Store(bucket, "q")
    proxy.fail(PUT, Stall(served=True))
    store.put_file("f", _source(small))
    assert len(proxy.seen(PUT)) == 2
    proxy.fail(PUT, Stall(served=True), times=ALWAYS)
    with pytest.raises(StoreError, match="Read timeout"):
        store.put_file("f", _source(small))
    assert len(proxy.seen(PUT)) == 2 + clients.ATTEMPTS
    store.close()


_UPLOAD = """
import sys
from pathlib import Path
from runner.aws.clients import S3Client
from runner.results.s3.store import S3Store
from runner.results.upload.source_file import SourceFile
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

if sys.argv[2] == "aws":
    S3Client.compatible_only = False
store = S3Store("b", "q")
store.put_bytes("warm", b"x")
before = peak()
stored = store.put_file("f", SourceFile(sys.argv[1]))
print(stored.size, peak() - before)
store.close()
"""
"""VmHWM and not ru_maxrss, which a process has from whoever started it."""


@pytest.mark.parametrize("checksums", ["aws", "compatible"])
def test_a_large_file_needs_little_memory(
    proxy: FaultProxy, tmp_path: Path, checksums: str
) -> None:
    """A checkpoint of 40 GB would take the memory of the machine that trains."""
    path = tmp_path / "f"
    with path.open("wb") as file:
        file.truncate(300_000_000)
    proxy.fail(PUT, Canned(), times=ALWAYS)
    in_flight = multipart_upload.IN_FLIGHT // multipart_upload.PART
    together = threading.Barrier(in_flight, timeout=WAIT)
    proxy.fail(PART, Canned(), times=in_flight, before=together.wait)  # as many as may be at once
    proxy.fail(PART, Canned(), times=ALWAYS)
    proxy.fail(CREATE, Canned("<Result><UploadId>u</UploadId></Result>"))
    proxy.fail(LIST_UPLOADS, Canned("<Result/>"))
    done = "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
    proxy.fail(COMPLETE, Canned(done))
    told = subprocess.run(
        [sys.executable, "-c", _UPLOAD, os.path.realpath(path), checksums],
        env={**os.environ, **env_for(proxy.url)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    size, growth = map(int, told.stdout.split())
    assert size == sum(part.size for part in proxy.seen(PART)) == 300_000_000
    assert growth < 90_000, f"{growth} KiB more than before"
