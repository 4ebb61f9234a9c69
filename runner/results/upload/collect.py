"""Which files a job's `result_paths` mean, right now.

Owns the walk and its rules for links and things that aren't files. Knows no store, and opens no
file: what it finds is opened later, through ``SourceFile``, which refuses what has changed.

Rules:
- Links in a pattern's fixed part, and a link that a pattern without a wildcard names, are followed:
  the document names them. Such a link to a folder means the files below it.
- Any other link is taken, as the file it points to, if that lies below the folder that the walk
  began at; a link that leaves it or that points to a folder is left out and told.
- Devices, fifos and sockets are left out and told, and never opened.
- Missing is a pattern for which there is nothing to store, unless it is optional, and what can't be
  read or is left out although a pattern means it: a file, a folder, a link that leaves.
- A file is taken once, by the first pattern that matches it; its identity is its path with the
  links of its folder resolved, so a link beside its target is a file of its own.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection as Container
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from runner.results.escape import shown, written
from runner.results.layout import MAX_NAME_BYTES, assign_names
from runner.results.manifest import MissingFile
from runner.results.path_map import SAME, PathMap
from runner.results.patterns import Matcher, Pattern, PatternError, Positions, parse
from runner.results.upload.source_file import SourceFile, kind, scan
from runner.rights import Rights, acting_as

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class CollectedFile:
    """One matched file. `name`: its key below the job's prefix; `path`: as matched.

    `size` in bytes, `mtime_ns` since the epoch, `mode` the permission bits, all of the link's
    target if it is a link; `pattern`: the index of the pattern that took it; `source` opens it.
    """

    name: str
    path: str
    size: int
    mtime_ns: int
    mode: int
    pattern: int
    source: SourceFile


@dataclass(frozen=True, slots=True)
class Collection:
    """All files in a fixed order (patterns as given, each sorted by path), and what went wrong.

    `problems`: all of that in words; `missing`: the part of it that makes the results incomplete.
    """

    files: tuple[CollectedFile, ...]
    problems: tuple[str, ...]
    missing: tuple[MissingFile, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    fixed: str
    path: str
    identity: str
    real: str
    stat: os.stat_result


def collect(
    patterns: Sequence[str],
    working_directory: str,
    *,
    optional: Container[str] = (),
    skip: Iterable[str] = (),
    own: Iterable[str] = (),
    rights: Rights | None = None,
    taken: Iterable[str] = (),
    longest: int = MAX_NAME_BYTES,
    paths: PathMap = SAME,
) -> Collection:
    """Find the files that `patterns` match; relative ones are below `working_directory`.

    `optional`: those of the patterns that may match nothing. `skip` names files and folders that
    are left out without a word, as real paths (the result store itself, say), `own` more of them:
    but for the folders that the working directory is in. `rights`: with whose
    files are looked for, and opened later; None: with our own. `taken`: names that no file gets;
    `longest`: bytes of the longest that one may get. `paths`: where the job's files are here; what
    is told are the paths that the job has them at. Raises nothing about files: what can't be read
    is a problem. Raises RightsError.
    """
    with acting_as(rights):
        problems: list[str] = []
        missing: list[MissingFile] = []
        here = paths.here(working_directory)
        left_out = frozenset([*skip, *_not_around(here, own)])
        matched: dict[str, tuple[int, _Found]] = {}
        for index, text in enumerate(patterns):
            search = _Search(left_out, paths)
            found = search.look_for(text, working_directory, required=text not in optional)
            problems += search.problems
            missing += search.missing
            for file in sorted(found, key=lambda file: os.fsencode(file.path)):
                matched.setdefault(file.identity, (index, file))
        real = os.path.realpath(here)
    around = (working_directory.rstrip("/"), real.rstrip("/"))
    names = assign_names(
        [
            (file.fixed, file.path, _near(file.path, around, patterns[index]))
            for index, file in matched.values()
        ],
        taken,
        longest,
    )
    files = (
        _collected(name, rights, *found)
        for name, found in zip(names, matched.values(), strict=True)
    )
    return Collection(tuple(files), tuple(problems), tuple(missing))


def _near(path: str, around: tuple[str, str], pattern: str) -> str | None:
    """What the path is called from the working directory: so it is called on every machine."""
    for folder in around:
        if path.startswith(f"{folder}/"):
            return path[len(folder) + 1 :]
    # A relative pattern with `..` in it has led there, through no link.
    return None if pattern.startswith("/") else os.path.relpath(path, around[1] or "/")


def _not_around(working_directory: str, own: Iterable[str]) -> list[str]:
    real = os.path.join(os.path.realpath(working_directory), "")
    return [path for path in own if not real.startswith(os.path.join(path, ""))]


def _collected(name: str, rights: Rights | None, pattern: int, found: _Found) -> CollectedFile:
    what = found.stat
    mode = stat.S_IMODE(what.st_mode)
    source = SourceFile(found.real, rights=rights)
    return CollectedFile(name, found.path, what.st_size, what.st_mtime_ns, mode, pattern, source)


@dataclass(slots=True)
class _Search:
    """One pattern's walk."""

    skip: frozenset[str]
    paths: PathMap
    problems: list[str] = field(default_factory=list)
    missing: list[MissingFile] = field(default_factory=list)
    fixed: str = ""
    found: list[_Found] = field(default_factory=list)
    skipped: bool = False

    def look_for(self, text: str, working_directory: str, *, required: bool) -> list[_Found]:
        """All that a pattern matches."""
        told = f"pattern {shown(text)}"
        try:
            self._run(parse(text, working_directory))
        except PatternError as error:
            self._miss(text, f"{told} {error}")
            return []
        if required and not self.found:
            some = " that can be stored" if self.problems else ""
            some = some or (" but files of runner itself" if self.skipped else "")
            self._miss(text, f"{told} matched nothing{some}")
        return self.found

    def _run(self, pattern: Pattern) -> None:
        self.fixed = pattern.folder
        real = os.path.realpath(self.paths.here(pattern.folder))
        if pattern.literal:
            name = pattern.parts[0]
            self._take_named(os.path.join(pattern.folder, name), os.path.join(real, name))
        else:
            matcher = Matcher(pattern.parts)
            self._walk(pattern.folder, real, matcher, matcher.start())

    def _take_named(self, path: str, identity: str) -> None:
        """What a pattern without a wildcard names: a file, or a folder with all below it."""
        here = self.paths.here(path)
        try:
            what = os.stat(here)
            real = os.path.realpath(here, strict=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.path.islink(here):
                self._tell(path, error)
        except OSError as error:
            self._tell(path, error)
        else:
            if stat.S_ISREG(what.st_mode):
                self._take(path, identity, real, what)
            elif stat.S_ISDIR(what.st_mode):
                matcher = Matcher(("**",))
                self._walk(path, real, matcher, matcher.start())
            else:
                self._leave_out(path, f"is {kind(what.st_mode)}")

    def _walk(self, top: str, real_top: str, matcher: Matcher, start: Positions) -> None:
        pending = [("", start)]
        while pending:
            below, at = pending.pop()
            if self._is_skipped(os.path.join(real_top, below).rstrip("/")):
                continue
            folder = os.path.join(top, below) if below else top
            real = os.path.join(real_top, below) if below else real_top
            for entry, reached in self._entries(folder, real, matcher, at):
                inner = f"{below}/{entry.name}" if below else entry.name
                path = os.path.join(folder, entry.name)
                try:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((inner, reached))
                    else:
                        self._meet(entry, path, real_top, inner, wanted=matcher.end in reached)
                except OSError as error:
                    self._tell(path, error)

    def _entries(
        self, folder: str, real: str, matcher: Matcher, at: Positions
    ) -> Iterator[tuple[os.DirEntry[str], Positions]]:
        try:
            with scan(self.paths.here(folder), real) as entries:
                for entry in entries:
                    if reached := matcher.step(at, entry.name):
                        yield entry, reached
        except (FileNotFoundError, NotADirectoryError):
            return  # gone meanwhile, or a fixed part that was never there: nothing to match
        except OSError as error:
            self._tell(folder, error)

    def _meet(
        self, entry: os.DirEntry[str], path: str, top: str, inner: str, *, wanted: bool
    ) -> None:
        """Take what isn't a folder, if it is `wanted`; a link to a folder is told in any case."""
        identity = os.path.join(top, inner)
        if entry.is_symlink():
            self._meet_link(path, top, identity, wanted=wanted)
        elif wanted:
            what = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(what.st_mode):
                self._take(path, identity, identity, what)
            elif not self._is_skipped(identity):
                self._leave_out(path, f"is {kind(what.st_mode)}")

    def _meet_link(self, path: str, top: str, identity: str, *, wanted: bool) -> None:
        try:
            real = os.path.realpath(self.paths.here(path), strict=True)
            what = os.stat(real)
        except OSError:
            if wanted:
                raise
            return
        if self._is_skipped(identity) or self._is_skipped(real):
            return
        leaves = wanted and not f"{real}/".startswith(os.path.join(top, ""))
        if stat.S_ISDIR(what.st_mode):
            # What a link within the folder leads to is met on its own.
            self._leave_out(path, "is a link to a folder", missing=leaves)
        elif not wanted:
            return
        elif not stat.S_ISREG(what.st_mode):
            self._leave_out(path, f"is a link to {kind(what.st_mode)}")
        elif leaves:
            self._leave_out(path, f"is a link that leaves {shown(top)}", missing=True)
        else:
            self._take(path, identity, real, what)

    def _is_skipped(self, real: str) -> bool:
        if real not in self.skip:
            return False
        self.skipped = True
        return True

    def _take(self, path: str, identity: str, real: str, what: os.stat_result) -> None:
        if not (self.skip and self._is_skipped(identity)):
            self.found.append(_Found(self.fixed, path, identity, real, what))

    def _leave_out(self, path: str, why: str, *, missing: bool = False) -> None:
        self._say(path, f"{why}: left out", missing=missing)

    def _tell(self, path: str, error: OSError) -> None:
        """What isn't there any more, or never was behind its link, is no file that is missed."""
        missing = error.errno not in _NOT_THERE
        self._say(path, f"can't be read: {error.strerror}", missing=missing)

    def _say(self, path: str, why: str, *, missing: bool) -> None:
        text = f"{shown(path)} {why}"
        if missing:
            self._miss(path, text)
        else:
            self.problems.append(text)

    def _miss(self, path: str, why: str) -> None:
        self.problems.append(why)
        self.missing.append(MissingFile(written(path), why))
