"""Owns the reversible percent-escape that makes any file name a legal key, and any path printable.

A file name is bytes; a key is UTF-8 text that S3 can list in XML. Must not know which keys exist.

Escaped, as `%` and two upper-case hex digits a byte: bytes that are not UTF-8, control characters
but tab and newline (XML 1.0 has no way to write them; a carriage return doesn't survive it), U+FFFE
and U+FFFF. A `%` is escaped only where it would read as an escape. So nearly every name stays as it
is.
"""

from __future__ import annotations

import os
import re

TEMPORARY = ".runner-tmp-"
"""How the names of a folder store's unfinished files begin; no key has such a part."""

_ODD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\udc80-\udcff\ufffe\uffff]|%(?=[0-9A-F]{2})")
_ESCAPED = re.compile(rb"%([0-9A-F]{2})")


def escape(path: str) -> str:
    """A path as the OS gives it (surrogateescape) as UTF-8 text; `unescape` gives it back."""
    text = os.fsencode(path).decode("utf-8", "surrogateescape")
    return _ODD.sub(_percent, text)


def unescape(text: str) -> str:
    """The path, as the OS gives it, that `escape` or `escape_name` made `text` of."""
    raw = _ESCAPED.sub(lambda m: bytes([int(m[1], 16)]), text.encode())
    return os.fsdecode(raw)


def escape_name(path: str) -> str:
    """A relative path as part of a key: `escape`, and no part is `.`, `..` or a temporary's."""
    text = escape(path)
    if "." not in text:
        return text
    return "/".join(_tamed(part) for part in text.split("/"))


def written(text: str) -> str:
    """What is given as a path, as `escape` writes it; text that no path can be, as Python does."""
    try:
        return escape(text)
    except UnicodeEncodeError:
        return repr(text)


def shown(path: str) -> str:
    """A path in a message: quoted, on one line, printable in any terminal and database."""
    try:
        return repr(escape(path))
    except UnicodeEncodeError:  # text that no path can be
        return repr(path)


def _percent(odd: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in odd[0].encode("utf-8", "surrogateescape"))


def _tamed(part: str) -> str:
    if part in (".", ".."):
        return part.replace(".", "%2E")
    if part.startswith(TEMPORARY):
        return "%2E" + part[1:]
    return part
