"""Names of jobs and definitions in AWS Batch."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from runner.batch import names

RUN = "0123456789abcdef"
JOB_IDS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


@given(JOB_IDS, st.integers(1, 2**40))
def test_a_jobs_name_is_one_that_batch_takes_and_tells_its_start(job_id: str, start: int) -> None:
    """A submission would be refused, or a new driver would not know which start a job is."""
    name = names.job_name(RUN, start, job_id)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", name)
    assert name.startswith(names.job_prefix(RUN))
    assert names.start_of(RUN, name) == start


def test_names_of_other_runs_tell_no_start() -> None:
    """A driver would count on from a number that isn't its run's."""
    assert names.start_of(RUN, names.job_name("f" * 16, 5, "a")) == 0
    assert names.start_of(RUN, f"{names.job_prefix(RUN)}xyz-a") == 0
    assert names.start_of(RUN, "runner-01234567") == 0


def test_a_definition_is_named_by_its_content() -> None:
    """Each run would register its definitions anew, or use another's."""
    one = names.definition_name({"a": 1, "b": [2]})
    assert one == names.definition_name({"b": [2], "a": 1}) != names.definition_name({"a": 1})
    assert re.fullmatch(r"runner-[0-9a-f]{16}", one)
