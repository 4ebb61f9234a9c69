"""Where the results of a job's tasks are, and which run of a task counts.

Each run of a task has a folder of its own, so that two that overlap (a worker that was frozen, and
the one that has its task now) never write to one file. ``success.json`` beside them, the marker,
names the run that counts. It is written once, and only if it isn't there: the first to write it has
done the task, and every other adopts what it says.

    <work>/<image group>/success.json       of a volume
    <work>/<image group>/<run>/…            a run's results, laid out as a queue's are
    _items/<key>/…                          the same of any other item
    …/_v<digest>/…                          the same, of one version of the task's manifest
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runner.errors import disk_error
from runner.files import sync_folder
from runner.fleet.records import FleetJob, FleetTask, Metrics
from runner.fleet.task_rows import parse_metrics
from runner.model.records import Count, parse
from runner.model.settings import Settings
from runner.results.store import ChangedError, ResultStore
from runner.service.result_stores import StoreRequest, opened
from runner.timestamps import rfc3339

MARKER = "success.json"


@dataclass(frozen=True, slots=True)
class SuccessMarker:
    """What a marker says: which run of the task counts, and its metrics."""

    task: str
    run: Count
    epoch: Count
    worker: str = ""
    finished_at: str = ""
    duration_ms: float | None = None
    metrics: Any = field(default_factory=dict)

    def measured(self) -> Metrics:
        """The metrics of the run that counts. Raises RecordError."""
        raw = json.dumps(self.metrics)
        return parse_metrics(raw, f"{MARKER} of {self.task}", self.duration_ms)


@dataclass(frozen=True, slots=True)
class TaskLog:
    """What one job of a run has printed to ``stdout`` or ``stderr``."""

    job: str
    stream: str
    data: bytes


def folder_of(task: FleetTask) -> str:
    """The task's folder in the store of its job; no two tasks share one, nor two manifests."""
    folder = item_folder(task.key)
    if task.w_id is not None and task.i_id is not None:
        folder = f"{_word(task.w_id)}/{_word(task.i_id)}"
    if task.etag is None:
        return folder
    return f"{folder}/_v{hashlib.sha256(task.etag.encode()).hexdigest()[:16]}"


def item_folder(key: str) -> str:
    """The folder of a task that is no volume."""
    return f"_items/{_word(key)}"


def _word(text: str) -> str:
    """One part of a key, and of a path."""
    made = quote(text, safe="") or "%"
    return f"%{ord(made[0]):02X}{made[1:]}" if made[0] in "._" else made


class TaskStore:
    """The store of one job's tasks, for any thread."""

    def __init__(self, where: str, settings: Settings) -> None:
        store = opened(StoreRequest(where.rstrip("/")), settings)
        assert store is not None
        self._store: ResultStore = store

    def describe(self) -> str:
        """Where it is."""
        return self._store.describe()

    def prepare(self) -> list[str]:
        """Try whether it can be written to. Raises UsageError."""
        return self._store.prepare()

    def run_store(self, task: FleetTask) -> ResultStore:
        """The store of the task's run, to be closed by who runs it."""
        return self._store.below(f"{folder_of(task)}/{task.run}")

    def read(self, task: FleetTask) -> SuccessMarker | None:
        """The task's marker, if it is done. Raises StoreError, RecordError."""
        key = f"{folder_of(task)}/{MARKER}"
        raw = self._store.get_bytes(key)
        return None if raw is None else parse(SuccessMarker, raw, f"{key} in {self.describe()}")

    def write(
        self, task: FleetTask, worker: str, metrics: Metrics, finished_at: float
    ) -> SuccessMarker:
        """Say that this run of the task counts; returns the marker that is there then.

        That is another's if one was written before. Raises StoreError, RecordError, DiskError.
        """
        told = {
            "task": task.key,
            "run": task.run,
            "epoch": task.epoch,
            "worker": worker,
            "finished_at": rfc3339(finished_at),
            "duration_ms": metrics.duration_ms,
            "metrics": dict(metrics.more),
        }
        data = (json.dumps(told, ensure_ascii=False) + "\n").encode()
        key = f"{folder_of(task)}/{MARKER}"
        try:
            if (folder := self._store.local_folder) is not None:
                _create(Path(folder), key, data)
            else:
                self._store.swap_bytes(key, data, None)
        except (ChangedError, FileExistsError):
            pass
        found = self.read(task)
        if found is None:
            raise ChangedError(f"{key} is gone from {self.describe()} just after it was written")
        return found

    def logs(self, task: FleetTask, run: int) -> Iterator[TaskLog]:
        """What the jobs of a run have printed, as far as it is stored. Raises StoreError."""
        prefix = f"{folder_of(task)}/{run}/jobs/"
        keys = [entry.key for entry in self._store.list(prefix)]
        # A job's output, then its errors.
        for key in sorted(keys, key=lambda key: (key.rpartition("/")[0], "stderr.log" in key)):
            parts = key.removeprefix(prefix).split("/")
            if parts[-1] in ("stdout.log", "stderr.log") and "attempts" not in parts:
                data = self._store.get_bytes(key)
                if data is not None:
                    stream = parts[-1].removesuffix(".log")
                    yield TaskLog("/".join(parts[:-1]), stream, data)

    def close(self) -> None:
        """Give back what it holds."""
        self._store.close()


def _create(root: Path, key: str, data: bytes) -> None:
    """Make a file that is there whole or not at all, after a power cut too.

    Raises FileExistsError, DiskError.

    ``swap_bytes`` of a folder relies on its caller's lock, and workers share none.
    """
    path = root / key
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
            for folder in Path(key).parents:  # the run's own store syncs nothing above itself
                sync_folder(root / folder)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise disk_error(path, error) from None


def store_address(job: FleetJob, folder: Path | None) -> str | None:
    """Where a job's results go: its own word, else a folder beside the embedded database."""
    if job.options.results:
        return job.options.results
    return None if folder is None else str(folder / "results" / job.name)
