"""What a job's run depends on, in few words that can be compared: pure.

Owns which parts of a document make a job what it is, and how a difference is told. Of each part
only a hash is kept: an environment may hold secrets. Files are the business of ``results``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runner.model.elements import split_name
from runner.model.messages import quoted
from runner.model.queue import JobSpec, QueueSpec

NAMED = 3
"""So many files are named of those that differ."""


def parts_of(queue: QueueSpec, job: JobSpec, size: int | None) -> dict[str, str]:
    """What the document makes of a unit, by name: each a hash.

    ``size``: how many elements its array has. Limits, retries and the order of work are no parts:
    they change nothing that it makes. Nor is the caller's environment, of which it is not known
    what the job reads.
    """
    placement = queue.placed(job)
    env = {name: text for name, text in queue.env.items() if name not in job.secret_env}
    _, index = split_name(job.job_id)
    told: dict[str, object] = {
        "command": job.command,
        "shell": queue.shell(job),
        "image": queue.image(job),
        "working_directory": job.working_directory or queue.working_directory,
        "mounts": placement.mounts or (),
        "image_options": placement.image_options or (),
        "inputs": sorted(job.inputs),
        "input_paths": sorted((each.s3, each.path) for each in job.input_paths),
        "result_paths": sorted(each.path for each in job.kept_paths),
        "depends_on": sorted(job.depends_on),
        "array": (index, size),
        **{f"env.{name}": text for name, text in {**env, **job.env}.items()},
        **{f"secret_env.{name}": text for name, text in queue.secrets(job).items()},
    }
    return {name: digest(value) for name, value in told.items() if value not in (None, (), [])}


def digest(value: object) -> str:
    """The sha256 of a JSON value."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """``parts``: of the document, by name; ``files``: of each input what it holds, by name."""

    parts: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)


def differences(before: Fingerprint, after: Fingerprint) -> list[str]:
    """What is another now, a phrase each; none if they are equal."""
    told = [f"{name} differs" for name in _differing(before.parts, after.parts)]
    return told + file_differences(before.files, after.files)


def file_differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The same of files alone."""
    changed = [name for name in _differing(before, after) if name in before and name in after]
    gone = [name for name in before if name not in after]
    new = [name for name in after if name not in before]
    rows = ((changed, "changed"), (new, "new"), (gone, "gone"))
    return [f"{_named(sorted(names))} {what}" for names, what in rows if names]


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    if before == after:
        return
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield name


def _named(names: Sequence[str]) -> str:
    some = ", ".join(quoted(name) for name in names[:NAMED])
    more = f" and {len(names) - NAMED:,} more" if names[NAMED:] else ""
    return f"{some}{more}"
