"""The records that a driver on AWS Batch and its jobs' containers share."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.batch import records
from runner.batch.records import (
    BatchClaim,
    BatchEnd,
    BatchStored,
    BatchSubmission,
    CommandUsage,
    EndKind,
    EntryRun,
    OutputsOf,
    StoredInput,
    StoredResult,
    Writer,
    runs_of,
)
from runner.core.attempts import token_of
from runner.errors import RecordError
from runner.results.layout import Layout, element

RUN = "0123456789abcdef"
SMALL = BatchSubmission(
    store="s3://bucket/queues/q",
    run_id=RUN,
    epoch=1,
    queue_id="q",
    job_id="train",
    runs=(EntryRun(attempt=1, start=1),),
    command="true",
    timeout=60.0,
    term_grace=30.0,
)
FULL = replace(
    SMALL,
    runs=(EntryRun(2, 31, 4, 7, 1_000.5), EntryRun(1, 38, 0)),
    env={"A": "é\n'\"", "EMPTY": ""},
    secret_env={"KEY": "ssm:/key"},
    shell=("/bin/sh", "-c"),
    working_directory="work/here",
    result_paths=(StoredResult("*.pt"), StoredResult("/data/**", True)),
    output_paths=(StoredResult("/tmp/x/*"),),
    checkpoint_paths=("ckpt/*",),
    input_paths=(StoredInput("s3://b/k/", "in/"),),
    inputs_in_timeout=True,
    restore=(OutputsOf("prepare", ("*.csv",), "/data", (0, 2)),),
    image="an/image:1",
    job_queue="gpu",
)
END = BatchEnd(
    Writer.CONTAINER,
    token_of(RUN, 31),
    EndKind.TIMED_OUT,
    2_000.0,
    code=0,
    message="m",
    started_at=1_990.0,
    duration=10.0,
    usage=CommandUsage(1.5, 2**31, 1),
)


@pytest.mark.parametrize("submission", [SMALL, FULL], ids=["small", "full"])
def test_a_submission_is_read_as_it_was_written(submission: BatchSubmission) -> None:
    """A container would run another command than its driver meant."""
    assert records.parse_submission(records.to_bytes(submission)) == submission


def test_what_is_stored_of_an_attempt_is_read_as_it_was_written() -> None:
    """A driver would take another end than the container's for the attempt's."""
    claim = BatchClaim(Writer.CONTAINER, token_of(RUN, 31), 1_999.0, "n", "id:4", 1)
    assert records.parse_claim(records.to_bytes(claim)) == claim
    assert records.parse_end(records.to_bytes(END)) == END
    stored = BatchStored(END.token, END, True, "e", True, ("a",), 2, 30, "c", "l", 1, 3, 0.5, True)
    assert records.parse_stored(records.to_bytes(stored)) == stored


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epoch": -1}, "epoch: must be 0 to"),
        ({"schema_version": 2}, "schema_version: must be 1 to 1"),
        ({"runs": [{"attempt": 1}]}, "runs[0].start: is required, but missing"),
        ({"job_id": "../x"}, "job_id"),
        ({"timeout": "1h"}, "timeout: must be a number"),
    ],
)
def test_a_submission_that_cannot_be_meant_is_refused_by_name(
    change: dict[str, object], told: str
) -> None:
    """A container would act on half of an intent, or die with a traceback."""
    value = {**json.loads(records.to_bytes(SMALL)), **change}
    with pytest.raises(RecordError, match=r"^submissions/t\.json: ") as caught:
        records.parse_submission(json.dumps(value).encode(), "submissions/t.json")
    assert told in str(caught.value)


def test_values_of_the_environment_are_in_no_repr() -> None:
    """A log or a traceback would show them."""
    assert "EMPTY" not in repr(FULL)


def test_an_array_of_any_size_is_one_run() -> None:
    """The intent of 10,000 elements would be read 10,000 times, with half a megabyte each."""
    whole = runs_of((index, 1, 5 + index, None) for index in range(10_000))
    assert whole == (EntryRun(1, 5, 0, 10_000),)
    assert replace(SMALL, runs=whole).entry(9_999).token == token_of(RUN, 5 + 9_999)


NUMBERED = st.lists(
    st.tuples(
        st.integers(0, 5), st.integers(1, 3), st.integers(1, 9), st.sampled_from([None, 1.0])
    ),
    min_size=1,
    max_size=30,
)


@given(NUMBERED)
def test_packing_entries_changes_none(numbered: list[tuple[int, int, int, float | None]]) -> None:
    """A child of an array would run another element's attempt."""
    packed = replace(SMALL, runs=runs_of(numbered))
    told = [(e.index, e.attempt, e.token, e.first_started_at) for e in packed.entries()]
    assert told == [(i, a, token_of(RUN, s), f) for i, a, s, f in numbered]
    assert [packed.entry(place) for place in range(packed.size)] == list(packed.entries())
    with pytest.raises(RecordError, match="entries, none"):
        packed.entry(packed.size)


def test_a_plain_job_has_no_index() -> None:
    """Its keys would be those of an array's element."""
    packed = replace(SMALL, runs=runs_of([(None, 3, 17, None)]))
    assert packed.entry().index is None
    assert element("a", None) == "a"
    assert Layout().job_prefix(element("a", 3)) == "jobs/a/3/"


def test_keys_of_records_are_told_from_those_of_logs() -> None:
    """An upload would remove a claim, or take one for a part of a log."""
    layout, token = Layout(), token_of(RUN, 1)
    for key in (
        layout.claim_key("a", 1, token),
        layout.end_key("a", 1, token),
        layout.stored_key("a", 1, token),
    ):
        assert layout.record_token("a", key) == token
        assert layout.log_part_of("a", key) is None
        assert layout.record_token("a/1", key) is None
    assert layout.record_token("a", layout.attempt_log_key("a", 1, "stdout")) is None
    assert layout.record_token("a", layout.log_part_key("a", 1, "stdout", 0)) is None
    assert layout.submission_of(layout.submission_key(token)) == token
    assert layout.submission_of("submissions/x/y.json") is None
