"""What a command's Future gives: how the command ended, and what it printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

COMPLETED = "completed"
FAILED = "failed"
TIMED_OUT = "timed_out"
CANCELLED = "cancelled"

BATCH_STATUS = {
    COMPLETED: "SUCCEEDED",
    FAILED: "FAILED",
    TIMED_OUT: "TIMEOUT",
    CANCELLED: "FAILED",
}
"""How AWS Batch would call it: what ``result["status"]`` says."""


@dataclass(frozen=True, slots=True)
class CommandResult(Mapping[str, Any]):
    """``id``: the job's; ``status``: `completed`, `failed`, `timed_out`, or `cancelled` (it was
    terminated). ``exit_code``: None if it was not the command that ended itself; then ``signal`` or
    ``message`` says what did. ``stdout``, ``stderr``: the last MiB of what it printed, invalid
    UTF-8 replaced; ``truncated``: there was more, see the Future's ``logs``. ``results``: the files
    that matched its ``result_paths``.

    It also reads as a dictionary with the keys `batch_job_id`, `status` (in AWS Batch's words:
    `SUCCEEDED`, `FAILED`, `TIMEOUT`) and `exit_code`.
    """

    id: str
    status: str
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    results: tuple[str, ...] = ()
    signal: str | None = None
    message: str | None = None
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """Whether the command ended with exit status 0."""
        return self.status == COMPLETED

    def __getitem__(self, key: str) -> Any:
        match key:
            case "batch_job_id":
                return self.id
            case "status":
                return BATCH_STATUS[self.status]
            case "exit_code":
                return self.exit_code
            case _:
                raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(("batch_job_id", "status", "exit_code"))

    def __len__(self) -> int:
        return 3
