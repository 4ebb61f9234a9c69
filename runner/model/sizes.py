"""Sizes of memory and disks in a document: `16GiB`, in powers of 1024 and never of 1000.

Owns reading and printing. A size is a whole number of KiB: every one can be printed exactly.
"""

from __future__ import annotations

import re

from runner.model.messages import kind, quoted

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

PATTERN = rf"[0-9]{{1,12}}(?:\.[0-9]{{1,9}})?(?:{'|'.join(UNITS)})"

LARGEST = 1024 * UNITS["TiB"]
"""A PiB: more than any machine has."""

_PARTS = rf"([0-9]{{1,12}})(?:\.([0-9]{{1,9}}))?({'|'.join(UNITS)})"
_OTHER_UNIT = r"([0-9.]+) ?([kKmMgGtT])i?[bB]?"


def parse_binary_size(text: object) -> int:
    """Bytes, above 0, of `512MiB` or `1.5GiB`. Raises ValueError with a message for the user."""
    if not isinstance(text, str):
        raise ValueError(f'must be a size in quotes such as "16GiB", not {kind(text)}')
    found = re.fullmatch(_PARTS, text)
    if found is None:
        like = re.fullmatch(_OTHER_UNIT, text)
        hint = f'; write "{like[1]}{like[2].upper()}iB"' if like else ""
        raise ValueError(f'{quoted(text)} is not a size such as "512MiB" or "16GiB"{hint}')
    whole, part, unit = found[1], found[2] or "", UNITS[found[3]]
    scale = int("1" + "0" * len(part))
    scaled = int(whole + part) * unit
    if scaled % (scale * UNITS["KiB"]):
        raise ValueError(f'"{text}" is not a whole number of KiB')
    size = scaled // scale
    if not 0 < size <= LARGEST:
        raise ValueError(f'"{text}" must be above 0 and at most 1024TiB')
    return size


def format_binary_size(size: int) -> str:
    """The size in the largest unit that gives a whole number: `16GiB`, `1536MiB`."""
    for unit in reversed(UNITS):
        if size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    raise AssertionError("a size is a whole number of KiB")
