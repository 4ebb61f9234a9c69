"""Patterns that stand for several jobs on a command line: ``align.*``, ``call.?-I``.

`*`, `?` and `[…]` as in a shell; ``ID[17]`` is an element of an array and no pattern, ``ID[*]`` and
``ID[1?]`` are patterns of elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from runner.model.elements import split_name

_OF_ELEMENTS = re.compile(r"(.+)\[([0-9*?]+)\]")
"""What a job is called, and which of its elements are meant."""


def is_glob(word: str) -> bool:
    """Whether the word is a pattern, and not the name of one job."""
    if "*" in word or "?" in word:
        return True
    return "[" in word and split_name(word)[1] is None


def matching(word: str, names: Iterable[str]) -> list[str]:
    """The names that the pattern matches, in order; of a word that is none itself, if it is there.

    Elements of arrays are matched by patterns that have a bracket only.
    """
    if not is_glob(word):
        return [name for name in names if name == word]
    from fnmatch import translate

    patterns = [translate(word)]
    if found := _OF_ELEMENTS.fullmatch(word):
        patterns.append(translate(found[1] + "[[]" + found[2] + "]"))
    matches = re.compile("|".join(patterns)).match
    return [name for name in names if matches(name)]


def chosen(words: Sequence[str], names: Sequence[str]) -> tuple[list[str], str | None]:
    """The names that any of the words means, in order, and the first word that means none."""
    found: set[str] = set()
    for word in words:
        meant = matching(word, names)
        if not meant:
            return [], word
        found.update(meant)
    return [name for name in names if name in found], None
