"""Copies of result files on this machine, for dependants that can't wait for an upload.

A spool is a folder store: an upload of the result files alone, with a manifest of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Set

from runner.engine.context import EngineContext
from runner.model.elements import path_of
from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.upload.collect import collect
from runner.results.upload.job_upload import JobUpload, upload_job


class Spool:
    """All of it blocks, and is called in one thread."""

    def __init__(self, context: EngineContext) -> None:
        self.store = FolderStore(context.paths.spool)
        self._root = context.paths.spool
        self._state_dir = context.paths.root
        self._reserve = context.disk_reserve
        self._layout = Layout()

    def copy(self, spec: JobUpload) -> str | None:
        """Copy a job's result files aside; what kept it from being done, if anything did.

        Blocks are shared where the file system can. It never takes the disk's reserve.
        """
        found = collect(spec.patterns, spec.working_directory, own=spec.own, rights=spec.rights)
        size = sum(file.size for file in found.files)
        stat = os.statvfs(self._state_dir)
        if size > stat.f_bavail * stat.f_frsize - self._reserve:
            return f"no room for copies of {size} bytes"
        # Whoever made the files may not have meant them for everybody on the machine.
        self._root.mkdir(mode=0o700, exist_ok=True)
        outcome = upload_job(self.store, self._layout, spec.for_copies())
        return None if outcome.ok else "; ".join(outcome.problems)

    def remove(self, job_id: str) -> None:
        """Remove a job's copies: they have been stored, or nobody knows of them."""
        shutil.rmtree(self._root / self._layout.job_prefix(job_id), ignore_errors=True)

    def remove_all_but(self, job_ids: Set[str]) -> None:
        """Remove what a killed session copied without getting to say so."""
        jobs = self._root / "jobs"
        if not jobs.is_dir():
            return
        kept = set(map(path_of, job_ids))
        arrays = {path.rpartition("/")[0] for path in kept}
        for name in os.listdir(jobs):
            if name in arrays:
                for index in os.listdir(jobs / name):
                    if f"{name}/{index}" not in kept:
                        self.remove(f"{name}/{index}")
            elif name not in kept:
                self.remove(name)
