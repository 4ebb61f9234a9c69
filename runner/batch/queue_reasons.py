"""What AWS Batch says of the jobs of a queue that have been submitted and do not run yet.

Owns how a Batch job is found for a job of a queue from outside its driver: by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from runner.aws.batch import Batch
from runner.batch.circumstances import explain
from runner.batch.diagnosis import Diagnosis
from runner.batch.job_detail import read_job
from runner.batch.names import job_name, job_prefix, start_of

LOOKED_AT = 10
"""Jobs of which all is looked at: each takes some calls, and most wait for the same."""

_WAITS = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING")


def reasons(
    batch: Batch,
    queues: Iterable[str],
    run_id: str,
    names: Collection[str],
    region: str | None,
    missing: Callable[[str], None],
) -> Mapping[str, tuple[str, Diagnosis]]:
    """The Batch job, and why it doesn't run yet, of these jobs of a run; of at most LOOKED_AT of
    them. ``missing`` hears of what may not be looked at. Raises AwsError."""
    submitted: dict[str, tuple[int, dict[str, Any]]] = {}
    for queue in queues:
        for summary in batch.named(queue, job_prefix(run_id)):
            start = start_of(run_id, str(summary.get("jobName", "")))
            own = str(summary["jobName"])[len(job_name(run_id, start, "")) :]
            # The newest start of a job is the one that counts.
            if start and start > submitted.get(own, (0, {}))[0]:
                submitted[own] = (start, summary)
    found: dict[str, tuple[str, Diagnosis]] = {}
    for name in names:
        start, summary = submitted.get(_as_named(run_id, name), (0, {}))
        if summary.get("status") not in _WAITS or len(found) >= LOOKED_AT:
            continue
        job_id = str(summary["jobId"])
        detail = batch.describe([job_id]).get(job_id)
        if detail is not None and detail.get("status") in _WAITS:
            found[name] = (job_id, explain(batch, read_job(detail), region, missing))
    return found


def _as_named(run_id: str, name: str) -> str:
    """The part of a Batch job's name that tells which job of the queue it is."""
    return job_name(run_id, 1, name)[len(job_name(run_id, 1, "")) :]
