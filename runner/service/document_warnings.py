"""What is allowed in a document, and yet likely to hurt: as this machine is.

What the document alone shows is found by ``model.lint``.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from runner.model import lint
from runner.model.document import JobSpec, QueueSpec
from runner.model.messages import quoted, whose
from runner.service import runs_here

_WORD = re.compile(r"[\w@%+.,/-]{1,255}")

_MOST_WORDS = 2000
"""Words of a document's commands that are looked for; more would take long on a slow disk."""

_PEOPLES = ("/home/", "/Users/", "/root/", "/mnt/", "/media/", "/Volumes/")
"""Where a computer has what is its user's own."""


def warnings(queue: QueueSpec) -> list[str]:
    """All of them, one line each. Looks at folders and mounts, and changes nothing."""
    return [
        *lint.warnings(queue),
        *missing_folders(queue),
        *tmpfs_results(queue.jobs),
        *runs_here.refused(queue),
        *runs_here.notes(queue),
    ]


def missing_folders(queue: QueueSpec) -> list[str]:
    """Absolute working directories that aren't here: a job there fails before it starts."""
    made = {
        job.working_directory or queue.working_directory
        for job in queue.jobs
        if queue.makes_folder(job)
    }
    return [
        f"{place}: {quoted(folder)} does not exist on this machine{whose(names)}"
        for folder, (place, names) in _folders(queue).items()
        if folder.startswith("/") and not os.path.isdir(folder) and folder not in made
    ]


def local_paths(queue: QueueSpec) -> list[str]:
    """What names a place of this computer that another machine will hardly have."""
    found = [
        f"{place}: {quoted(folder)} is a folder of this computer{whose(names)}"
        for folder, (place, names) in _folders(queue).items()
        if _is_of_this_computer(folder)
    ]
    variables: dict[str, tuple[str, list[str]]] = {}
    for place, env, job_id in _environments(queue):
        for name in sorted(env):
            if any(map(_is_of_this_computer, env[name].split(":"))):
                _, names = variables.setdefault(name, (f"{place}env.{name}", []))
                names += job_id
    return found + [
        f"{place}: names a place of this computer, which the machine will not have{whose(names)}"
        for place, names in variables.values()
    ]


def relative_words(queue: QueueSpec, folder: Path) -> list[str]:
    """Words of commands that name something below ``folder``, of jobs that start elsewhere.

    They are jobs without a working directory: where they start is the daemon's choice.
    """
    if queue.working_directory:
        return []
    words: dict[str, None] = {}
    for job in queue.jobs:
        if not job.working_directory:
            words.update(dict.fromkeys(_WORD.findall(job.command)))
    looked = itertools.islice((word for word in words if word.strip("./-")), _MOST_WORDS)
    return [word for word in looked if word[0] not in "/-" and os.path.exists(folder / word)]


def _folders(queue: QueueSpec) -> dict[str, tuple[str, list[str]]]:
    """Each working directory, where it stands first, and of which jobs."""
    found: dict[str, tuple[str, list[str]]] = {}
    if queue.working_directory:
        found[queue.working_directory] = ("working_directory", [])
    for index, job in enumerate(queue.jobs):
        if job.working_directory:
            place = f"jobs[{index}].working_directory"
            found.setdefault(job.working_directory, (place, []))[1].append(job.job_id)
    return found


def _environments(queue: QueueSpec) -> Iterator[tuple[str, Mapping[str, str], list[str]]]:
    yield "", queue.env, []
    for index, job in enumerate(queue.jobs):
        yield f"jobs[{index}].", job.env, [job.job_id]


def _is_of_this_computer(path: str) -> bool:
    own = (*_PEOPLES, f"{Path.home()}/")
    return f"{path}/".startswith(own) and os.path.exists(path)


def tmpfs_results(jobs: Sequence[JobSpec]) -> list[str]:
    """Result paths on a tmpfs of this machine: a reboot empties it."""
    mounts = _tmpfs_mounts()
    found = []
    for index, job in enumerate(jobs):
        for name, paths in (("result_paths", job.result_paths), ("output_paths", job.output_paths)):
            for path in (result.path for result in paths):
                mount = _mount_of(path, mounts) if path.startswith("/") else None
                if mount is not None:
                    where = f"jobs[{index}].{name}"
                    found.append(f"{where}: {path} is on a tmpfs ({mount}): a reboot empties it")
    return found


def _tmpfs_mounts() -> dict[str, bool]:
    """Mount points, and whether each is a tmpfs (proc(5), /proc/self/mounts); none but on Linux."""
    mounts: dict[str, bool] = {}
    if not os.path.exists("/proc/self/mounts"):
        return mounts
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, point, kind, *_ = line.split(" ")
            mounts[point.replace("\\040", " ")] = kind in ("tmpfs", "ramfs")
    return mounts


def _mount_of(path: str, mounts: dict[str, bool]) -> str | None:
    """The tmpfs that holds the path, if one does."""
    folder = os.path.normpath(path)
    while folder not in mounts:
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent
    return folder if mounts[folder] else None
