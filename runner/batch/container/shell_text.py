"""What main.sh reads, as shell text: variables, and where files lie that the volume lacks. Pure.

Every value is quoted: none can end the word that it is in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from shlex import quote

from runner.results.patterns import Pattern, PatternError, parse

_ENCODING = ("utf-8", "surrogateescape")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def environment_text(variables: Mapping[str, str], command: str, shell: Sequence[str]) -> bytes:
    """Exports the variables, and becomes COMMAND, by ``shell`` or else by main.sh's own choice."""
    lines = [f"export {name}={quote(value)}" for name, value in variables.items() if _fits(name)]
    words = " ".join(map(quote, shell)) or '"$@"'
    return "\n".join([*lines, f"exec {words} {quote(command)}", ""]).encode(*_ENCODING)


def settings_text(working_directory: str) -> bytes:
    """What main.sh itself goes by."""
    return f"runner_directory={quote(working_directory)}\n".encode(*_ENCODING)


def _fits(name: str) -> bool:
    """Whether a shell knows such a name; all of a document's are."""
    return _NAME.fullmatch(name) is not None


def patterns_text(patterns: Iterable[Pattern]) -> bytes:
    """Calls that have main.sh copy what the patterns may mean; too much does no harm."""
    return "".join(f"outside {words(pattern)}\n" for pattern in patterns).encode(*_ENCODING)


def words(pattern: Pattern) -> str:
    """find's path and conditions, quoted, for one pattern.

    `*` matches `/` for find: what it finds too much isn't taken by who collects.
    """
    if pattern.literal:
        return quote(os.path.join(pattern.folder, pattern.parts[0]))
    told = [quote(pattern.folder)]
    if "**" not in pattern.parts:
        depth = str(len(pattern.parts))
        told += ["-mindepth", depth, "-maxdepth", depth]
    shape = "/".join(pattern.parts).replace("**/", "*").replace("**", "*")
    fixed = re.sub(r"([\\*?\[\]])", r"\\\1", os.path.join(pattern.folder, ""))
    return " ".join([*told, "-path", quote(fixed + shape)])


def parsed(patterns: Iterable[str], working_directory: str) -> list[Pattern]:
    """The patterns that can mean something."""
    found = []
    for text in patterns:
        try:
            found.append(parse(text, working_directory))
        except PatternError:
            continue  # it is told when files are collected
    return found
