"""Whether the coordinator of a queue lives: what Batch says of its job, else its lease.

Owns the words for it, and what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.aws.batch import Batch
from runner.aws.errors import AwsError
from runner.results.layout import Layout
from runner.results.lease import Held, parse_lease
from runner.results.store import Versioned
from runner.results.stores import parse_s3
from runner.targets.batch.launch_record import BatchLaunch
from runner.targets.ec2.bucket import LaunchBucket

WAITING = frozenset({"SUBMITTED", "PENDING", "RUNNABLE", "STARTING"})
ENDED = frozenset({"SUCCEEDED", "FAILED"})

Job = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CoordinatorState:
    """``standing``: what ``status`` tells of an unfinished queue: its ``worker``, or what it is
    ``queued`` for; empty where nothing drives it. ``told``: why it isn't driven, and what to do.
    ``known``: whether there is, or was, a coordinator at all.
    """

    standing: Mapping[str, str] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    known: bool = True

    @property
    def lives(self) -> bool:
        """Whether it answers requests, as far as is known."""
        return "worker" in self.standing

    def source(self, *, ended: bool) -> dict[str, Any]:
        """What a status says besides of where it comes from."""
        if ended or not self.told:
            return {}
        return {"why": self.told[0], "next": list(self.told[1:])}


def look_at(launch: BatchLaunch, word: str, *, ended: bool) -> CoordinatorState:
    """How the coordinator is. Blocks; Batch is not asked about a queue that has ended.

    ``word``: by which the queue is found from here. Raises AwsError where S3 doesn't answer; where
    Batch doesn't, the lease has to do.
    """
    if ended:
        return CoordinatorState()
    held, fresh = _lease(launch)
    # A later coordinator may have been started by hand: the lease names it.
    job_id = held.instance_id if held is not None and fresh and held.instance_id else launch.job
    trouble: AwsError | None = None
    job: Job | None = None
    if job_id is not None:
        try:
            job = Batch(launch.region).describe([job_id]).get(job_id)
        except AwsError as error:
            trouble = error
    return judge(launch, word, job_id, job, trouble, fresh=fresh)


def judge(
    launch: BatchLaunch,
    word: str,
    job_id: str | None,
    job: Job | None,
    trouble: AwsError | None,
    *,
    fresh: bool,
) -> CoordinatorState:
    """What the job and the lease come to. Pure. ``fresh``: the lease is held and valid."""
    name = f"coordinator {job_id}" if job_id else "a coordinator"
    status = str(job.get("status", "")) if job is not None else ""
    if status == "RUNNING":
        return CoordinatorState({"worker": f"{name} (AWS Batch)"})
    if status in WAITING:
        reason = str(job.get("statusReason") or "") if job is not None else ""
        told = f"{name} is {status}" + (f": {reason}" if reason else "")
        return CoordinatorState(
            {"queued": f"AWS Batch to start {name} ({status})"},
            (told, f"`runner batch explain {job_id}` says what it waits for"),
        )
    again = f"`runner resume {word}` starts a coordinator again"
    if status in ENDED and job is not None:
        return CoordinatorState({}, (f"{name} has ended: {_end_of(job)}", again))
    if fresh:
        return CoordinatorState({"worker": f"{name}, as far as its lease tells"})
    if trouble is not None:
        return CoordinatorState(
            {"worker": f"{name}, for all that is known"}, (f"Batch can't be asked: {trouble}",)
        )
    if job_id is None:
        return CoordinatorState({}, ("no coordinator has been submitted", again), known=False)
    return CoordinatorState({}, (f"Batch in {launch.region} doesn't know {name} any more", again))


def _end_of(job: Job) -> str:
    status, reason = job["status"], str(job.get("statusReason") or "")
    container = job.get("container") or {}
    parts = [str(status), *([reason] if reason else [])]
    if "exitCode" in container:
        parts.append(f"exit code {container['exitCode']}")
    if container.get("reason"):
        parts.append(str(container["reason"]))
    return "; ".join(parts)


def _lease(launch: BatchLaunch) -> tuple[Held | None, bool]:
    """The lease, and whether it is held and still valid, by S3's own clock. Raises AwsError."""
    bucket, prefix = parse_s3(launch.store)
    key = f"{prefix}/{Layout.lease_key}" if prefix else Layout.lease_key
    found = LaunchBucket(bucket, launch.region).stored(key)
    if found is None:
        return None, False
    held = parse_lease(Versioned(found.data, found.etag))
    fresh = held is not None and not held.released and found.age < held.valid_for
    return held, fresh
