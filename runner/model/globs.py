"""What the text of a glob may not be: what only a shell expands, and what can mean no file.

Such a text would match nothing, and that would be told long after the document was accepted.
"""

from __future__ import annotations

import re
from itertools import dropwhile

from runner.model.messages import quoted

_BRACES = r"\{(?!\])[^{}]*(?:,|\.\.)[^{}]*\}"
_VARIABLE = r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[^}]*\}?|\([^)]*\)?)"

PATTERN = rf"^(?!~)(?![\s\S]*{_BRACES})(?![\s\S]*\$[A-Za-z_{{(])"
"""The same as a regular expression, for the schema: what matches has no fault."""

WILD = re.compile(r"[*?]|\[!?+.[^\]]*\]", re.DOTALL)
"""What makes a part of a path a pattern."""

_BRACES_FOUND = re.compile(_BRACES)
_VARIABLE_FOUND = re.compile(_VARIABLE)


def fault_of(text: str) -> str | None:
    """Why no glob may be so, in words that say what to write; None if it may."""
    if text.startswith("~"):
        return f"{quoted(text)}: a leading ~ is not expanded: give the whole path, or ./~…"
    if found := _VARIABLE_FOUND.search(text):
        name = quoted(found[0])
        return f"{quoted(text)}: {name} is not expanded: give the path itself ([$] is a dollar)"
    if found := _BRACES_FOUND.search(text):
        braces = quoted(found[0])
        return f"{quoted(text)}: {braces} is not expanded: give one path for each ([{{] is a brace)"
    return _meaningless(text)


def _meaningless(text: str) -> str | None:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts and text.startswith("/"):
        return f"{quoted(text)} is the root folder"
    behind = dropwhile(lambda part: not WILD.search(part), parts)
    return f"{quoted(text)} has a '..' after a wildcard" if ".." in behind else None
