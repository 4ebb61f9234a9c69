"""How fast the server's time goes, how it is seeded, and how it limits its callers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Delays:
    """How long a job stays in a state for reasons of the service's own, in Batch's seconds."""

    submitted: Range = (0.5, 2.0)
    runnable: Range = (2.0, 20.0)
    starting: Range = (1.0, 8.0)
    ended: Range = (0.2, 1.5)
    """From the container's end until the job's status tells it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """``second_s``: real seconds that one second of Batch takes here: delays, timeouts, graces.

    Requests keep Batch's own figures (a timeout of 60 is the least there is), so the code under
    test needs no other limits. Times in answers are real ones.
    """

    second_s: float = 0.01
    day_s: float = 86_400.0
    """Real seconds of a day; ended jobs are forgotten after seven."""
    visible_after_s: Range = (0.0, 0.0)
    """Real seconds until DescribeJobs and ListJobs know a new job."""
    delays: Delays = field(default_factory=Delays)
    rates: Mapping[str, float] = field(default_factory=lambda: {"SubmitJob": 50.0})
    """Calls of an operation a second; above, 429. Buckets hold one second's worth."""
    seed: int = 1
    agent_address: tuple[str, int] = ("127.0.0.1", 0)
    """Where tasks find the ECS agent. At its real address, ``task_endpoint.REAL``, credentials are
    told by a relative URI, as by the agent; that address has to be on an interface."""
    region: str = "us-east-1"
    account: str = "123456789012"

    def arn(self, resource: str, service: str = "batch") -> str:
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"
