"""Archives that are the same bytes wherever they are made: a .tar.gz, and the ar of a .deb.

The order is that of the names, the owner is root, the time is the commit's. Nothing is deflated:
what compresses well is compressed already (the wheels), and two versions of zlib make different
bytes of the same input.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Mapping, Set

_STORED = 65_535  # the most that one block of a deflate stream can hold as it is


def make_tar_gz(files: Mapping[str, bytes], executable: Set[str], time: int) -> bytes:
    """Paths → contents, and the folders that they are in. ``time``: seconds since 1970."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted({*files, *_folders(files)}):
            entry = tarfile.TarInfo(path)
            entry.mtime, entry.uname, entry.gname = time, "root", "root"
            if path in files:
                entry.size, entry.mode = len(files[path]), 0o755 if path in executable else 0o644
                archive.addfile(entry, io.BytesIO(files[path]))
            else:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
    return _gzip(raw.getvalue())


def make_ar(members: Mapping[str, bytes], time: int) -> bytes:
    """In the order given: a .deb has one. Names have at most 16 characters."""
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        header = f"{name:<16}{time:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        parts += [header.encode("ascii"), content, b"\n" * (len(content) % 2)]
    return b"".join(parts)


def _folders(paths: Mapping[str, bytes]) -> set[str]:
    found = set()
    for path in paths:
        while path := path.rpartition("/")[0]:
            found.add(path)
    return found - {"."}


def _gzip(content: bytes) -> bytes:
    parts = [b"\x1f\x8b\x08\0\0\0\0\0\0\xff"]
    for start in range(0, len(content), _STORED):
        block = content[start : start + _STORED]
        last = start + _STORED >= len(content)
        parts += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    parts.append(struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF))
    return b"".join(parts)
