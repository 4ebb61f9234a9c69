"""Owns what a result pattern means: its fixed folder, and which names its wildcards match.

Pure text but for `..`, which only the file system can resolve. Must not walk folders.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from runner.model.globs import WILD

Positions = frozenset[int]

ASIDE = ".runner-aside"
"""A folder in which no pattern finds anything: former results that were moved out of the way."""


class PatternError(ValueError):
    """A pattern that can mean nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """`folder`: the fixed part, absolute. `parts`: what is matched below it, part by part.

    A pattern without a wildcard is its folder and one part. Dotfiles match like all others; `**`,
    alone in its part, matches any number of folders, also none.
    """

    text: str
    folder: str
    parts: tuple[str, ...]
    literal: bool


def parse(text: str, working_directory: str) -> Pattern:
    """Split a pattern at its first wildcard; a relative one is taken below `working_directory`.

    A `..` before the first wildcard goes where the kernel would go, through links too. A `/` at the
    end lets wildcards match folders only. Raises PatternError.
    """
    if not _can_be_a_path(text):
        raise PatternError("is no path")
    words = [part for part in text.split("/") if part not in ("", ".")]
    fixed = list(takewhile(lambda part: not WILD.search(part), words))
    parts = words[len(fixed) :]
    if ".." in parts:
        raise PatternError("has a '..' after a wildcard")
    folder = os.path.join("/" if text.startswith("/") else working_directory, *fixed)
    if ".." in fixed:
        folder = os.path.realpath(folder)
    if parts:
        if text.endswith("/"):
            parts.append("**")
        return Pattern(text, folder, tuple(parts), literal=False)
    folder, last = os.path.split(folder.rstrip("/"))
    if not last:
        raise PatternError("is the root folder")
    return Pattern(text, folder, (last,), literal=True)


def _can_be_a_path(text: str) -> bool:
    try:
        return text != "" and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


class Matcher:
    """The wildcard parts as a small automaton: one walk matches each name once, however many `**`.

    A position counts the parts already matched; `end` stands for all of them, and stays true for
    everything below a matched folder.
    """

    def __init__(self, parts: tuple[str, ...]) -> None:
        if parts[-1] == "**":  # what is below, not the folder itself
            parts = (*parts, "*")
        self.end = len(parts)
        self._tests = [None if part == "**" else _test(part) for part in parts]

    def start(self) -> Positions:
        """Where the fixed folder stands."""
        return self._widened({0})

    def step(self, at: Positions, name: str) -> Positions:
        """Where an entry called `name` stands in a folder that stands `at`; empty: no match."""
        if name == ASIDE:
            return frozenset()
        if self.end in at:
            return at
        reached = set()
        for position in at:
            test = self._tests[position]
            if test is None:
                reached.add(position)
            elif test(name):
                reached.add(position + 1)
        return self._widened(reached) if reached else frozenset()

    def _widened(self, reached: set[int]) -> Positions:
        """`**` also matches no folder: whoever stands before it also stands behind it."""
        for position, test in enumerate(self._tests):
            if test is None and position in reached:
                reached.add(position + 1)
        return frozenset(reached)


def _test(part: str) -> Callable[[str], object]:
    if not WILD.search(part):
        return part.__eq__
    return re.compile(fnmatch.translate(part)).match
