"""Files that COMMAND needs, brought to where it looks for them, before it begins.

Inputs, what the jobs before it have left, and the newest checkpoint. What belongs into none of the
job's volumes is laid where main.sh takes it from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from runner.batch.container.task import Task
from runner.batch.records import OutputsOf
from runner.errors import RunnerError
from runner.model.elements import INDEX
from runner.model.queue import InputSpec
from runner.results.checkpoint import BroughtBack
from runner.results.concurrency import at_once
from runner.results.download.inputs import InputStore, InputsWanted, fetch_inputs, fill
from runner.results.download.places import Place
from runner.results.download.restore import bring_back, plan, readable_manifest
from runner.results.layout import Layout, element
from runner.results.manifest import FileEntry
from runner.results.path_map import PathMap
from runner.results.store import ResultStore


class NotPlacedError(RunnerError):
    """What COMMAND needs can't be had, and trying again would not help."""


def place_inputs(
    task: Task, work: Path, paths: PathMap, record: Path, store_of: Callable[[str], InputStore]
) -> int:
    """Have the ``input_paths``; how many files came. Raises as ``fetch_inputs``."""
    submission = task.submission
    if not submission.input_paths:
        return 0
    base = paths.here(task.working_directory(work))
    if paths.here(base) != base:
        os.makedirs(base, exist_ok=True)
    wanted = []
    for each in submission.input_paths:
        told = InputSpec(task.filled(each.s3), task.filled(each.path))
        spec = fill(told, submission.queue_id, submission.job_id)
        if os.path.isabs(spec.path):
            folder = "/" if spec.path.endswith("/") else ""
            spec = replace(spec, path=paths.here(spec.path).rstrip("/") + folder)
        wanted.append(spec)
    return fetch_inputs(store_of, InputsWanted(tuple(wanted), base, record))


def place_outputs(task: Task, work: Path, paths: PathMap) -> int:
    """Bring back what other jobs have left; how many files. Raises NotPlacedError, StoreError."""
    count = 0
    for outputs in task.submission.restore:
        own = task.entry.index if outputs.elementwise else None
        for index in outputs.indices or (own,):
            count += _outputs_of(task, outputs, index, work, paths)
    return count


def _outputs_of(
    task: Task, outputs: OutputsOf, index: int | None, work: Path, paths: PathMap
) -> int:
    name = element(outputs.job_id, index)
    manifest = readable_manifest(task.store, Layout().manifest_key(name))
    if manifest is None or manifest.run_id != task.submission.run_id or not manifest.completed:
        raise NotPlacedError(
            f"what {name} has left for it is not in {task.store.describe()}: there is no manifest "
            "of this run"
        )
    files = [entry for entry in manifest.files if not Layout().is_log(entry.name)]
    patterns, named = outputs.patterns, outputs.working_directory
    if index is not None:
        patterns = tuple(each.replace(INDEX, str(index)) for each in patterns)
        named = named.replace(INDEX, str(index)) if named else None
    folder = os.path.join(work, named) if named else str(work)
    planned = plan(files, patterns, folder, None)
    if isinstance(planned, str):
        raise NotPlacedError(f"what {name} has left for it: {planned}")
    count, lost = _bring(task.store, planned, paths)
    if lost is not None:
        raise NotPlacedError(f"what {name} has left for it: {lost}")
    return count


def place_checkpoint(task: Task, work: Path, paths: PathMap) -> BroughtBack:
    """Have the newest checkpoint, where there is one. Raises StoreError."""
    if not task.checkpoints:
        return BroughtBack()
    manifest = readable_manifest(task.store, Layout().checkpoint_manifest_key(task.name))
    if manifest is None or manifest.run_id != task.submission.run_id:
        return BroughtBack()
    planned = plan(manifest.files, task.checkpoints, task.working_directory(work), None)
    if isinstance(planned, str):
        return BroughtBack(lost=planned)
    return BroughtBack(*_bring(task.store, planned, paths))


def _bring(
    store: ResultStore, planned: Sequence[tuple[FileEntry, Place]], paths: PathMap
) -> tuple[int, str | None]:
    """How many files came, and why one can't be had."""

    def bring(item: tuple[FileEntry, Place]) -> bool | str:
        entry, place = item
        return bring_back(store, entry, replace(place, folder=paths.here(place.folder)), None)

    with ThreadPoolExecutor(store.parallel, thread_name_prefix="placing") as pool:
        found = list(at_once(pool, bring, planned, 2 * store.parallel))
    lost = next((each for each in found if isinstance(each, str)), None)
    return sum(each is True for each in found), lost
