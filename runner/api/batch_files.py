"""The files of an executor's jobs on AWS Batch: calls go to S3, results and logs come back.

Everything passes through the executor's own folder, where a call waits until it is stored, and from
where results and logs are read. All but the inherited methods block for the network.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runner.api.batch_jobs import RESULT_NAME, archive_key, call_key
from runner.api.command_result import COMPLETED, FAILED
from runner.api.job_files import JobFiles
from runner.api.job_target import JobEnd
from runner.api.payload import remove
from runner.api.tasks import PayloadReference
from runner.api.worker_archive import CodeArchive
from runner.model.call_names import REFUSED_SUFFIX
from runner.results.download.restore import readable_manifest
from runner.results.escape import unescape
from runner.results.layout import Layout
from runner.results.manifest import FileEntry, Manifest
from runner.results.store import ResultStore, StoreError
from runner.results.upload.source_file import SourceError, SourceFile
from runner.store.paths import LogPaths


class BatchJobFiles(JobFiles):
    """``store``: the queue's, ``run_id``: its run's; ``archives``: what every call needs."""

    def __init__(
        self,
        payloads: Path,
        logs: LogPaths,
        store: ResultStore,
        run_id: str,
        archives: tuple[CodeArchive, ...],
        *,
        durable: bool,
    ) -> None:
        super().__init__(payloads, logs, "/", durable=durable)
        self._store = store
        self._run_id = run_id
        self._archives = archives
        self._ready = False
        self._lock = threading.Lock()
        self._results: dict[str, tuple[str, ...]] = {}

    # -- there -------------------------------------------------------------------------------

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        """See JobFiles. Where this process imports from means nothing in a container."""
        return super().store_call(job_id, body, ())

    def send(self, job_id: str) -> None:
        """Store a call that was kept here, and what it needs. Raises StoreError."""
        with self._lock:
            if not self._ready:
                for each in self._archives:
                    self._store.put_bytes(archive_key(each.name), each.data)
                self._ready = True
        kept = self._payloads / f"{job_id}.call"
        try:
            self._store.put_file(call_key(job_id), SourceFile(str(kept), ours=True))
        except SourceError as error:
            raise StoreError(str(error)) from None
        remove(kept)

    def withdraw(self, job_id: str) -> None:
        """The call isn't needed any more; at worst it stays."""
        with suppress(StoreError):
            self._store.delete(call_key(job_id))

    def clear(self) -> None:
        """Remove all that the queue has stored; at worst it stays."""
        with suppress(StoreError):
            for entry in list(self._store.list("")):
                self._store.delete(entry.key)

    # -- and back ----------------------------------------------------------------------------

    def fetch(self, end: JobEnd) -> None:
        """Have here what the last attempt has left. Raises StoreError, OSError."""
        if end.status not in (COMPLETED, FAILED) or end.attempt == 0:
            return
        completed = end.status == COMPLETED
        if end.function:
            self._fetch_result(end, completed=completed)
        elif completed and end.result_paths:
            manifest = self._manifest(end, Layout().manifest_key(end.job_id))
            if manifest is not None:
                where = self._store.describe()
                made = [each for each in manifest.files if not Layout().is_log(each.name)]
                self._results[end.job_id] = tuple(sorted(f"{where}/{each.key}" for each in made))

    def _fetch_result(self, end: JobEnd, *, completed: bool) -> None:
        where = self._result(end)
        if where.exists():
            return
        layout = Layout()
        key = layout.manifest_key if completed else layout.checkpoint_manifest_key
        manifest = self._manifest(end, key(end.job_id))
        files = () if manifest is None else manifest.files
        name = f"{RESULT_NAME}.{end.attempt}"
        for entry in files:
            found = os.path.basename(unescape(entry.source))
            if found == name:
                self._bring(entry, where)
            elif found == f"{name}{REFUSED_SUFFIX}":
                self._bring(entry, Path(f"{where}{REFUSED_SUFFIX}"))

    def has_result(self, end: JobEnd) -> bool:
        """Whether what a call has left is here."""
        where = self._result(end)
        return where.exists() or os.path.exists(f"{where}{REFUSED_SUFFIX}")

    def _manifest(self, end: JobEnd, key: str) -> Manifest | None:
        found = readable_manifest(self._store, key)
        return found if found is not None and found.run_id == self._run_id else None

    def _bring(self, entry: FileEntry, where: Path) -> None:
        fd, name = tempfile.mkstemp(prefix=".fetched-", dir=self._payloads)
        try:
            try:
                self._store.get_file(entry.key, fd, entry.size)
            finally:
                os.close(fd)
            os.rename(name, where)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise

    def results_of(self, end: JobEnd) -> tuple[str, ...]:
        """Where the files are that a command's `result_paths` matched: addresses in S3."""
        return self._results.pop(end.job_id, ())
