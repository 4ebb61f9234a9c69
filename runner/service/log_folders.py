"""Whose logs are in which folder: a queue's stay where it was begun, a folder's are one queue's.

The state notes the folder, and the folder has a link to the state. Commands that are called later
need not be told of either.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from runner.errors import ConflictError
from runner.store.paths import LogPaths, QueuePaths, StatePaths, replace_link

LOG_DIR = "log_dir"
"""The key of ``meta`` under which the folder is noted."""


class LogFolders:
    """The logs of one state folder's queues. ``log_dir``: where new ones begin.

    ``meta``: a queue's own words, None for one that can't be read.
    """

    def __init__(
        self, paths: StatePaths, log_dir: Path, meta: Callable[[str], Mapping[str, str] | None]
    ) -> None:
        self._paths = paths
        self._log_dir = log_dir
        self._meta = meta
        self._known: dict[str, Path] = {}

    @property
    def recorded(self) -> str:
        """What is noted of a new queue: relative to the state folder if it is in there, so that
        both can be moved together."""
        inside = self._log_dir.is_relative_to(self._paths.root)
        return str(self._log_dir.relative_to(self._paths.root) if inside else self._log_dir)

    def of(self, name: str) -> LogPaths:
        """Where a queue's logs are; those of one that notes nothing are where new ones begin."""
        ours = LogPaths(self._log_dir, name)
        if name not in self._known:
            if not self._paths.queue(name).database.is_file():
                return ours
            if (meta := self._meta(name)) is None:
                return ours
            self._known[name] = self._paths.root / meta.get(LOG_DIR, self._log_dir)
        there = LogPaths(self._known[name], name)
        # Moved by hand: whoever did it says where to.
        return ours if ours.root.is_dir() and not there.root.is_dir() else there

    def forget(self, name: str) -> None:
        """The queue of this name is another from now on, or none."""
        self._known.pop(name, None)

    def own(self, name: str) -> None:
        """Say in the folder whose logs these are, as far as there is room to."""
        self._own(LogPaths(self._log_dir, name))

    def _own(self, logs: LogPaths) -> None:
        with suppress(OSError):
            logs.root.mkdir(parents=True, exist_ok=True)
            replace_link(logs.owner, self._paths.queue(logs.name).root)

    def check_own(self, logs: LogPaths) -> None:
        """Raise ConflictError if they belong to a queue of another state folder that is there."""
        try:
            owner = QueuePaths(logs.root / os.readlink(logs.owner))
        except OSError:
            return
        own = self._paths.queue(logs.name).root.resolve()
        if owner.database.is_file() and owner.root.resolve() != own:
            raise ConflictError(
                f"{logs.log_dir} has logs of queue '{logs.name}' of another state folder, "
                f"{owner.root.resolve().parent.parent}: give this one another --log-dir"
            )

    def move(self, logs: LogPaths, name: str) -> None:
        """The queue has another name now, and its logs with it."""
        self.forget(logs.name)
        if logs.root.is_dir():
            target = LogPaths(logs.log_dir, name)
            os.rename(logs.root, target.root)
            self._own(target)
