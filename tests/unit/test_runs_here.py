"""What one machine says of a document that asks for more than it does."""

from __future__ import annotations

from typing import Any

import pytest
from test_document import raw

from runner.errors import DocumentError
from runner.host import processors
from runner.model.document import QueueSpec, parse_document
from runner.service.runs_here import check_runs_here, notes, refused


def queue(*jobs: dict[str, Any], **fields: Any) -> QueueSpec:
    return parse_document(raw([{"job_id": f"j{n}", **job} for n, job in enumerate(jobs)], **fields))


def test_a_plain_document_is_told_nothing() -> None:
    """Every run would begin with a word about what nobody asked for."""
    plain = queue({"shell": ["/bin/sh", "-c"]}, {}, max_parallel_jobs=3)
    assert refused(plain) == [] and notes(plain) == []


def test_images_are_refused_with_the_way_out() -> None:
    """A job that was written for an image would run without it, on whatever is there."""
    some = queue({}, {"image": "a"}, {"image": "b"}, {"mounts": ["/d"]})
    first, second = refused(some)
    assert first.startswith("jobs[1].image: containers are not run on one machine: `runner run --")
    assert first.endswith('(job "j1" and 1 more)')
    assert second.startswith("jobs[3].mounts: ")
    with pytest.raises(DocumentError, match=r"jobs\[1\]\.image"):
        check_runs_here(some)


def test_a_job_in_no_image_runs_here() -> None:
    """Only the jobs that have an image would be kept from running, and all are."""
    assert refused(queue({"image": ""}, image="a", mounts=["/d"]))[0].startswith("mounts: ")
    assert refused(queue({"image": ""}, image="a")) == []
    assert refused(queue({}, image="a"))[0].startswith("image: ")


def test_what_is_not_enforced_is_told_once() -> None:
    """Somebody would wait for a job to be packed, or for a share of AWS Batch."""
    (told,) = notes(queue({"resources": {"cpus": 4}}, {"resources": {"cpus": 2}}))
    assert "resources and pools" in told and told.endswith("max_parallel_jobs is 1")
    (told,) = notes(queue({}, max_parallel_jobs="fit"))
    assert f'"fit" means one job for each processor, {processors.usable_processors()} here' in told
    (told,) = notes(queue({}, max_parallel_jobs="fit"), here=False)
    assert told.endswith('"fit" means one job for each processor, there')
    assert notes(queue({}, {"batch": {"priority": 1}}, {"batch": {"share": "a"}})) == [
        '"batch" concerns AWS Batch only and has no effect here (job "j1" and 1 more)'
    ]


def test_a_quota_of_processors_is_seen(tmp_path: Any) -> None:
    """Sixteen jobs would share the two processors that a container may use."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/cpu.max").write_text("max 100000\n")
    (tmp_path / "a/cpu.max").write_text("250000 100000\n")
    (tmp_path / "own").write_text("1:cpu:/x\n0::/a/b\n")
    assert processors._quota(tmp_path / "own", tmp_path) == 2
    assert processors._quota(tmp_path / "none", tmp_path) > 1000
