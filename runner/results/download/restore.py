"""Whether a job's result files still are where it left them, and bringing back those that are gone.

Owns what counts as gone: a file that isn't there, or that was cut short without being written to.
What has been changed since is somebody's work, and left alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.errors import StateError
from runner.results.contained_folder import Beneath
from runner.results.download.places import Place, Places
from runner.results.escape import shown, unescape
from runner.results.file_copy import hash_file
from runner.results.layout import Layout
from runner.results.manifest import FileEntry, Manifest, parse_manifest
from runner.results.store import ResultStore, StoreError
from runner.results.upload.collect import collect
from runner.rights import Rights, acting_as


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """Whose files: the attempt that made them, and where it looked for its patterns' matches.

    `rights`: with whose they are looked at and written; None: with our own. `optional`, `own`: as
    of `collect`. `same_boot`: nothing but a person or a job can have touched them.
    """

    job_id: str
    run_id: str
    attempt: int
    patterns: tuple[str, ...]
    working_directory: str
    rights: Rights | None = None
    optional: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    same_boot: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """``files``: how many were brought back; ``lost``: why what is gone can't be, else None."""

    files: int = 0
    lost: str | None = None


def restore_job(
    stores: tuple[ResultStore, ...], layout: Layout, wanted: RestoreRequest
) -> Restored:
    """Look at every result file that a manifest names; fetch what is gone from that store.

    The first of ``stores`` that has this attempt's manifest counts. Without any the patterns have
    to match something; within a boot that is enough, too, while a store doesn't answer. Raises
    StoreError where trying again may help.
    """
    for store in stores:
        try:
            manifest = _manifest(store, layout, wanted)
        except StoreError:
            if wanted.same_boot and (found := _matched(wanted)).lost is None:
                return found
            raise
        if manifest is not None:
            return _restore(store, layout, manifest, wanted)
    return _matched(wanted)


def _matched(wanted: RestoreRequest) -> Restored:
    """What is known without a manifest: whether each pattern matches something."""
    found = collect(
        wanted.patterns,
        wanted.working_directory,
        optional=wanted.optional,
        own=wanted.own,
        rights=wanted.rights,
    )
    unmatched = (each.why for each in found.missing if each.path in wanted.patterns)
    return Restored(lost=next(unmatched, None))


def readable_manifest(store: ResultStore, key: str) -> Manifest | None:
    """What is stored under the key, if that is a manifest. Raises StoreError."""
    data = store.get_bytes(key)
    try:
        return None if data is None else parse_manifest(data)
    except StateError:
        return None


def _manifest(store: ResultStore, layout: Layout, wanted: RestoreRequest) -> Manifest | None:
    manifest = readable_manifest(store, layout.manifest_key(wanted.job_id))
    if manifest is None:
        return None
    ours = (manifest.run_id, manifest.attempt, manifest.completed)
    return manifest if ours == (wanted.run_id, wanted.attempt, True) else None


def _restore(
    store: ResultStore, layout: Layout, manifest: Manifest, wanted: RestoreRequest
) -> Restored:
    files = [entry for entry in manifest.files if not layout.is_log(entry.name)]
    planned = plan(files, wanted.patterns, wanted.working_directory, wanted.rights)
    if isinstance(planned, str):
        return Restored(lost=planned)
    count = 0
    for entry, place in planned:
        back = bring_back(store, entry, place, wanted.rights)
        if isinstance(back, str):
            return Restored(count, back)
        count += back
    return Restored(count)


def plan(
    files: Iterable[FileEntry],
    patterns: Sequence[str],
    working_directory: str,
    rights: Rights | None,
) -> list[tuple[FileEntry, Place]] | str:
    """Where each file of a manifest belongs here, before any is looked at; or why one doesn't.

    Half of what was stored together would be taken for all of it.
    """
    with acting_as(rights):
        places = Places(patterns, working_directory)
    planned = []
    for entry in files:
        place = places.of(entry)
        if place is None:
            where = shown(unescape(entry.source))
            return f"{where} is in the manifest, and no pattern of the job would find it here"
        planned.append((entry, place))
    return planned


def bring_back(
    store: ResultStore, entry: FileEntry, place: Place, rights: Rights | None
) -> bool | str:
    """Whether the file was gone and has been brought back; or why it couldn't be.

    A folder that the document names may be reached through a link, what is below it may not.
    Raises StoreError.
    """
    folder, below = os.fsencode(place.folder), os.fsencode(place.below)
    try:
        if not _is_gone(folder, below, entry, rights):
            return False
        with (
            Beneath.open(folder, rights, make=True) as opened,
            opened.replacing(below, durable=True) as target,
        ):
            if not store.get_file(entry.key, target, entry.size):
                raise _Missing
            if hash_file(target, entry.size) != entry.sha256:
                raise _Missing
            os.fchmod(target, entry.mode & 0o777)
            os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))
    except _Missing:
        return f"{shown(place.path)} is gone, and {store.describe()} has no copy of it"
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return f"{shown(place.path)} is gone, and can't be written again: {why}"
    return True


def _is_gone(folder: bytes, below: bytes, entry: FileEntry, rights: Rights | None) -> bool:
    """Whether it isn't there, or was cut short.

    A size that differs under the same mtime is what a power cut leaves.
    """
    try:
        with Beneath.open(folder, rights) as opened:
            found = opened.stat(below)
    except OSError:
        return True
    untouched = found.st_mtime_ns == entry.mtime_ns
    return not stat.S_ISREG(found.st_mode) or (untouched and found.st_size != entry.size)


class _Missing(Exception):
    """The store doesn't have what the manifest says."""
