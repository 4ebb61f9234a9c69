"""The exit code that an outcome stands for."""

from __future__ import annotations

from typing import Any

from runner.errors import ExitCode

_CODES = {
    "completed": ExitCode.DONE,
    "failed": ExitCode.QUEUE_FAILED,
    "cancelled": ExitCode.CANCELLED,
    "interrupted": ExitCode.INTERRUPTED,
}


def of_queue(queue: dict[str, Any]) -> ExitCode:
    """The code of a queue's summary; a queue that is still worked on is "not finished"."""
    if queue["status"] == "interrupted" and (queue.get("worker") or queue.get("queued")):
        return ExitCode.NOT_FINISHED
    code = _CODES.get(queue["status"], ExitCode.NOT_FINISHED)
    if code is ExitCode.DONE and queue.get("results_incomplete"):
        return ExitCode.RESULTS_INCOMPLETE
    return code
