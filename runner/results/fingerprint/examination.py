"""Whether a job would do what it has done before: looked at before it starts, noted at its end.

Three steps, each in a thread. ``examine`` before a first attempt: what the job depends on is
hashed, and compared with its last completed run. ``seal`` when its command has ended: nothing of
that has changed meanwhile. ``complete`` once that end counts: what it made is hashed, and the
record for the next run is kept. Between them the record of the run under way carries what is known:
whatever cuts them off, the job is at worst run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from runner.model.fingerprint import Fingerprint, differences, file_differences
from runner.results.download.restore import RestoreRequest, restore_job
from runner.results.fingerprint.hash_cache import HashCache
from runner.results.fingerprint.hashing import hash_all
from runner.results.fingerprint.record import (
    CompletedRun,
    RunUnderWay,
    encode,
    forget_completed,
    read_completed,
    read_under_way,
    write_under_way,
)
from runner.results.fingerprint.walk import FoundEntry, Walk, walk
from runner.results.layout import Layout
from runner.results.store import ResultStore
from runner.rights import Rights

FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class FileSet:
    """Globs, the folder that they are relative to, and what their names begin with in a record."""

    patterns: tuple[str, ...]
    working_directory: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """A job as it is looked at. ``parts``: of its document; ``inputs``: all that it reads, of its
    own and of what its dependencies have left; ``results``: all that it makes, which ``optional``
    ones needn't be there. ``under_way``: where a run of it is noted. ``own``: no file of anybody.
    ``only_run``: no other run's results are taken. ``again``: it has begun in this run already;
    ``forced``: it is to run, whatever is found.
    ``unknown``: why it can't be known whether something that it depends on is as it was.
    """

    job_id: str
    run_id: str
    parts: Mapping[str, str]
    inputs: tuple[FileSet, ...]
    results: FileSet
    under_way: Path
    optional: frozenset[str] = frozenset()
    rights: Rights | None = None
    own: frozenset[str] = frozenset()
    only_run: bool = False
    again: bool = False
    forced: bool = False
    unknown: str | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """``unchanged``: the run whose results stand; None: the job has to run, for ``why``: in a few
    words, None where it never has before. ``restored``: so many results came from the store."""

    unchanged: CompletedRun | None = None
    why: str | None = None
    restored: int = 0


Check = Callable[[], None]
"""Raises once nobody wants the answer any more."""


def examine(
    subject: Subject, stores: Sequence[ResultStore], cache: HashCache, check: Check
) -> Examined:
    """Look at a job that is about to start for the first time. ``stores``: this run's, and those of
    former runs, the last first. Raises StoreError, OSError."""
    began = time.time()
    seen, now, faults = _inputs(subject, cache, check)
    before = None
    if not (subject.again or subject.forced):
        before = read_completed(stores, subject.job_id)
    if before is not None and subject.only_run and before.run_id != subject.run_id:
        before = None
    told = [subject.unknown] if subject.unknown else []
    told += faults
    if before is not None:
        told += differences(before.fingerprint, now)
    if before is not None and not told:
        restored, told = _results_stand(subject, before, stores, cache, check)
        if not told:
            return Examined(before, restored=restored)
    if not subject.results.patterns:
        # What it makes can't be looked at: from its start on nobody knows whether that still is
        # what its last run has made.
        forget_completed(stores[0], subject.job_id)
    with suppress(OSError):  # without the note it is run again the next time
        _note(subject, now, seen, faults, cache, began)
    return Examined(why="; ".join(told[:5]) if before is not None or faults else None)


def _inputs(
    subject: Subject, cache: HashCache, check: Check
) -> tuple[dict[str, FoundEntry], Fingerprint, list[str]]:
    seen, faults = _look(subject, check)
    files, unreadable = hash_all(seen, cache, rights=subject.rights, check=check)
    return seen, Fingerprint(subject.parts, files), faults + unreadable


def _look(subject: Subject, check: Check) -> tuple[dict[str, FoundEntry], list[str]]:
    seen: dict[str, FoundEntry] = {}
    faults: list[str] = []
    for files in subject.inputs:
        check()
        found = _walked(files, subject)
        faults += found.unreadable
        seen |= {f"{files.prefix}{name}": each for name, each in found.found.items()}
    return seen, faults


def _walked(files: FileSet, subject: Subject) -> Walk:
    folder = files.working_directory
    return walk(files.patterns, folder, own=subject.own, rights=subject.rights)


def _results_stand(
    subject: Subject,
    before: CompletedRun,
    stores: Sequence[ResultStore],
    cache: HashCache,
    check: Check,
) -> tuple[int, list[str]]:
    """How many were brought back, and what is not as the last run has left it."""
    made, faults = _made(subject, cache, check)
    if faults or made == before.results:
        return 0, faults
    left = {name: text for name, text in before.results.items() if name in made}
    if left != made:
        return 0, [f"result {each}" for each in file_differences(left, made)]
    wanted = RestoreRequest(
        subject.job_id,
        before.run_id,
        before.attempt,
        subject.results.patterns,
        subject.results.working_directory,
        subject.rights,
        subject.optional,
        subject.own,
    )
    restored = restore_job(tuple(stores), Layout(), wanted)
    made, faults = _made(subject, cache, check)
    if faults or made == before.results:
        return restored.files, faults
    gone = [f"result {each}" for each in file_differences(before.results, made)]
    return 0, [f"{each}, and is not in the result store" for each in gone]


def _made(subject: Subject, cache: HashCache, check: Check) -> tuple[dict[str, str], list[str]]:
    """What its result files hold now. Where a link leads, or an empty folder, is no result."""
    found = _walked(subject.results, subject)
    files = {name: each for name, each in found.found.items() if each.signature is not None}
    files = {name: each._replace(said="") for name, each in files.items()}
    told, unreadable = hash_all(files, cache, rights=subject.rights, check=check)
    return told, found.unreadable + unreadable


def _note(
    subject: Subject,
    now: Fingerprint,
    seen: Mapping[str, FoundEntry],
    faults: Sequence[str],
    cache: HashCache,
    began: float,
) -> None:
    """Keep what was found until the job has ended. Raises OSError."""
    record = RunUnderWay(
        subject.run_id,
        now.parts,
        now.files,
        {name: tuple(each.signature) for name, each in seen.items() if each.signature},
        tuple(
            name
            for name, each in seen.items()
            if each.signature and not cache.is_settled(each.signature, each.device, began)
        ),
    )
    if faults or subject.unknown:
        record = record.spoiled([*faults, *([subject.unknown] if subject.unknown else [])])
    if subject.again and (former := read_under_way(subject.under_way)) is not None:
        # It goes on from what it has made of what it found then.
        if former.run_id == subject.run_id:
            more = differences(Fingerprint(former.parts, former.files), now)
            record = record.spoiled([*former.changed, *more])
    write_under_way(subject.under_way, record)


def seal(subject: Subject, attempt: int, cache: HashCache) -> tuple[str, ...]:
    """The command of an attempt has ended with 0: see that it ended with what it began with.

    What has changed under it, in words; then nothing is kept of it. Raises OSError.
    """
    record = read_under_way(subject.under_way)
    if record is None or record.run_id != subject.run_id:
        return ()
    seen, faults = _look(subject, _wanted)
    told = list(faults)
    changed = set(seen.keys() ^ record.files.keys())
    doubtful: dict[str, FoundEntry] = {}
    for name, each in seen.items():
        before = record.signature(name)
        if name in changed:
            continue
        if each.signature is None or before is None:
            if each.signature is not before or record.files[name] != each.said:
                changed.add(name)
        elif each.signature[:2] != before[:2]:
            changed.add(name)
        elif each.signature != before or name in record.racy:
            # Only its name, its links or its permissions have changed; or it can't be told.
            doubtful[name] = each
    now, unreadable = hash_all(doubtful, cache, rights=subject.rights)
    changed |= {name for name in doubtful if now[name] != record.files[name]}
    told += unreadable
    if changed:
        before_files = {name: record.files[name] for name in changed if name in record.files}
        after = {name: "" for name in changed if name in seen}
        told += file_differences(before_files, after)
    results = _walked(subject.results, subject)
    told += results.unreadable
    record = replace(
        record.spoiled(told),
        attempt=attempt,
        results={
            name: tuple(each.signature)
            for name, each in results.found.items()
            if each.signature is not None
        },
    )
    write_under_way(subject.under_way, record)
    return record.changed


def _wanted() -> None:
    """Nobody calls it off."""


def _stand(sealed: Mapping[str, tuple[int, ...]], now: Mapping[str, FoundEntry]) -> bool:
    """Whether nobody has written to the results since. Links to one may have been made."""
    if sealed.keys() != now.keys():
        return False
    pairs = ((sealed[name], each.signature) for name, each in now.items())
    return all(
        after is not None and (*before[:2], *before[3:]) == (*after[:2], *after[3:])
        for before, after in pairs
    )


def retain(subject: Subject, former: CompletedRun, attempt: int, store: ResultStore) -> None:
    """The results of a former run are this run's now: its record says so. Raises StoreError."""
    kept = replace(former, run_id=subject.run_id, attempt=attempt)
    store.put_bytes(Layout().fingerprint_key(subject.job_id), encode(kept), durable=True)


def complete(
    subject: Subject, attempt: int, store: ResultStore, cache: HashCache, check: Check
) -> bool:
    """That end counts: keep the record that the next run goes by; whether there is one now.

    Without one that can be gone by, an older one is removed: the results are not its any more.
    Raises StoreError, OSError.
    """
    key = Layout().fingerprint_key(subject.job_id)
    record = read_under_way(subject.under_way)
    ours = record is not None and (record.run_id, record.attempt) == (subject.run_id, attempt)
    if record is None or not ours:
        return False
    if not record.changed:
        found = _walked(subject.results, subject)
        now = {name: each for name, each in found.found.items() if each.signature is not None}
        if _stand(record.results, now) and not found.unreadable:
            made, faults = hash_all(
                {name: each._replace(said="") for name, each in now.items()},
                cache,
                rights=subject.rights,
                check=check,
            )
            if not faults:
                done = CompletedRun(
                    subject.run_id,
                    attempt,
                    f"{subject.run_id}/{attempt}",
                    record.parts,
                    record.files,
                    made,
                )
                store.put_bytes(key, encode(done), durable=True)
                subject.under_way.unlink(missing_ok=True)
                return True
    forget_completed(store, subject.job_id)
    subject.under_way.unlink(missing_ok=True)
    return False
