"""Where this computer remembers what it has launched on AWS Batch: a file a queue, named for it.

Every verb imports this, to know whether a word may mean such a queue.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from runner.store.paths import home_folder
from runner.targets.ec2.names import short_hash


def launches_folder(environ: Mapping[str, str]) -> Path | None:
    """Below the XDG state folder; None where there is no home folder either."""
    state, home = environ.get("XDG_STATE_HOME", ""), home_folder(environ)
    if state.startswith("/"):
        return Path(state) / "runner" / "batch-launches"
    return None if home is None else home / ".local/state/runner/batch-launches"


def record_name(queue_id: str, store: str) -> str:
    """The same id may be in use with several stores."""
    return f"{queue_id}@{short_hash(store)}.json"


def records_of(folder: Path, queue_id: str | None) -> list[Path]:
    """The files of one queue_id, else of all."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    begin = "" if queue_id is None else f"{queue_id}@"
    return [
        folder / name for name in sorted(names) if name.startswith(begin) and name.endswith(".json")
    ]


def launched_here(queue_id: str) -> bool:
    """Whether this computer has launched a queue of that id there."""
    folder = launches_folder(os.environ)
    return folder is not None and bool(records_of(folder, queue_id))
