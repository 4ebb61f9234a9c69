"""Attempts that are plain jobs (``staging: none``): what Batch is told of their commands.

Pure. There is nothing of ours in the image, and no store: the command, its variables and its folder
go by the submission's overrides, which whoever may describe the job can read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from runner.batch.names import MAX_OVERRIDES, MIN_TIMEOUT, overrides_length

_SCRIPT = """\
if [ -n "$RUNNER_ARRAY_INDEX" ]; then
    RUNNER_ARRAY_INDEX=$((RUNNER_ARRAY_INDEX + ${AWS_BATCH_JOB_ARRAY_INDEX:-0}))
    export AWS_BATCH_JOB_ARRAY_INDEX=$RUNNER_ARRAY_INDEX
fi
cd "${RUNNER_WORK_DIR:-.}" || exit 126
[ $# -eq 1 ] || exec "$@"
[ ! -x /bin/bash ] || exec /bin/bash -c "$1"
exec /bin/sh -c "$1"
"""
"""Batch numbers the children of each submission from 0, also where they are an array's later ones.
"""


@dataclass(frozen=True, slots=True)
class PlainCommand:
    """``shell`` (): bash where there is one, else sh. ``folder`` None: the image's. ``index``: of
    the first element that is submitted; None where there is no array."""

    command: str
    shell: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None
    index: int | None = None

    def overrides(self) -> dict[str, Any]:
        """Its containerOverrides."""
        variables = dict(self.env)
        if self.folder is not None:
            variables["RUNNER_WORK_DIR"] = self.folder
        if self.index is not None:
            variables["RUNNER_ARRAY_INDEX"] = str(self.index)
        return {
            "command": ["/bin/sh", "-c", _SCRIPT, "sh", *self.shell, self.command],
            "environment": [{"name": name, "value": value} for name, value in variables.items()],
        }

    def too_long(self) -> str | None:
        """What Batch would accept, and then fail."""
        if (length := overrides_length(self.overrides())) <= MAX_OVERRIDES:
            return None
        return (
            f"command and variables of a plain job are {length:,} characters long; AWS Batch takes "
            f"{MAX_OVERRIDES:,}"
        )


def plain_seconds(timeout: float) -> int:
    """Batch's timeout of a plain job: ours, in whole seconds; none is shorter than a minute."""
    return max(MIN_TIMEOUT, ceil(timeout))
