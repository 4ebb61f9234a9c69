"""The program of the first boot against services as rude as real ones: fetching, giving up."""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from imds import Imds

from runner.bundle.bare import disks, telling
from runner.bundle.bare.aws import Aws, Metadata
from runner.bundle.bare.bucket import Bucket
from runner.bundle.bare.patience import PATIENCE, Again, Failed, Over, patiently
from runner.targets.ec2.boot.first_boot import boot, machine

BODY = b"the bundle " * 20_000
SHA256 = hashlib.sha256(BODY).hexdigest()


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode()


class Rude:
    """Answers with ``answers``, one for each request, then with BODY.

    An answer: a status, a body, and headers; with a ``cut`` only so many bytes of it.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, dict[str, str]]] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.rude = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        rude: Rude = self.server.rude  # type: ignore[attr-defined]
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        rude.asked.append((self.command, self.path, headers, sent))
        status, body, more = rude.answers.pop(0) if rude.answers else (200, BODY, {})
        cut = int(more.pop("cut", len(body)))
        if status == 0:
            self.connection.close()
            return
        told = {"Content-Length": str(len(body)), **more}
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        self.wfile.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body[:cut])

    do_PUT = do_POST = do_HEAD = do_GET  # noqa: N815

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def rude(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Rude]:
    made = Rude()
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
    monkeypatch.setattr(telling, "LOG", str(tmp_path / "log"))
    monkeypatch.setattr(telling, "PLACE", str(tmp_path))
    monkeypatch.setattr(telling, "VOLATILE", str(tmp_path / "volatile"))
    monkeypatch.setitem(PATIENCE, "denied", 0.3)
    yield made
    made.close()


@pytest.fixture
def imds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Imds]:
    made = Imds()
    made.data = {
        "iam/security-credentials/r": json.dumps(
            {"AccessKeyId": "AKID", "SecretAccessKey": "secret", "Token": "session"}
        ),
        "instance-id": "i-1",
        "instance-life-cycle": "spot",
        "placement/region": "eu-west-1",
    }
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", made.url)
    yield made
    made.close()


def bucket() -> Bucket:
    return Bucket(Aws(Metadata(), "eu-west-1"), "b")


def said(tmp_path: Path) -> str:
    return (tmp_path / "log").read_text()


TRANSIENT = {
    "5xx": (503, error("SlowDown"), {}),
    "reset": (0, b"", {}),
    "truncated": (200, BODY, {"cut": "1000"}),
    "garbled": (200, b"x" * len(BODY), {}),
    "not yet allowed": (403, error("AccessDenied"), {}),
    "expired keys": (400, error("ExpiredToken"), {}),
}


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=list(TRANSIENT))
def test_what_passes_is_tried_again(
    rude: Rude, imds: Imds, tmp_path: Path, answer: tuple[int, bytes, dict[str, str]]
) -> None:
    """One hiccup of the network while it boots, and the machine would be given up."""
    status, body, headers = answer
    rude.answers = [(status, body, dict(headers))]
    assert bucket().fetch("k", SHA256, str(tmp_path / "out")) == len(BODY)
    assert (tmp_path / "out").read_bytes() == BODY
    assert len(rude.asked) == 2 and "it is tried again" in said(tmp_path)


FINAL = {
    "404 NoSuchKey so it is": (404, error("NoSuchKey"), {}),
    "403 AccessDenied so it is": (403, error("AccessDenied"), {}),
    "isn't what was launched": (200, b"another bundle", {}),
}


@pytest.mark.parametrize("why", FINAL)
def test_what_does_not_pass_is_told(rude: Rude, imds: Imds, tmp_path: Path, why: str) -> None:
    """A machine would wait for what will never come, or install what nobody sent."""
    status, body, headers = FINAL[why]
    rude.answers = [(status, body, dict(headers)) for _ in range(20)]
    with pytest.raises(Failed, match=f"s3://b/k: .*{why}"):
        bucket().fetch("k", SHA256, str(tmp_path / "out"))


def test_credentials_that_come_late_are_waited_for(rude: Rude, imds: Imds, tmp_path: Path) -> None:
    """A role's keys are there some seconds after the machine: no reason to give it up."""
    keys = imds.data.pop("iam/security-credentials/r")
    timer = threading.Timer(0.4, lambda: imds.data.update({"iam/security-credentials/r": keys}))
    timer.start()
    aws = Aws(Metadata(), "eu-west-1")
    patiently("the role's credentials", aws.keys)
    timer.join()
    assert aws.keys()["AccessKeyId"] == "AKID" and "credentials" in said(tmp_path)


@pytest.mark.parametrize(
    "text", ["[]", '"x"', "7", "[" * 20_000, '{"AccessKeyId": 1, "SecretAccessKey": "s"}', "{}"]
)
def test_what_are_no_credentials_is_no_crash(rude: Rude, imds: Imds, text: str) -> None:
    """One odd answer of the metadata service would end the boot in a traceback."""
    keys = imds.data["iam/security-credentials/r"]
    imds.data["iam/security-credentials/r"] = text
    aws = Aws(Metadata(), "eu-west-1")
    with pytest.raises(Again, match="the role has no credentials yet"):
        aws.keys()
    imds.data["iam/security-credentials/r"] = keys
    assert aws.keys()["AccessKeyId"] == "AKID"


def test_a_wrong_clock_is_told_and_made_up_for(rude: Rude, imds: Imds, tmp_path: Path) -> None:
    """S3 refuses a machine whose clock is off, and the user would look for a missing permission."""
    theirs = time.time() + 3600
    date = {"Date": email.utils.formatdate(theirs, usegmt=True)}
    rude.answers = [(403, error("RequestTimeTooSkewed"), date)]
    bucket().fetch("k", SHA256, str(tmp_path / "out"))
    _, _, headers, _ = rude.asked[-1]
    stamp = time.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    signed = email.utils.mktime_tz((*stamp[:6], 0, 1, -1, 0))
    assert abs(signed - theirs) < 30
    assert "clock is 3600 s behind" in said(tmp_path) or "clock is 3599 s" in said(tmp_path)


def test_a_bucket_of_another_region_is_found(rude: Rude, imds: Imds, tmp_path: Path) -> None:
    """Launched from a laptop whose region isn't the bucket's, no machine would come up."""
    moved = {"x-amz-bucket-region": "ap-south-1", "Location": "http://127.0.0.1:1/"}
    rude.answers = [(301, error("PermanentRedirect"), moved)]
    bucket().fetch("k", SHA256, str(tmp_path / "out"))
    assert "/ap-south-1/s3/" in rude.asked[-1][2]["authorization"]


def test_the_signature_is_the_one_that_botocore_makes(rude: Rude, imds: Imds) -> None:
    """Every request would be refused; moto without its checks would never notice."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    bucket().store("a b/ü+~'.json", b"{}")
    method, path, headers, body = rude.asked[0]
    request = AWSRequest(method=method, url=rude.url + path, data=body)
    assert (body, headers["content-type"]) == (b"{}", "text/plain")
    request.headers["Content-Type"] = "text/plain"
    request.headers["X-Amz-Content-SHA256"] = headers["x-amz-content-sha256"]
    request.context["timestamp"] = headers["x-amz-date"]
    auth = S3SigV4Auth(Credentials("AKID", "secret", "session"), "s3", "eu-west-1")
    request.headers["X-Amz-Date"] = headers["x-amz-date"]
    request.headers["X-Amz-Security-Token"] = "session"
    canonical = auth.canonical_request(request)
    expected = auth.signature(auth.string_to_sign(request, canonical), request)
    assert headers["authorization"].endswith(f"Signature={expected}")


STATES = {
    "none yet": (404, error("NoSuchKey"), False),
    "in the midst of it": (200, b'{"queue_id": "q", "status": "interrupted"}', False),
    "another queue's": (200, b'{"queue_id": "p", "status": "completed"}', False),
    "unreadable": (200, b"[1", False),
    "over": (200, b'{"queue_id": "q", "status": "failed"}', True),
}


DOCUMENT = "runner/launches/l/queue.json"


def at(second: int) -> tuple[int, bytes, dict[str, str]]:
    """An object's head."""
    return 200, b"", {"Last-Modified": f"Thu, 22 Jan 2026 14:05:{second:02} GMT"}


@pytest.mark.parametrize(("status", "body", "over"), STATES.values(), ids=list(STATES))
def test_a_queue_that_has_ended_is_not_begun_again(
    rude: Rude, imds: Imds, tmp_path: Path, status: int, body: bytes, over: bool
) -> None:
    """A machine that EC2 launches anew would do all of it once more, or one would not begin."""
    rude.answers = [(status, body, {}), at(2), at(1)]
    told = {
        "queue_id": "q",
        "state_key": "queues/q/queue-state.json",
        "document": {"key": DOCUMENT},
    }
    with pytest.raises(Over, match="failed") if over else nullcontext():
        boot.see_that_there_is_work(told, bucket())
    state = "/b/queues/q/queue-state.json"
    heads = [("HEAD", state), ("HEAD", f"/b/{DOCUMENT}")] if over else []
    assert [(method, path) for method, path, _, _ in rude.asked] == [("GET", state), *heads]


@pytest.mark.parametrize(
    "heads", [[at(1), at(2)], [at(1), at(1)], [(200, b"", {}), at(1)], [(404, b"", {})]]
)
def test_an_end_from_before_the_launch_is_another_runs(
    rude: Rude, imds: Imds, tmp_path: Path, heads: list[tuple[int, bytes, dict[str, str]]]
) -> None:
    """A queue that is launched anew would be over before it begins: of its last run, or by
    whoever can write a word to the bucket."""
    rude.answers = [(200, b'{"queue_id": "q", "status": "completed"}', {}), *heads]
    told = {"queue_id": "q", "state_key": "s", "document": {"key": DOCUMENT}}
    boot.see_that_there_is_work(told, bucket())


def test_a_state_that_is_too_deep_is_no_state(rude: Rude, imds: Imds, tmp_path: Path) -> None:
    """The boot would end with a traceback, and the machine with it."""
    rude.answers = [(200, b'{"status":' + b"[" * 100_000, {})]
    told = {"queue_id": "q", "state_key": "s", "document": {"key": DOCUMENT}}
    boot.see_that_there_is_work(told, bucket())


def test_a_spot_request_is_given_back(rude: Rude, imds: Imds, tmp_path: Path) -> None:
    """EC2 would launch the next machine for it, which fails as this one did, and so on."""
    found = b"<x><spotInstanceRequestId>sir-7</spotInstanceRequestId></x>"
    rude.answers = [(200, found, {}), (500, b"", {}), (200, found, {}), (200, b"<ok/>", {})]
    assert boot.main(["end"]) == 0
    sent = [body.decode() for _, _, _, body in rude.asked]
    assert "Action=DescribeInstances" in sent[0] and "InstanceId.1=i-1" in sent[0]
    assert "Action=CancelSpotInstanceRequests" in sent[-1] and "=sir-7" in sent[-1]
    assert "/eu-west-1/ec2/aws4_request" in rude.asked[-1][2]["authorization"]
    imds.data["instance-life-cycle"] = "on-demand"
    asked = len(rude.asked)
    assert boot.main(["end"]) == 0 and len(rude.asked) == asked


def test_without_a_distribution_that_has_python_it_says_so(
    rude: Rude, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The log would show no reason."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine.os.path, "exists", lambda path: False)
    with pytest.raises(Failed, match=r"no Python >= 3\.11"):
        machine.need_python()


def test_a_command_that_fails_is_told_with_its_words(rude: Rude, tmp_path: Path) -> None:
    """The reason would be somewhere in a log on a machine that is gone."""
    with pytest.raises(Failed, match=r"failed \(3\): no room"):
        machine.run(["sh", "-c", "echo no room >&2; exit 3"], 10)
    with pytest.raises(Failed, match="took more than"):
        machine.run(["sleep", "60"], 0.2)


def test_each_kind_of_refusal_has_its_own_patience(
    rude: Rude, imds: Imds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a late network has cost would be taken from a new role: given up at its first 403."""
    monkeypatch.setitem(PATIENCE, "away", 1e9)
    rude.answers = [*[(503, error("SlowDown"), {})] * 3, (403, error("AccessDenied"), {})]
    # 1.75 s of the one kind are more than all of the other's.
    assert bucket().fetch("k", SHA256, str(tmp_path / "out")) == len(BODY)
    assert len(rude.asked) == 5


def test_a_kind_that_comes_and_goes_is_not_patient_for_ever(
    rude: Rude, imds: Imds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals in turn would each begin anew, and the machine cost until its end."""
    monkeypatch.setitem(PATIENCE, "away", 1e9)
    rude.answers = [(503, error("SlowDown"), {}), (403, error("AccessDenied"), {})] * 20
    with pytest.raises(Failed, match="403 AccessDenied"):
        bucket().fetch("k", SHA256, str(tmp_path / "out"))
    assert len(rude.asked) < 10


def test_packages_have_a_patience_of_their_own(
    rude: Rude, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that is away for a minute would be the end of the machine."""
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\nexit 100\n')
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(machine, "whole_python", lambda: False)
    monkeypatch.setattr(machine.os.path, "exists", lambda path: path == "/usr/bin/apt-get")
    monkeypatch.setitem(PATIENCE, "packages", 0.3)
    with pytest.raises(Failed, match=r"the list of packages: `apt-get .* update` failed \(100\)"):
        machine.need_python()
    assert len((tmp_path / "calls").read_text().splitlines()) > 1


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB. Where there can be none: skipped, but never in CI."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "t", str(place)]
    if os.geteuid() != 0 or subprocess.run(words).returncode != 0:
        assert os.environ.get("CI") != "true", "CI mounts"
        pytest.skip("this needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_makes_room(
    rude: Rude, imds: Imds, full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason would be lost: what has no room for a file has none for why, either."""
    monkeypatch.setattr(telling, "LOG", str(full_disk / "log"))
    monkeypatch.setattr(disks, "PLACES", [str(full_disk)])
    rude.answers = [(200, b"x" * 500_000, {})]
    with pytest.raises(Failed, match=r"No space left on device, after \d+ of 500000 bytes .*full"):
        bucket().fetch("k", SHA256, str(full_disk / "out"))
    assert not (full_disk / "out").exists()
    (full_disk / "fills").write_bytes(b"x" * os.statvfs(full_disk).f_bavail * 4096)
    telling.say("goes on")
    with pytest.raises(Failed, match=r"failed \(3\): no room \(the disk is full: .*0 of 0 MiB"):
        machine.run(["sh", "-c", "echo no room >&2; exit 3"], 10)
    assert b"FAILED: why" in telling.read_log("why")
