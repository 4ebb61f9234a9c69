"""What stage has done, for the agent: a record in the volume that they share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from runner.batch.container.volume import Volume
from runner.files import replace_file
from runner.model.records import Count, Seconds, parse


@dataclass(frozen=True, slots=True)
class Staged:
    """``input_seconds``: what inputs took; ``restored``: files of other jobs that came;
    ``checkpoint_files``: those of the checkpoint, ``checkpoint_lost``: why there is no going on
    from it; ``refused``: why COMMAND can't be run, ``unstaged``: for want of an input."""

    input_seconds: Seconds = 0.0
    restored: Count = 0
    checkpoint_files: Count = 0
    checkpoint_lost: str | None = None
    refused: str | None = None
    unstaged: bool = False

    def write(self, volume: Volume) -> None:
        """Raises OSError."""
        replace_file(volume.root / "staged.json", [json.dumps(asdict(self)).encode()])


def read_staged(volume: Volume) -> Staged:
    """Raises OSError, RecordError."""
    return parse(Staged, (volume.root / "staged.json").read_bytes(), "staged.json")
