"""Ids of jobs as people have them: an ARN, an id, an array's child, a node.

Pure. Facts: Batch User Guide, "Array jobs" (``parent:index``), "Multi-node parallel jobs"
(``id#node``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.errors import UsageError
from runner.model.messages import quoted

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}(?:[:#][0-9]{1,5}){0,2}")
_ARN = re.compile(r"arn:(aws[a-z-]*):batch:([a-z0-9-]+):[0-9]{12}:job/(.+)")


@dataclass(frozen=True, slots=True)
class JobId:
    """What DescribeJobs is asked for; ``region`` where an ARN named one."""

    id: str
    region: str | None = None

    @property
    def parent(self) -> str:
        """The array's or the whole job's id; its own where it is none's part."""
        return re.split("[:#]", self.id)[0]

    @property
    def index(self) -> int | None:
        """The index of an array's child."""
        _, colon, rest = self.id.partition(":")
        return int(rest.partition("#")[0]) if colon else None


def job_id_of(text: str) -> JobId:
    """The job that is meant. Raises UsageError for what can't be a job's id."""
    region = None
    word = text.strip()
    if found := _ARN.fullmatch(word):
        region, word = found[2], found[3]
    if not _ID.fullmatch(word):
        what = "an id such as 4c4a0b3e-…, a child ID:3, a node ID#0, or a job's ARN"
        raise UsageError(f"{quoted(text)} is not the id of a job in AWS Batch: {what}")
    return JobId(word, region)
