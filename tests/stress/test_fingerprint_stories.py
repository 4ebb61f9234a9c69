"""Random edits of inputs, documents and results, beside a model of what has to run."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fingerprints import CHANGES, MEANWHILE, MEMORY, NO_CHANGES, Job, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scale import SCALE

EDITS = st.sampled_from(sorted(CHANGES) + sorted(NO_CHANGES) + ["back"])
STEPS = st.lists(
    st.tuples(
        st.lists(EDITS, max_size=3),
        st.sampled_from(["run"] * 3 + ["fails", *MEANWHILE]),
    ),
    min_size=1,
    max_size=6,
)


def check_story(steps: list[tuple[list[str], str]]) -> None:
    """Go through it beside a model: what the last completed run read and made, if that is known."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        job = Job(Path(folder))
        write(job, "in/a", "one")
        write(job, "in/deep/b", "two")
        write(job, "named", "three")
        known: tuple[object, ...] | None = None
        for edits, how in steps:
            for edit in edits:
                apply(job, edit)
            before = state(job)
            ran = job.run(
                lambda how=how: apply(job, how) if how in MEANWHILE else None, fails=how == "fails"
            )
            assert ran is (before != known), (edits, how, job.look().why)
            if ran and how == "run":
                known = state(job)
            elif ran and how in MEANWHILE:
                # Also where it has only been written anew: nobody knows what it held in between.
                known = None if state(job)[1] != before[1] or job.run() else state(job)
                known = state(job) if state(job)[1] == before[1] else known
        job.cache.close()


def apply(job: Job, edit: str) -> None:
    try:
        if edit == "back":
            write(job, "in/a", "one")
        else:
            {**CHANGES, **NO_CHANGES}[edit](job)
    except (OSError, KeyError):
        pass  # what it would change is gone already


def state(job: Job) -> tuple[object, ...]:
    made = {path.name: path.read_text() for path in (job.work / "out").iterdir()}
    return dict(job.parts), job.read(), made


@settings(
    max_examples=max(20, int(400 * SCALE)), deadline=None, suppress_health_check=list(HealthCheck)
)
@given(STEPS)
def test_random_stories(steps: list[tuple[list[str], str]]) -> None:
    """Some order of edits would leave a job out that has to run, or run one that needn't."""
    check_story(steps)
