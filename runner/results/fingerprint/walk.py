"""All that a job's globs mean, with what stat says of it. Opens nothing.

Unlike the collector of results it leaves nothing out: a job reads what a link leads to, too, and
may list a folder that is empty. Owns what of an entry counts.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from runner.results.escape import escape, shown
from runner.results.patterns import Matcher, PatternError, Positions, parse
from runner.results.upload.source_file import kind
from runner.rights import Rights, acting_as


class Signature(NamedTuple):
    """What changes when a file does: bytes, times in ns, the inode, whether it may be executed."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    executable: int

    @classmethod
    def of(cls, found: os.stat_result) -> Signature:
        """Of what stat(2) tells."""
        runs = 1 if found.st_mode & 0o111 else 0
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, runs)


class FoundEntry(NamedTuple):
    """An entry. ``path``: where to read it; ``said``: what is known of it without reading: that it
    is a folder, say, or where a link leads; ``signature`` of what it is to be read of, else None;
    ``device``: the number of its file system."""

    path: str
    said: str
    signature: Signature | None
    device: int = 0


@dataclass(slots=True)
class Walk:
    """``found`` by name: a path from the working directory, or an absolute one where the pattern
    is. ``unreadable``: why something can't be known, of each thing that can't."""

    found: dict[str, FoundEntry] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def walk(
    patterns: Sequence[str],
    working_directory: str,
    *,
    own: Iterable[str] = (),
    rights: Rights | None = None,
) -> Walk:
    """All that the patterns match now. ``own``: files and folders of ours, as real paths, which
    count for nothing. Raises RightsError."""
    result = Walk()
    with acting_as(rights):
        real = os.path.realpath(working_directory)
        around = os.path.join(real, "")
        left_out = frozenset(each for each in own if not around.startswith(os.path.join(each, "")))
        for text in patterns:
            try:
                pattern = parse(text, real)
            except PatternError as error:
                result.unreadable.append(f"pattern {shown(text)} {error}")
                continue
            # A relative pattern's files are called alike on every machine.
            base = "" if text.startswith("/") else real
            search = _Search(result, base, left_out)
            if pattern.literal:
                search.take_named(os.path.join(pattern.folder, pattern.parts[0]))
            else:
                matcher = Matcher(pattern.parts)
                search.enter(pattern.folder, matcher, matcher.start(), (), listed=False)
    return result


@dataclass(slots=True)
class _Search:
    """One pattern's walk; ``base``: what its names are relative to."""

    result: Walk
    base: str
    own: frozenset[str]

    def take_named(self, path: str) -> None:
        """What a pattern without a wildcard names: a file, or a folder with all below it."""
        try:
            self._take(path, os.lstat(path), Matcher(("**",)), ())
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._tell(path, error)

    def enter(
        self,
        folder: str,
        matcher: Matcher,
        at: Positions,
        inside: tuple[tuple[int, int], ...],
        *,
        listed: bool,
    ) -> None:
        """All of a folder that matches. ``inside``: the folders that the walk came through, for a
        link may lead back to one; ``listed``: it is matched itself."""
        todo = [(folder, at, inside, listed)]
        while todo:
            path, here, through, matched = todo.pop()
            if path in self.own:
                continue
            try:
                found = os.stat(path)
                itself = found.st_dev, found.st_ino
                if matched:
                    self._put(path, FoundEntry(path, "folder", None))
                if itself in through:
                    continue
                with os.scandir(path) as entries:
                    self._look(entries, matcher, here, (*through, itself), todo)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone meanwhile, or never there: nothing to match
            except OSError as error:
                self._tell(path, error)

    def _look(
        self,
        entries: Iterator[os.DirEntry[str]],
        matcher: Matcher,
        at: Positions,
        through: tuple[tuple[int, int], ...],
        todo: list[tuple[str, Positions, tuple[tuple[int, int], ...], bool]],
    ) -> None:
        end = matcher.end
        for entry in entries:
            reached = matcher.step(at, entry.name)
            if not reached:
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    todo.append((entry.path, reached, through, end in reached))
                elif end in reached:
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        path = entry.path
                        if not self.own or path not in self.own:
                            self._put(path, FoundEntry(path, "", Signature.of(found), found.st_dev))
                    else:
                        self._take(entry.path, found, matcher, through, reached)
                elif entry.is_symlink() and entry.is_dir():
                    todo.append((entry.path, reached, through, False))
            except OSError as error:
                self._tell(entry.path, error)

    def _take(
        self,
        path: str,
        found: os.stat_result,
        matcher: Matcher,
        through: tuple[tuple[int, int], ...],
        at: Positions | None = None,
    ) -> None:
        """A matched entry of any kind. Raises OSError."""
        if path in self.own:
            return
        said = ""
        if stat.S_ISLNK(found.st_mode):
            said = f"link to {escape(os.readlink(path))} "
            try:
                found = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                self._put(path, FoundEntry(path, f"{said}nothing", None))
                return
            if os.path.realpath(path) in self.own:
                return
        if stat.S_ISDIR(found.st_mode):
            self._put(path, FoundEntry(path, f"{said}folder", None))
            self.enter(path, matcher, matcher.start() if at is None else at, through, listed=False)
        elif stat.S_ISREG(found.st_mode):
            self._put(path, FoundEntry(path, said, Signature.of(found), found.st_dev))
        else:
            self._put(path, FoundEntry(path, f"{said}{kind(found.st_mode)}", None))

    def _put(self, path: str, seen: FoundEntry) -> None:
        base = self.base
        if not base:
            name = path
        elif path.startswith(base) and path[len(base) : len(base) + 1] == "/":
            name = path[len(base) + 1 :]
        else:
            name = os.path.relpath(path, base)
        self.result.found[name if name.isascii() else escape(name)] = seen

    def _tell(self, path: str, error: OSError) -> None:
        self.result.unreadable.append(f"{shown(path)} can't be read: {error.strerror}")
