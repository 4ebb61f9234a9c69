"""How a coordinator submits its queue's jobs: kept beside the state, for whichever drives it.

Owns the record, and what flags and settings come to in it. Pure.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from runner.errors import UsageError
from runner.model.batch_settings import BatchSettings
from runner.model.records import read

AGENT_IMAGE = "public.ecr.aws/docker/library/python:3.12-slim"
"""Of containers that run runner: a Python, and no more."""


@dataclass(frozen=True, slots=True)
class CoordinatorOptions:
    """``image``: of jobs that name none; ``agent_image``: of the coordinator, and of the containers
    that carry files; roles are ARNs; ``shared``: a file system that every job mounts.
    ``max_parallel``: how many jobs at once whatever the document says; 0 for no limit."""

    job_queue: str
    region: str
    image: str | None = None
    agent_image: str = AGENT_IMAGE
    job_role: str | None = None
    execution_role: str | None = None
    coordinator_role: str | None = None
    shared: str | None = None
    max_parallel: int | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """For JSON; what isn't known is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def own_role(self) -> str | None:
        """Whose rights the coordinator has."""
        return self.coordinator_role or self.job_role


def read_options(value: Any, name: str) -> CoordinatorOptions:
    """The options in a JSON value. Raises RecordError, which begins with ``name``."""
    return read(CoordinatorOptions, value, name)


def options_of(
    flags: dict[str, Any],
    settings: BatchSettings,
    region: str,
    before: CoordinatorOptions | None = None,
) -> CoordinatorOptions:
    """Flags before the launch ``before``, and settings before defaults. Raises UsageError."""
    known = {} if before is None else before.plain
    queue = flags.get("job_queue") or known.get("job_queue") or settings.job_queue
    if not queue:
        raise UsageError(
            "no job queue of AWS Batch is named: --job-queue Q, or `job_queue` in the table "
            "[batch] of the settings"
        )
    given = {name: flags.get(name) for name in ("image", "max_parallel")}
    names = ("image", "agent_image", "job_role", "execution_role", "coordinator_role", "shared")
    of_settings = {name: getattr(settings, name) for name in names}
    merged = {
        **{name: value for name, value in of_settings.items() if value is not None},
        **known,
        **{name: value for name, value in given.items() if value is not None},
    }
    return CoordinatorOptions(**{**merged, "job_queue": queue, "region": region})
