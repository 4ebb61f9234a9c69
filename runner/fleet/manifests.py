"""The manifests of volumes: fetched from the source store before a task runs.

The ETag of its manifest is part of what a task is: another one makes a task of it that isn't done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from runner.errors import UsageError
from runner.fleet.records import FleetTask
from runner.fleet.task_document import parameters
from runner.model.messages import quoted
from runner.results.store import ResultStore
from runner.results.stores import open_store

PARALLEL = 10
"""Manifests that are looked at at once."""

_NAME = re.compile(r"\{(\w+)\}")


class MissingManifestError(UsageError):
    """A task's manifest isn't there: no attempt can help."""


@dataclass(frozen=True, slots=True)
class VolumeManifest:
    """What is there of a task: the bytes, and the store's name for this version of them."""

    data: bytes
    etag: str


def check_pattern(pattern: str) -> None:
    """Raise UsageError for what can't be a key."""
    if not pattern or pattern.startswith("/") or len(pattern) > 800 or not pattern.isprintable():
        raise UsageError(f"--manifest-key: {quoted(pattern)} is no key")
    if set(_NAME.sub("", pattern)) & set("{}"):
        raise UsageError(f"--manifest-key: {quoted(pattern)} has a brace without a name in it")


def key_of(pattern: str, task: FleetTask) -> str:
    """The key of a task's manifest. Raises UsageError for a name that the task doesn't have."""
    known = parameters(task)
    known |= {"w_id": task.w_id or "", "i_id": task.i_id or ""} if task.w_id else {}

    def value(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise UsageError(f"the manifest's key {quoted(pattern)}: {task.key} has no {found[1]}")
        return known[found[1]]

    return _NAME.sub(value, pattern)


class ManifestSource:
    """The source store. For any thread."""

    def __init__(self, where: str) -> None:
        self._store: ResultStore = open_store(where)

    def describe(self, key: str) -> str:
        """Where a manifest is."""
        return f"{self._store.describe()}/{key}"

    def fetch(self, key: str) -> VolumeManifest | None:
        """None: there is none. Raises StoreError."""
        found = self._store.get_versioned(key)
        return None if found is None else VolumeManifest(found.data, found.version)

    def changed(
        self, tasks: Iterable[FleetTask], pattern: str, told: Callable[[str], None]
    ) -> list[FleetTask]:
        """Those whose manifest is another one than they were done with. Raises StoreError.

        ``told`` takes what is worth a word: a manifest that is gone.
        """

        def look(task: FleetTask) -> FleetTask | None:
            found = self.fetch(key_of(pattern, task))
            if found is None:
                told(f"the manifest of {task.key} is gone; what was done with it stays")
                return None
            return task if found.etag != task.etag else None

        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(PARALLEL) as threads:
            return [task for task in threads.map(look, tasks) if task is not None]

    def close(self) -> None:
        """Give back what it holds."""
        self._store.close()


def source_address(word: str) -> str:
    """A store by the name of a bucket, or in one word."""
    return word if "/" in word or word.startswith(".") else f"s3://{word}"
