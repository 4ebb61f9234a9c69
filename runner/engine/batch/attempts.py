"""What a session knows of each of its attempts on AWS Batch."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from runner.batch.attempt_records import AttemptKey
from runner.batch.records import BatchClaim
from runner.model.elements import split_name


@dataclass(slots=True, eq=False)
class BatchAttempt:
    """One start. ``batch_job``: the job that is followed, once it is known.

    ``plain``: it carries no files and keeps no records, Batch's word on it stands. ``told``:
    AttemptStarted was posted; ``over``: its end was, or that it is void. ``asked``: its end was
    asked for, for ``reason``; ``withdrawn``: what isn't submitted yet is not to be.
    ``unanswered``: whether it was submitted isn't known yet; ``void``: nobody can begin it now.
    ``looks``: how often its claim was looked for in vain; ``missing_since``: the loop's time since
    which Batch doesn't know the job.
    """

    job: int
    key: AttemptKey
    plain: bool = False
    batch_job: str | None = None
    adopted: bool = False
    told: bool = False
    over: bool = False
    asked: float | None = None
    reason: str | None = None
    unanswered: bool = False
    void: bool = False
    claim: BatchClaim | None = None
    looking: bool = False
    looks: int = 0
    judging: bool = False
    missing_since: float | None = None
    withdrawn: threading.Event = field(default_factory=threading.Event)

    @property
    def token(self) -> str:
        return self.key.token

    @property
    def element(self) -> bool:
        """Whether it is one of an array's, which may have been submitted with others."""
        return split_name(self.key.job_id)[1] is not None
