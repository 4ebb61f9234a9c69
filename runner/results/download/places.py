"""Where a stored file belongs on this machine: only where the job's own patterns look for files.

A manifest says where each file was on the machine that stored it. That machine may have had another
working directory, and who may write to the store may say anything: a place is one that a pattern of
the job's matches here, and below the working directory here if the pattern is relative. Owns that
rule. Must not know stores, and writes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.results.escape import escape, unescape
from runner.results.manifest import FileEntry
from runner.results.patterns import Matcher, Pattern, PatternError, parse

_OF_CHECKPOINT = re.compile(r"checkpoint/[0-9]+-[0-9]+/")


@dataclass(frozen=True, slots=True)
class Place:
    """``folder``: absolute, named by the document itself. ``below``: the file's path below it."""

    folder: str
    below: str

    @property
    def path(self) -> str:
        return os.path.join(self.folder, self.below)


def relative_to(path: str, working_directory: str) -> str | None:
    """How a manifest tells where a file was in the working directory; None: it was elsewhere."""
    below = _below(path, working_directory)
    return None if below is None else escape(below)


class Places:
    """The places that a job's patterns allow. Looks at the disk where one holds ``..``."""

    def __init__(self, patterns: Sequence[str], working_directory: str) -> None:
        self._working_directory = working_directory
        self._patterns: list[tuple[Pattern, bool]] = []
        for text in patterns:
            try:
                self._patterns.append((parse(text, working_directory), not text.startswith("/")))
            except PatternError:
                continue  # it has matched nothing

    def of(self, entry: FileEntry) -> Place | None:
        """Where the file belongs here; None where no pattern of the job's would find it."""
        for pattern, relative in self._patterns:
            for path in self._candidates(entry, pattern, relative):
                below = _below(path, pattern.folder)
                if below is not None and (place := _matched(pattern, below)):
                    return place
        return None

    def _candidates(self, entry: FileEntry, pattern: Pattern, relative: bool) -> Iterator[str]:
        """Paths here that may be meant, the likeliest first."""
        source = unescape(entry.source)
        if relative:
            if entry.relative is not None:
                yield os.path.join(self._working_directory, unescape(entry.relative))
            elif (below := self._by_name(entry, pattern, source)) is not None:
                yield os.path.join(pattern.folder, below)
        yield source

    def _by_name(self, entry: FileEntry, pattern: Pattern, source: str) -> str | None:
        """For a manifest of an older version: a file's name is its path below the fixed part."""
        below = unescape(_OF_CHECKPOINT.sub("", entry.name, count=1))
        fixed = _below(pattern.folder, self._working_directory)
        if fixed is None and pattern.folder.rstrip("/") != self._working_directory.rstrip("/"):
            return None
        told = f"{fixed}/{below}" if fixed else below
        return below if source.endswith(f"/{told}") else None


def _below(path: str, folder: str) -> str | None:
    """The path below a folder, if it is one, and leads nowhere else."""
    top = os.path.join(folder, "")
    if not path.startswith(top):
        return None
    below = path[len(top) :]
    parts = below.split("/")
    return below if "\0" not in below and {"", ".", ".."}.isdisjoint(parts) else None


def _matched(pattern: Pattern, below: str) -> Place | None:
    first, *others = parts = below.split("/")
    if pattern.literal:
        if first != pattern.parts[0]:
            return None
        # A folder that is named as it is means all below it.
        folder = os.path.join(pattern.folder, first)
        return Place(folder, "/".join(others)) if others else Place(pattern.folder, first)
    matcher = Matcher(pattern.parts)
    at = matcher.start()
    for part in parts:
        if not (at := matcher.step(at, part)):
            return None
    return Place(pattern.folder, below) if matcher.end in at else None
