"""The power goes and takes results with it: they come back from the store, or are made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_machine import Machine
from kill_proof import check_evidence, check_nothing_left, check_projection, check_results
from kill_queues import job, queue
from kill_s3 import S3World, s3_world
from kill_timing import until
from namespaces import needs_namespaces
from s3_endpoint import Endpoint
from s3_faults import FaultProxy

WAITS = {"RUNNER_UPLOAD_WAIT": "100ms", "RUNNER_PROJECTION_INTERVAL": "100ms"}


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    needs_namespaces()


@pytest.fixture
def proxy(endpoint: Endpoint) -> Iterator[FaultProxy]:
    proxy = FaultProxy(endpoint.port)
    yield proxy
    proxy.close()


def volatile(proof: Path) -> dict[str, Any]:
    """The first job's results are in a folder that no boot keeps; the second needs them."""
    make = (
        '[ "$JOB_ATTEMPT" = 1 ] || until_let_go;'
        ' mkdir -p "$PROOF/ram/sub"; echo one > "$PROOF/ram/a"; echo two > "$PROOF/ram/sub/b";'
        ' chmod 750 "$PROOF/ram/a"; touch -d 2020-01-02T03:04:05.678Z "$PROOF/ram/a"'
    )
    needs = 'cat "$PROOF/ram/a" "$PROOF/ram/sub/b" || end 5; until_let_go'
    jobs = [
        job("makes", make, result_paths=[str(proof / "ram" / "**" / "*")]),
        job("needs", needs, "makes"),
    ]
    return queue("volatile", jobs, proof)


def _cut_and_lose(place: S3World, machine: Machine) -> None:
    """The power goes, and what was in memory with it."""
    machine.cut_power()
    until("everything is gone", lambda: not place.leftovers())
    shutil.rmtree(place.proof / "ram")
    place.let_go()


def _starts(place: S3World) -> list[str]:
    return [line.job_id for line in place.evidence() if line.what == "start"]


def _check_restored(place: S3World) -> None:
    """The first job ran once; the second has seen what it made, as it was made."""
    check_evidence(place, shims_died=True)
    assert _starts(place) == ["makes", "needs", "needs"]
    found = (place.proof / "ram" / "a").stat()
    assert (found.st_mode & 0o777, found.st_mtime) == (0o750, 1577934245.678)
    log = (place.logs / "queues" / "volatile" / "jobs" / "needs-stdout.log").read_text()
    assert log == "output of needs\none\ntwo\n"
    _check_end(place)


def _check_end(place: S3World) -> None:
    check_projection(place)
    place.copy_bucket()
    check_results(place)
    check_nothing_left(place)


def test_restored_from_s3(tmp_path: Path, endpoint: Endpoint) -> None:
    """After a reboot a job would find nothing of what the job before it made in /tmp."""
    with s3_world(tmp_path / "w", volatile, endpoint, WAITS) as place:
        machine = Machine(place, 1000)
        until("it is stored", lambda: _uploaded(place))
        until("the other runs", lambda: place.said("needs", "start"))
        _cut_and_lose(place, machine)
        assert Machine(place, 30).wait() == 0, place.said_by_runner()
        _check_restored(place)


def test_restored_from_copies(tmp_path: Path, endpoint: Endpoint, proxy: FaultProxy) -> None:
    """What S3 could not be given before the reboot would be lost with it."""
    settings = {**WAITS, "AWS_ENDPOINT_URL": proxy.url}
    with s3_world(tmp_path / "w", volatile, endpoint, settings) as place:
        machine = Machine(place, 1000)
        until("taken up", place.is_taken_up)
        with proxy.closed_door():
            until("the other runs", lambda: place.said("needs", "start"))
            assert not _uploaded(place)
            _cut_and_lose(place, machine)
            machine = Machine(place, 30)
            until("it runs again", lambda: place.said("needs", "end-0"))
        assert machine.wait() == 0, place.said_by_runner()
        assert place.in_s3("jobs/makes/sub/b") == b"two\n"
        _check_restored(place)


@pytest.mark.parametrize("lost", ["jobs/makes/sub/b", "jobs/makes/"])
def test_made_again(tmp_path: Path, endpoint: Endpoint, lost: str) -> None:
    """A job would run without what it needs when that is gone for good."""
    with s3_world(tmp_path / "w", volatile, endpoint, WAITS) as place:
        machine = Machine(place, 1000)
        until("it is stored", lambda: _uploaded(place))
        until("the other runs", lambda: place.said("needs", "start"))
        for key in endpoint.keys(place.bucket, place.key(lost)):
            endpoint.client().delete_object(Bucket=place.bucket, Key=key)
        _cut_and_lose(place, machine)
        (place.proof / "go").unlink()
        machine = Machine(place, 30)
        until("it runs again", lambda: _starts(place) == ["makes", "needs", "makes"])
        place.let_go()
        assert machine.wait() == 0, place.said_by_runner()
        assert _starts(place) == ["makes", "needs", "makes", "needs"]
        assert not place.said("makes", "beside") and not place.said("makes", "twice")
        assert "makes outputs lost why=" in place.said_by_runner()
        assert place.in_s3("jobs/makes/sub/b") == b"two\n"
        _check_end(place)


def _uploaded(place: S3World) -> bool:
    return (place.stored_job("makes") or {}).get("results_uploaded") is True
