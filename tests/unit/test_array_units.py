"""Arrays counted out: names, what is filled in, who waits for whom, and what a state file tells."""

from __future__ import annotations

from typing import Any

import pytest
from core_driver import document, job
from hypothesis import given
from hypothesis import strategies as st
from test_core_array import array
from test_document import errors_of, raw

from runner.core.resume_from_store import from_stored
from runner.core.state_file import read_state
from runner.core.states import PENDING, JobState, JobStatus
from runner.errors import StateError
from runner.model import lint
from runner.model.document import InputSpec, ResultSpec, parse_document
from runner.model.elements import (
    element_name,
    format_indices,
    parse_indices,
    path_of,
    split_name,
)
from runner.model.units import in_units, unit_graph
from runner.store.array_view import file_view, part_of


def test_a_plain_document_is_its_own_units() -> None:
    """Every queue without arrays would be copied for nothing."""
    plain = document(job("a"), job("b", "a"))
    assert in_units(plain) is plain
    assert unit_graph(plain.jobs).arrays == ()


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True), st.integers(0, 9999))
def test_an_element_is_told_from_every_job(job_id: str, index: int) -> None:
    """An element's logs would be another job's, or its name mean a job."""
    name = element_name(job_id, index)
    assert split_name(name) == (job_id, index) and split_name(job_id) == (job_id, None)
    assert path_of(name) == f"{job_id}/{index}" and path_of(job_id) == job_id


@given(st.sets(st.integers(0, 300)))
def test_indices_read_back_as_they_were(indices: set[int]) -> None:
    """An element would be resumed as another one stood."""
    text = format_indices(sorted(indices))
    if indices:
        assert [each for part in parse_indices(text) for each in part] == sorted(indices)


@pytest.mark.parametrize("text", ["", "3-1", "2,1", "1,1", "0-3,2", "x", "1,", "-1", "1--2", "１"])
def test_indices_that_nobody_writes_are_refused(text: str) -> None:
    """A damaged state would be taken for one."""
    with pytest.raises(ValueError, match="is not"):
        parse_indices(text)


def test_the_index_is_filled_in_wherever_a_path_may_hold_it() -> None:
    """All elements would store, fetch or overwrite the same files."""
    made = array(
        "x",
        3,
        working_directory="w/{array_index}",
        result_paths=(ResultSpec("out.{array_index}", optional=True), ResultSpec("all")),
        checkpoint_paths=("saved.{array_index}",),
        output_paths=(ResultSpec("{array_index}/part"),),
        input_paths=(InputSpec("s3://b/{array_index}", "in/{job_id}.{array_index}"),),
    )
    unit = in_units(document(job("a"), made)).jobs[3]
    assert unit.job_id == "x[2]" and unit.array is None
    assert unit.working_directory == "w/2" and unit.checkpoint_paths == ("saved.2",)
    assert unit.result_paths == (ResultSpec("out.2", optional=True), ResultSpec("all"))
    assert unit.output_paths == (ResultSpec("2/part"),)
    assert unit.input_paths == (InputSpec("s3://b/2", "in/{job_id}.2"),)


def test_two_arrays_of_ten_thousand_have_few_edges() -> None:
    """One that waits for the other would have a hundred million."""
    size = 10_000
    graph = unit_graph(document(array("x", size), array("y", size, "x"), job("z", "y")).jobs)
    edges = sum(len(graph.dependencies[at]) for at in range(graph.units))
    assert edges == size + 1 and graph.units == 2 * size + 1
    node = graph.index["x"]
    assert graph.dependents[0] is graph.dependents[size - 1], "told once for all"
    assert graph.dependents[0] == (node,) and len(graph.dependents[node]) == size


@pytest.mark.parametrize(
    ("jobs", "error"),
    [
        ([{"job_id": "a", "input_paths": [{"s3": "s3://bkt/{array_index}", "path": "p"}]}],
         'jobs[0].input_paths[0].s3: "{array_index}" needs "array"'),
        ([{"job_id": "a"}, {"job_id": "a-stdout.log", "array": 2}],
         'jobs[1].job_id: is the name of a log of "a", too'),
    ],
)  # fmt: skip
def test_what_an_array_can_not_have_is_an_error(jobs: list[dict[str, Any]], error: str) -> None:
    """It would be found out when the first job starts."""
    assert any(error in each for each in errors_of(raw(jobs)))


def test_results_that_all_elements_share_are_a_warning() -> None:
    """A thousand elements would each store the files of all."""
    shared: dict[str, Any] = {
        "array": 2,
        "result_paths": ["out/*"],
        "checkpoint_paths": ["s.{array_index}"],
    }
    (told,) = lint.warnings(parse_document(raw([shared])))
    assert told.startswith('jobs[0].result_paths[0]: "out/*" is the same for all elements')
    assert not lint.warnings(
        parse_document(raw([{**shared, "working_directory": "{array_index}"}]))
    )


DONE = JobState(JobStatus.COMPLETED, attempt=1, exit_code=0, started_at=5.0, duration=2.0)
STATES = [
    DONE,
    PENDING,
    JobState(JobStatus.FAILED, attempt=3, exit_code=9, error_message="no", started_at=4.0),
    DONE,
    JobState(JobStatus.INTERRUPTED, attempt=2, interruptions=1, reason="gone", started_at=6.0),
    DONE,
]


def state_of(view: dict[str, Any]) -> dict[str, Any]:
    return {"queue_id": "q", "run_id": "r", "status": "running", "jobs": [view]}


def test_each_element_is_resumed_from_the_arrays_record() -> None:
    """Another machine would run completed elements again, or forget a failure."""
    queue = document(array("x", 6, retry=5))
    view = file_view("x", 6, [part_of(0, STATES[:4]), part_of(4, STATES[4:])])
    alike = {each["indices"]: each["status"] for each in view["array"]["elements"]}
    assert alike == {"0,3,5": "completed", "1": "pending", "2": "failed", "4": "interrupted"}
    assert (view["status"], view["attempt"]) == ("interrupted", 3)
    assert view["array"]["completed_seconds"] == 6.0
    _, jobs = from_stored(queue, read_state(state_of(view), "it"))
    assert [jobs[at].status for at in range(6)] == [state.status for state in STATES]
    assert [jobs[at].attempt for at in range(6)] == [1, 0, 3, 1, 2, 1]
    assert jobs[2].exit_code == 9 and jobs[4].interruptions == 1 and jobs[4].counted == 1


@pytest.mark.parametrize(
    ("elements", "error"),
    [
        ([("0-4", "completed")], "5 is not told of"),
        ([("0-6", "completed")], "it has none of index 6"),
        ([("0-5", "completed"), ("3", "failed")], "told of twice"),
        ([("5-0", "completed")], "is not in ascending order"),
        ([("all", "completed")], "is not a list of indices"),
    ],
)
def test_an_arrays_record_tells_of_each_element_once(
    elements: list[tuple[str, str]], error: str
) -> None:
    """A state that somebody has edited would be believed for some of the elements."""
    alike = [{"indices": at, "status": status, "attempt": 1} for at, status in elements]
    view = {"job_id": "x", "status": "running", "attempt": 1}
    told = state_of({**view, "array": {"size": 6, "elements": alike}})
    with pytest.raises(StateError, match=error):
        read_state(told, "it")
