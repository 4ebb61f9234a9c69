"""One job's upload: its result files and logs, then the manifest that makes them count.

Owns the order of the steps, so that whatever instant it is cut at, a repetition ends in the same
state. Must not know which store it is, nor when or in which thread it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event

from runner.errors import StateError
from runner.results.download.places import relative_to
from runner.results.escape import escape, shown, unescape, written
from runner.results.folder import FolderStore
from runner.results.layout import MAX_NAME_BYTES, STREAMS, Layout, folders_of
from runner.results.manifest import FileEntry, Manifest, MissingFile, parse_manifest
from runner.results.path_map import SAME, PathMap
from runner.results.store import Entry, ResultStore, StoreError
from runner.results.upload.collect import CollectedFile, Collection, collect
from runner.results.upload.other_objects import remove_others
from runner.results.upload.progress import Progress
from runner.results.upload.source_file import SourceError, SourceFile, WithdrawnError
from runner.results.upload.stale_results import find_late, stale_of, without_old
from runner.results.upload.tries import Tries
from runner.results.upload.upload_record import UploadRecord
from runner.rights import Rights

MAX_PROBLEMS = 1_000
"""How many problems are told one by one."""

TOLD = 20
"""How many of them a job's state names."""


@dataclass(frozen=True, slots=True)
class JobUpload:
    """What to upload of a job whose attempt `attempt` has ended.

    `completed`: its result files count, not only its logs. `stdout`, `stderr`: that attempt's logs;
    `earlier_attempts`: number and logs of the others. `durable`: what is stored survives a power
    cut. `logs_final`: nobody writes to the logs any more, so the store may link them and a finished
    upload need not look at them again; false for a job that keeps processes in the background.
    `optional`: the patterns that may match nothing. `own`: files and folders of ours, as real
    paths: they are no results. `ended_at`: when the attempt did, `first_start`:
    when the job's first attempt began, both wall time.
    `logs`: false for result files alone. `spool`: copies of the result files that an upload has
    made: they are taken from there, for dependants may change the originals.
    `rights`: whose the result files are; None: ours, as the logs are.
    Once `withdrawn` is set the upload ends as soon as it can, without success. `progress` is told
    how it comes along, over all tries; `record`: where it is noted what is stored meanwhile.
    `longest_name`: bytes of the longest name that the result store takes. `results`: so many of the
    patterns are of results, None: all; those behind them are of outputs, for other jobs only.
    `paths`: where the job's files are here. `checked`: those of the patterns whose files count as
    missing where they are older than `first_start`. `former`: the run and attempt that the results
    were stored for, where this run has taken them over: what is stored and is as it was stays.
    """

    job_id: str
    run_id: str
    epoch: int
    attempt: int
    completed: bool
    patterns: tuple[str, ...]
    working_directory: str
    stdout: Path
    stderr: Path
    earlier_attempts: tuple[tuple[int, Path, Path], ...] = ()
    durable: bool = False
    logs_final: bool = True
    logs: bool = True
    spool: FolderStore | None = None
    withdrawn: Event | None = None
    rights: Rights | None = None
    progress: Progress | None = None
    record: Path | None = None
    longest_name: int = MAX_NAME_BYTES
    optional: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    ended_at: float | None = None
    first_start: float | None = None
    results: int | None = None
    paths: PathMap = SAME
    checked: frozenset[str] = frozenset()
    former: tuple[str, int] | None = None

    def of_epoch(self, epoch: int) -> JobUpload:
        """The same upload, by the store's owner of this epoch."""
        return replace(self, epoch=epoch)

    def for_copies(self) -> JobUpload:
        """The same result files, for a store that keeps copies of them on this machine."""
        return replace(self, logs=False, spool=None, withdrawn=None, durable=True, record=None)


@dataclass(frozen=True, slots=True)
class UploadOutcome:
    """`ok`: the manifest is in place, and all that could be read is stored; else try again.

    `problems`: what was left out and why, or why it isn't ok. `files`, `bytes`: what the manifest
    names, logs included. `final`: trying again would not help. `missing`: those of the problems
    that make the results incomplete. `stale`: the names of result files that are older than the
    job's first start.
    """

    ok: bool
    problems: tuple[str, ...]
    files: int
    bytes: int
    final: bool = False
    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()

    @property
    def told(self) -> str | None:
        """The problems in one text, what is missing first."""
        others = [text for text in self.problems if text not in set(self.missing)]
        return "; ".join(_some([*self.missing, *others], TOLD)) or None


def _some(texts: Sequence[str], most: int) -> tuple[str, ...]:
    more = len(texts) - most
    return (*texts[:most], f"… ({more} more)") if more > 0 else tuple(texts)


def upload_job(store: ResultStore, layout: Layout, spec: JobUpload) -> UploadOutcome:
    """Store what a job left behind. Blocks until it is done; raises nothing for its surroundings.

    An attempt whose manifest is in place is done: repeating its upload changes nothing, whatever
    has become of its files since, but that what was missing is looked for again. What is below the
    job's prefix and not in the manifest is removed once that is in place.
    """
    try:
        manifest = _Upload(store, layout, spec).run()
    except (StoreError, WithdrawnError) as error:
        return UploadOutcome(False, (str(error),), 0, 0)
    size = sum(file.size for file in manifest.files)
    missing = tuple(each.why for each in manifest.missing)
    return UploadOutcome(
        True,
        manifest.problems,
        len(manifest.files),
        size,
        missing=missing,
        stale=_some(stale_of(manifest, layout, spec.first_start), TOLD),
    )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One file to store; `path` is how a manifest tells where it was. `log`: it is no result.

    `output`: it is none either, and other jobs need it.
    """

    key: str
    attempt: int
    source: SourceFile
    path: str
    link: bool = False
    log: bool = False
    output: bool = False


@dataclass(slots=True)
class _Upload:
    store: ResultStore
    layout: Layout
    spec: JobUpload
    there: dict[str, Entry] = field(default_factory=dict)
    known: dict[str, FileEntry] = field(default_factory=dict)
    noted: dict[str, FileEntry] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    missing: list[MissingFile] = field(default_factory=list)
    stored: Manifest | None = None

    def run(self) -> Manifest:
        prefix = self.layout.job_prefix(self.spec.job_id)
        self.store.clean_up(prefix)
        self.there = {entry.key: entry for entry in self.store.list(prefix)}
        record = UploadRecord(self.spec.record, self.spec.run_id, self.store.describe())
        previous = self._previous()
        if previous and self._is_done(previous):
            manifest = previous
        else:
            if previous and self._has_results(previous):
                self.stored = previous
            self.noted = record.read(self.there)
            try:
                manifest = self._store_all(record)
            except BaseException:
                record.write()
                raise
        if self.spec.durable:
            self.store.flush(prefix)
        if manifest != previous:
            key = self.layout.manifest_key(self.spec.job_id)
            self.store.put_bytes(key, manifest.to_bytes(), durable=self.spec.durable)
        record.remove()
        remove_others(self.store, self.layout, manifest, self.there.values())
        self.store.discard_unfinished(prefix)
        return manifest

    def _previous(self) -> Manifest | None:
        """This run's manifest of an earlier upload. Raises StoreError if it is of a later start."""
        key = self.layout.manifest_key(self.spec.job_id)
        data = self.store.get_bytes(key) if key in self.there else None
        if data is None:
            return None
        try:
            manifest = parse_manifest(data)
        except StateError:
            return None  # this upload replaces it
        if manifest.run_id != self.spec.run_id:
            if self.spec.former == (manifest.run_id, manifest.attempt) and manifest.completed:
                kept = (file for file in manifest.files if self._is_there(file))
                self.known = {file.key: replace(file, attempt=self.spec.attempt) for file in kept}
            return None
        if manifest.epoch > self.spec.epoch:
            raise StoreError(f"a later start of this run (epoch {manifest.epoch}) has stored {key}")
        self.known = {file.key: file for file in manifest.files if self._is_there(file)}
        return manifest

    def _is_done(self, previous: Manifest) -> bool:
        return self.spec.logs_final and self._has_results(previous) and not previous.missing

    def _has_results(self, previous: Manifest) -> bool:
        spec = self.spec
        return (previous.attempt, previous.completed) == (spec.attempt, spec.completed) and len(
            self.known
        ) == len(previous.files)

    def _is_there(self, file: FileEntry) -> bool:
        found = self.there.get(file.key)
        return found is not None and found.size == file.size

    def _store_all(self, record: UploadRecord) -> Manifest:
        spec = self.spec
        wanted = [*self._results(), *(self._logs() if spec.logs else ())]
        self._make_way(wanted)
        tries = Tries(partial(self._store, record), self.store.parallel)
        new = {entry.key: entry for entry in tries.run(wanted) if entry}
        for file, error in tries.refused:
            self._leave_out(file, f"{shown(file.path)} is refused: {error}")
        # Where a source is gone (a tmpfs after a reboot), what was stored of it is not.
        earlier = [*self.known.values(), *self.noted.values()]
        kept = (file for file in earlier if file.attempt == spec.attempt)
        files = {file.key: file for file in kept if self._is_there(file)} | new
        return Manifest(
            run_id=spec.run_id,
            epoch=spec.epoch,
            job_id=spec.job_id,
            attempt=spec.attempt,
            completed=spec.completed,
            files=tuple(files.values()),
            problems=_some(list(dict.fromkeys(self.problems)), MAX_PROBLEMS),
            missing=tuple(dict.fromkeys(self.missing))[:MAX_PROBLEMS],
        )

    def _results(self) -> Iterator[_Wanted]:
        spec = self.spec
        if not (spec.completed and spec.patterns):
            return
        if self.stored:
            # Only the logs have grown since: others may have written to the originals by now.
            self.problems += self.stored.problems
            if self.stored.missing:
                yield from self._late(self.stored)
            return
        if spec.spool is not None and (spooled := self._spooled(spec.spool)):
            self._tell(spooled.problems, spooled.missing)
            for entry in spooled.files:
                source = self._watched(spec.spool.source(entry.key))
                path = unescape(entry.source)
                yield _Wanted(entry.key, entry.attempt, source, path, output=entry.output)
            return
        found = self._collect()
        self._tell(found.problems, found.missing)
        yield from map(self._wanted, found.files)

    def _collect(self, taken: Iterable[str] = ()) -> Collection:
        spec, folder = self.spec, self.store.local_folder
        found = collect(
            spec.patterns,
            spec.working_directory,
            optional=spec.optional,
            skip=(folder,) if folder else (),
            own=spec.own,
            rights=spec.rights,
            taken=taken,
            longest=spec.longest_name,
            paths=spec.paths,
        )
        if not spec.checked:
            return found
        return without_old(found, spec.patterns, spec.checked, spec.optional, spec.first_start)

    def _tell(self, problems: Iterable[str], missing: Iterable[MissingFile]) -> None:
        self.problems += problems
        self.missing += missing

    def _wanted(self, file: CollectedFile) -> _Wanted:
        key = self.layout.file_key(self.spec.job_id, file.name)
        output = self.spec.results is not None and file.pattern >= self.spec.results
        source = self._watched(file.source)
        return _Wanted(key, self.spec.attempt, source, file.path, output=output)

    def _late(self, stored: Manifest) -> Iterator[_Wanted]:
        """What was missing when the rest was stored, and is there now."""
        spec = self.spec
        if spec.spool is not None or spec.ended_at is None:
            self.missing += stored.missing
            return
        found = self._collect(taken=[file.name for file in stored.files])
        late = find_late(found, spec.patterns, stored, spec.ended_at)
        told = {each.why for each in stored.missing} - {each.why for each in late.missing}
        self.problems = [text for text in self.problems if text not in told]
        self._tell([each.why for each in late.missing], late.missing)
        yield from map(self._wanted, late.files)

    def _spooled(self, spool: FolderStore) -> Manifest | None:
        """The manifest of the copies, if all of them were made."""
        data = spool.get_bytes(self.layout.manifest_key(self.spec.job_id))
        try:
            manifest = parse_manifest(data) if data is not None else None
        except StateError as error:
            where = "what is stored was taken from where the files are now"
            self.problems.append(f"copies of the results can't be used ({error}): {where}")
            return None
        if manifest is None or manifest.run_id != self.spec.run_id:
            return None
        return manifest if manifest.attempt == self.spec.attempt else None

    def _watched(self, source: SourceFile) -> SourceFile:
        return replace(source, withdrawn=self.spec.withdrawn, progress=self.spec.progress)

    def _logs(self) -> Iterator[_Wanted]:
        spec, layout = self.spec, self.layout
        newest = (spec.attempt, spec.stdout, spec.stderr)
        for attempt, *paths in (newest, *spec.earlier_attempts):
            for stream, path in zip(STREAMS, paths, strict=True):
                name = layout.log_name(attempt, spec.attempt, stream)
                yield self._log(layout.file_key(spec.job_id, name), attempt, path)

    def _log(self, key: str, attempt: int, path: Path) -> _Wanted:
        text = str(path)
        source = self._watched(SourceFile(text, ours=True))
        return _Wanted(key, attempt, source, text, self.spec.logs_final, log=True)

    def _make_way(self, wanted: list[_Wanted]) -> None:
        """Remove old keys that are a folder of a new one, or the other way round."""
        if not self.there:
            return
        new = {file.key for file in wanted}
        folders = {folder for key in new for folder in folders_of(key)}
        for old in list(self.there):
            if old in folders or not new.isdisjoint(folders_of(old)):
                self.store.delete(old)
                del self.there[old]

    def _store(self, record: UploadRecord, file: _Wanted) -> FileEntry | None:
        known = self.noted.get(file.key) or self.known.get(file.key)
        if known and not (known.attempt == file.attempt and self._is_there(known)):
            known = None
        try:
            if known and known.looks_like(file.source.stat()):
                return known
            durable = self.spec.durable
            stored = self.store.put_file(file.key, file.source, durable=durable, link=file.link)
        except SourceError as error:
            if not known:
                self._leave_out(file, str(error))
            return known
        if stored.changed:
            self.problems.append(f"{shown(file.path)} changed while it was read")
        entry = FileEntry(
            key=file.key,
            name=file.key.removeprefix(self.layout.job_prefix(self.spec.job_id)),
            size=stored.size,
            sha256=stored.sha256,
            mtime_ns=stored.mtime_ns,
            mode=stored.mode,
            source=escape(file.path),
            attempt=file.attempt,
            relative=relative_to(file.path, self.spec.working_directory),
            output=file.output,
        )
        if not stored.changed:
            record.note(entry, stored.etag)
        return entry

    def _leave_out(self, file: _Wanted, why: str) -> None:
        why = f"{why}: left out"
        self.problems.append(why)
        if not file.log:
            self.missing.append(MissingFile(written(file.path), why))
