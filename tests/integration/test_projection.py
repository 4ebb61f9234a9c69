"""``queue-state.json``: the guide's format, one moment, rendered by what has changed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.core.states import PENDING, JobState, JobStatus, QueueState, QueueStatus
from runner.errors import DiskFullError
from runner.model.elements import arrays_of
from runner.model.placement import ArraySpec
from runner.model.queue import JobSpec
from runner.store.projection import CHUNK, PART, Projection, job_view, write_projection
from runner.timestamps import rfc3339

QUEUE = QueueState("run", QueueStatus.RUNNING, started_at=1_769_090_730.0, updated_at=1.5)


def rendered(projection: Projection, jobs: list[JobState]) -> tuple[dict[str, object], int]:
    """The file's content, and in how many slices it was made."""
    steps = list(projection.render(QUEUE, jobs))
    assert all(step is None for step in steps[:-1])
    assert steps[-1] is not None
    return json.loads(b"".join(steps[-1])), len(steps) - 1


def test_it_is_the_guide_s_format() -> None:
    """Tools written for the guide's state file would not read ours."""
    done = JobState(
        status=JobStatus.COMPLETED,
        attempt=1,
        started_at=1_769_090_735.0,
        completed_at=1_769_091_310.0,
        duration=575.0004,
        exit_code=0,
        results_uploaded=False,
    )
    found, _ = rendered(Projection("q", "name", ["a", "b"]), [done, PENDING])
    assert found == {
        "schema_version": 1,
        "queue_id": "q",
        "queue_name": "name",
        "run_id": "run",
        "status": "running",
        "started_at": "2026-01-22T14:05:30Z",
        "updated_at": "1970-01-01T00:00:01.500Z",
        "jobs": [
            {
                "job_id": "a",
                "status": "completed",
                "attempt": 1,
                "started_at": "2026-01-22T14:05:35Z",
                "completed_at": "2026-01-22T14:15:10Z",
                "exit_code": 0,
                "duration_seconds": 575.0,
                "results_uploaded": False,
            },
            {"job_id": "b", "status": "pending", "attempt": 0},
        ],
    }


def test_only_what_changed_is_rendered_again() -> None:
    """A large queue's state would cost its whole size at every change."""
    count = 10 * CHUNK + 1
    projection = Projection("q", "n", [f"j{n}" for n in range(count)])
    jobs = [PENDING] * count
    assert rendered(projection, jobs)[1] == 11
    assert rendered(projection, jobs)[1] == 0
    jobs[3 * CHUNK] = replace(PENDING, status=JobStatus.SKIPPED, reason="ü\n")
    projection.touch(3 * CHUNK)
    found, slices = rendered(projection, jobs)
    assert slices == 1
    assert len(found["jobs"]) == count  # type: ignore[arg-type]
    assert found["jobs"][3 * CHUNK]["reason"] == "ü\n"  # type: ignore[index]


def test_times_say_what_they_mean() -> None:
    """A time would be off by a zone, or carry digits that nobody measured."""
    assert rfc3339(0.0) == "1970-01-01T00:00:00Z"
    assert rfc3339(1.0004999) == "1970-01-01T00:00:01Z"
    assert rfc3339(1.9999) == "1970-01-01T00:00:02Z"
    assert rfc3339(None) is None


def test_fields_that_say_nothing_are_left_out_and_zeros_are_not() -> None:
    """``exit_code: 0`` and ``attempt: 0`` say something; an empty reason doesn't."""
    assert job_view("a", PENDING) == {"job_id": "a", "status": "pending", "attempt": 0}
    ended = replace(PENDING, status=JobStatus.COMPLETED, attempt=2, exit_code=0, interruptions=1)
    assert job_view("a", ended)["exit_code"] == 0
    assert job_view("a", ended)["interruptions"] == 1


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """A full disk would leave half a state, or a temporary file at every try."""
    path = tmp_path / "queue-state.json"
    write_projection(path, [b"old"])

    class Broken(list[bytes]):
        def __iter__(self) -> object:  # type: ignore[override]
            yield b"half"
            raise OSError(28, os.strerror(28))

    with pytest.raises(DiskFullError, match="No space left"):
        write_projection(path, Broken())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["queue-state.json"]


def test_what_changes_in_the_midst_of_a_rendering_is_in_the_next() -> None:
    """The last state of a large queue would show a job as it stood a moment before its end."""
    count = 3 * CHUNK
    projection = Projection("q", "n", [f"j{n}" for n in range(count)])
    before = [PENDING] * count
    rendering = projection.render(QueueState("r"), before)
    assert next(rendering) is None
    last = count - 1
    projection.touch(last)
    *_, _ = rendering
    after = [*before[:last], JobState(JobStatus.COMPLETED, attempt=1)]
    *_, pieces = projection.render(QueueState("r"), after)
    assert pieces is not None
    assert json.loads(b"".join(pieces))["jobs"][last]["status"] == "completed"


def test_an_array_is_one_record_and_a_change_costs_a_part_of_it() -> None:
    """Ten thousand elements would be ten thousand lines, or each end cost a look at all."""
    size = 5 * PART
    spec = JobSpec("x", "true", 60.0, array=ArraySpec(size))
    (array,) = arrays_of([spec])
    names = [f"x[{n}]" for n in range(size)]
    projection = Projection("q", "n", names, [array])
    jobs = [PENDING] * size

    def told() -> tuple[int, Any]:
        *steps, pieces = projection.render(QueueState("r"), jobs)
        assert pieces is not None
        (view,) = json.loads(b"".join(pieces))["jobs"]
        return len(steps), view["array"]

    assert told()[1]["elements"] == [
        {"indices": f"0-{size - 1}", "status": "pending", "attempt": 0}
    ]
    jobs[7] = JobState(JobStatus.FAILED, attempt=1, exit_code=2)
    projection.touch(7)
    assert sum(part is None for part in projection._chunks[0].parts) == 0
    projection._chunks[0].begin()
    assert sum(part is None for part in projection._chunks[0].parts) == 1
    _, view = told()
    assert view["failed"] == "7" and view["counts"] == {"failed": 1, "pending": size - 1}
