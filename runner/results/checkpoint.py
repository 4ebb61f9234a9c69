"""One job's checkpoint: what an interrupted attempt has saved, for the next to go on from.

Owns when a stored checkpoint counts, and when it is brought back. An older one stays whole until a
newer one is: files have names of their own, and the manifest that names them is replaced last.
Must not know when or in which thread it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from runner.results.download.places import relative_to
from runner.results.download.restore import bring_back, plan, readable_manifest
from runner.results.escape import escape, shown
from runner.results.layout import Layout
from runner.results.manifest import FileEntry, Manifest
from runner.results.path_map import SAME, PathMap
from runner.results.store import ResultStore, StoreError
from runner.results.upload.collect import CollectedFile, Collection, collect
from runner.results.upload.source_file import SourceError, WithdrawnError
from runner.results.upload.tries import Tries
from runner.results.upload.upload_record import UploadRecord
from runner.rights import Rights


@dataclass(frozen=True, slots=True)
class JobCheckpoint:
    """Whose checkpoint: that of ``attempt``, which ran in ``working_directory``.

    `rights`: with whose its files are met, None: our own; `own`: as of `collect`. Once `withdrawn`
    is set an upload ends as soon as it can, and what was stored before stays. `record`: where it is
    noted what is stored, between two tries; `paths`: where the job's files are here.
    """

    job_id: str
    run_id: str
    attempt: int
    patterns: tuple[str, ...]
    working_directory: str
    epoch: int = 0
    withdrawn: Event = field(default_factory=Event)
    rights: Rights | None = None
    own: frozenset[str] = frozenset()
    record: Path | None = None
    paths: PathMap = SAME

    def collect(self, store: ResultStore) -> Collection:
        """The files as they are now, but for the store's own. Raises RightsError."""
        folder = store.local_folder
        return collect(
            self.patterns,
            self.working_directory,
            skip=(folder,) if folder else (),
            own=self.own,
            rights=self.rights,
            longest=Layout().longest_name(self.job_id, store.key_bytes),
            paths=self.paths,
        )


@dataclass(frozen=True, slots=True)
class Saved:
    """``files``, ``bytes``: what the newest checkpoint has now. ``problem``: why it isn't this
    attempt's. ``final``: trying again would not help."""

    files: int = 0
    bytes: int = 0
    problem: str | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class BroughtBack:
    """``files``: how many were brought back; ``lost``: why there is no going on from it."""

    files: int = 0
    lost: str | None = None


def save_checkpoint(store: ResultStore, layout: Layout, spec: JobCheckpoint) -> Saved:
    """Store what an attempt has saved. Blocks; repeating it changes nothing.

    An attempt that has saved nothing leaves the older checkpoint, as does one of whose files any
    can't be read: half of a checkpoint is none.
    """
    try:
        return _Saving(store, layout, spec).run()
    except (StoreError, WithdrawnError) as error:
        return Saved(problem=str(error))
    except SourceError as error:
        return Saved(problem=f"{error}: the checkpoint is not stored", final=True)


def restore_checkpoint(
    store: ResultStore, layout: Layout, spec: JobCheckpoint, between: Callable[[], None]
) -> BroughtBack:
    """Have the newest checkpoint where ``spec.attempt``, the job's last, would have left it.

    What is there is never written over. If that attempt was a later one than the checkpoint's,
    what it left is newer, and goes unless nothing is left at all. ``between`` is called before
    each file. Raises StoreError where trying again may help.
    """
    manifest = _manifest(store, layout, spec)
    if manifest is None:
        return BroughtBack()
    if manifest.attempt != spec.attempt and spec.collect(store).files:
        return BroughtBack()
    planned = plan(manifest.files, spec.patterns, spec.working_directory, spec.rights)
    if isinstance(planned, str):
        return BroughtBack(lost=planned)
    count = 0
    for entry, place in planned:
        between()
        back = bring_back(store, entry, place, spec.rights)
        if isinstance(back, str):
            return BroughtBack(count, back)
        count += back
    return BroughtBack(count)


def _manifest(store: ResultStore, layout: Layout, spec: JobCheckpoint) -> Manifest | None:
    """The newest checkpoint's, if it is this run's."""
    manifest = readable_manifest(store, layout.checkpoint_manifest_key(spec.job_id))
    return manifest if manifest is not None and manifest.run_id == spec.run_id else None


class _Saving:
    """One upload of a checkpoint."""

    def __init__(self, store: ResultStore, layout: Layout, spec: JobCheckpoint) -> None:
        self._store = store
        self._layout = layout
        self._spec = spec
        self._prefix = layout.checkpoint_prefix(spec.job_id)
        self._known: dict[str, FileEntry] = {}
        self._record = UploadRecord(spec.record, spec.run_id, store.describe())

    def run(self) -> Saved:
        spec, store = self._spec, self._store
        store.clean_up(self._prefix)
        there = {entry.key: entry for entry in store.list(self._prefix)}
        manifest_key = self._layout.checkpoint_manifest_key(spec.job_id)
        previous = _manifest(store, self._layout, spec) if manifest_key in there else None
        if previous is not None and previous.epoch > spec.epoch:
            raise StoreError(
                f"a later start of this run (epoch {previous.epoch}) has stored {manifest_key}"
            )
        if previous is not None and (previous.epoch, previous.attempt) == (
            spec.epoch,
            spec.attempt,
        ):
            return _told(previous)
        for entry in previous.files if previous else ():
            if (stored := there.get(entry.key)) is not None and stored.size == entry.size:
                self._known[entry.source] = entry
        found = spec.collect(store)
        if not found.files:
            return _told(previous) if previous else Saved()
        noted = self._record.read(there)
        self._known |= {entry.source: entry for entry in noted.values()}
        manifest = Manifest(
            run_id=spec.run_id,
            epoch=spec.epoch,
            job_id=spec.job_id,
            attempt=spec.attempt,
            completed=False,
            files=tuple(self._store_all(found.files)),
            problems=found.problems,
        )
        store.flush(self._prefix)
        store.put_bytes(manifest_key, manifest.to_bytes(), durable=True)
        self._record.remove()
        for key in sorted(there.keys() - {entry.key for entry in manifest.files} - {manifest_key}):
            store.delete(key)
        store.discard_unfinished(self._prefix)
        return _told(manifest)

    def _store_all(self, files: Sequence[CollectedFile]) -> list[FileEntry]:
        tries = Tries(self._store_one, self._store.parallel)
        try:
            entries = tries.run(files)
        except BaseException:
            self._record.write()
            raise
        for _, error in tries.refused:
            raise error
        return [entry for entry in entries if entry is not None]

    def _store_one(self, file: CollectedFile) -> FileEntry:
        """Its entry; what an older checkpoint has, or an earlier try, isn't stored again."""
        spec, source = self._spec, replace(file.source, withdrawn=self._spec.withdrawn)
        path = escape(file.path)
        known = self._known.get(path)
        if known is not None and known.looks_like(source.stat()):
            return known
        key = self._layout.checkpoint_key(spec.job_id, spec.epoch, spec.attempt, file.name)
        stored = self._store.put_file(key, source, durable=True)
        if stored.changed:
            raise SourceError(f"{shown(file.path)} changed while it was read")
        entry = FileEntry(
            key=key,
            name=key.removeprefix(self._layout.job_prefix(spec.job_id)),
            size=stored.size,
            sha256=stored.sha256,
            mtime_ns=stored.mtime_ns,
            mode=stored.mode,
            source=path,
            attempt=spec.attempt,
            relative=relative_to(file.path, spec.working_directory),
        )
        self._record.note(entry, stored.etag)
        return entry


def _told(manifest: Manifest) -> Saved:
    return Saved(len(manifest.files), sum(file.size for file in manifest.files))
