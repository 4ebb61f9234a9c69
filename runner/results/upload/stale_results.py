"""Result files that are there at another time than the job that declares them. Pure.

Owns which of those that an earlier upload missed may still count, and which are older than the job.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from runner.results.escape import shown, written
from runner.results.layout import Layout, folders_of
from runner.results.manifest import Manifest, MissingFile
from runner.results.upload.collect import CollectedFile, Collection

MARGIN = 1.0
"""Seconds that a file's time may be off: there are file systems that keep whole seconds only."""

TICK = 0.05
"""The same where it isn't a whole second: the kernel's coarse clock, and a server's."""


@dataclass(frozen=True, slots=True)
class Late:
    """`files` to store after all, and what is `missing` all the same."""

    files: tuple[CollectedFile, ...]
    missing: tuple[MissingFile, ...]


def find_late(
    found: Collection, patterns: Sequence[str], stored: Manifest, ended_at: float
) -> Late:
    """Compare what there is now with what an upload has stored, and has missed.

    A file that was written after `ended_at` (wall time) is the result of something else; one that
    was moved to where it belongs keeps its time.
    """
    before = {each.path for each in stored.missing}
    has = {file.source for file in stored.files}
    latest = int((ended_at + MARGIN) * 1e9)
    files, served = [], set[str]()
    for file in found.files:
        path = written(file.path)
        serves = {written(patterns[file.pattern]), path, *folders_of(path)} & before
        if serves and path not in has and file.mtime_ns <= latest:
            files.append(file)
            served |= serves
    now = {each.path: each for each in found.missing}
    missing = [each for each in stored.missing if each.path not in served or each.path in now]
    missing += [each for path, each in now.items() if _is_below(path, before)]
    return Late(tuple(files), tuple(missing))


def _is_below(path: str, before: set[str]) -> bool:
    return path not in before and not before.isdisjoint(folders_of(path))


def is_older(mtime_ns: int, moment: float) -> bool:
    """Whether a file was written before a moment (wall time)."""
    margin = TICK if mtime_ns % 1_000_000_000 else MARGIN
    return mtime_ns < int((moment - margin) * 1e9)


def without_old(
    found: Collection,
    patterns: Sequence[str],
    checked: Container[str],
    optional: Container[str],
    first_start: float | None,
) -> Collection:
    """The same without the files of ``checked`` patterns that are older than ``first_start``.

    Each is told; of a pattern that must match it counts as missing.
    """
    if first_start is None:
        return found
    files, problems, missing = [], list(found.problems), list(found.missing)
    for file in found.files:
        pattern = patterns[file.pattern]
        if pattern not in checked or not is_older(file.mtime_ns, first_start):
            files.append(file)
            continue
        why = f"{shown(file.path)} is older than the job's first start: left out"
        problems.append(why)
        if pattern not in optional:
            missing.append(MissingFile(written(file.path), why))
    return Collection(tuple(files), tuple(problems), tuple(missing))


def stale_of(manifest: Manifest, layout: Layout, first_start: float | None) -> tuple[str, ...]:
    """The names of the result files that are older than `first_start` (wall time)."""
    if first_start is None:
        return ()
    return tuple(
        file.name
        for file in manifest.files
        if is_older(file.mtime_ns, first_start) and not layout.is_log(file.name)
    )
