"""Results that one job clears and another one makes, or brings: found in the document alone.

`"fresh": "clear"` moves aside what matches before the job starts, whoever has made it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from posixpath import join, normpath

from runner.model.globs import WILD
from runner.model.messages import quoted
from runner.model.queue import JobSpec, QueueSpec

_LOOKED_AT = 200
"""So many patterns with a wildcard are compared with the others' paths: more would take long."""


def cleared_for_others(queue: QueueSpec) -> dict[int, list[tuple[str, str]]]:
    """By a job's index where inside it, and what: of each pattern that clears another's files."""
    found: dict[int, list[tuple[str, str]]] = {}
    if not any(result.fresh == "clear" for job in queue.jobs for result in job.kept_paths):
        return found
    makers: dict[str, dict[str, None]] = defaultdict(dict)
    for job in queue.jobs:
        for path in _left(queue, job):
            makers[path][job.job_id] = None
    looked_at = 0
    for index, job in enumerate(queue.jobs):
        for number, result in enumerate(job.kept_paths):
            if result.fresh != "clear":
                continue
            pattern = _absolute(queue, job, result.path)
            others = dict(makers[pattern])
            if WILD.search(pattern) and looked_at < _LOOKED_AT:
                looked_at += 1
                for path, ids in makers.items():
                    if _matches(pattern, path):
                        others |= ids
            others.pop(job.job_id, None)
            if others:
                first, *more = others
                told = f"{quoted(result.path)} moves aside files of job {quoted(first)}, too"
                told += f", and of {len(more):,} more" if more else ""
                found.setdefault(index, []).append((_place(job, number), told))
    return found


def _left(queue: QueueSpec, job: JobSpec) -> Iterator[str]:
    for result in job.kept_paths:
        yield _absolute(queue, job, result.path)
    for source in job.input_paths:
        yield _absolute(queue, job, source.path)


def _place(job: JobSpec, number: int) -> str:
    results = len(job.result_paths)
    return f".result_paths[{number}]" if number < results else f".output_paths[{number - results}]"


def _absolute(queue: QueueSpec, job: JobSpec, path: str) -> str:
    folder = job.working_directory or queue.working_directory or "."
    return normpath(join(folder, path))


def _matches(pattern: str, path: str) -> bool:
    """Nearly: for fnmatch a `*` matches `/` as well."""
    if "**" in pattern:
        return fnmatchcase(path, pattern.replace("**/", "*").replace("**", "*"))
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)
