"""How a queue stands, as its bucket says, for who waits: cheap, and of any size.

The state's head is enough: it is read only when it has changed, and never more than its first part.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from runner.aws.faults import AwsError, Kind
from runner.results.layout import Layout
from runner.targets.ec2.bucket import Bucket

HEAD = 256 * 1024
"""Bytes: the whole state of a queue of some thousand jobs."""


@dataclass(frozen=True, slots=True)
class Standing:
    """``jobs``: how many stand where; empty for a queue that is too large to look at as a whole."""

    status: str
    reason: str = ""
    updated_at: str = ""
    jobs: dict[str, int] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")


def standing_of(head: bytes) -> Standing | None:
    """What the first bytes of a queue-state.json say; None if they aren't one's."""
    text = head.decode("utf-8", "replace")
    jobs: dict[str, int] = {}
    try:
        state = json.loads(text)
        jobs = dict(Counter(str(job["status"]) for job in state["jobs"]))
    except (ValueError, KeyError, TypeError):
        own, found, _ = text.partition(',"jobs":[')
        try:
            state = json.loads(own + "}") if found else None
        except ValueError:
            state = None
    if not isinstance(state, dict) or not isinstance(state.get("status"), str):
        return None
    return Standing(
        state["status"], str(state.get("reason", "")), str(state.get("updated_at", "")), jobs
    )


class StateOf:
    """The state below ``prefix``, asked for again and again."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket = bucket
        self._key = f"{prefix}/{Layout.state_key}" if prefix else Layout.state_key
        self._etag = ""
        self._last: Standing | None = None

    def look(self) -> Standing | None:
        """How it stands now; None before there is a state. Raises AwsError."""
        try:
            head, self._etag = self._bucket.head_of(self._key, HEAD, self._etag)
        except AwsError as error:
            if error.code in ("304", "NotModified"):
                return self._last
            if error.kind is Kind.MISSING and error.code != "NoSuchBucket":
                return None
            raise
        self._last = standing_of(head)
        return self._last
