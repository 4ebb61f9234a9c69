"""Where a job's files are for who looks at them, if that isn't where the job has them.

A container sees the volumes that it shares with another's at the same paths, and of all else of
that one's files only copies below a folder. Pure text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PathMap:
    """``shared``: folders that are the same here; all else of the job's is below ``copies``."""

    shared: Sequence[str]
    copies: str

    def here(self, path: str) -> str:
        """Where the job's absolute ``path`` is for us."""
        plain = os.path.normpath(path)
        if any(f"{plain}/".startswith(os.path.join(each, "")) for each in self.shared):
            return path
        return f"{self.copies}{plain}"


SAME = PathMap(("/",), "")
"""The job's files are where it has them."""
