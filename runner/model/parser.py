"""From a document's bytes to a valid QueueSpec, or to all of its errors at once.

Joins the reader, the checks of the single fields (``fields``), and the rules that concern several
of them (``relations``).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.errors import UsageError
from runner.model.checks import Check, check_object
from runner.model.fields import (
    JOB_FIELDS,
    JOB_REQUIRED,
    QUEUE_FIELDS,
    QUEUE_REQUIRED,
    STORED_JOB_FIELDS,
)
from runner.model.in_short import (
    DEFAULTS,
    ESCAPED,
    MATRIX_KEYS,
    PARAMS,
    YAML_SUFFIXES,
    Member,
    is_short,
    unescaped,
)
from runner.model.json_reader import JOBS, MAX_BYTES, Reader, decode
from runner.model.messages import kind, step
from runner.model.placement_fields import FOLDED, fold_array, fold_defaults, fold_placement
from runner.model.queue import GIVEN_KEY, GIVEN_PREFIX, JobSpec, QueueSpec
from runner.model.relations import check_ids, check_placements
from runner.model.validation_errors import Faults

_NO_ENV: Mapping[str, str] = {}
# Stands in for what is wrong, so that the rest of a broken document can still be checked.
_STAND_IN: dict[str, Any] = {"job_id": "", "command": "", "timeout": 0.0}


_FOLDED = FOLDED.union(MATRIX_KEYS)
_NOT_HERE = "stands in a document that says it was written out already"
_NO_SETS: Mapping[str, str] = {}


def read_document(
    path: Path, *, sets: Mapping[str, str] = _NO_SETS, now: float | None = None
) -> QueueSpec:
    """Parse the file. Raises UsageError if it can't be read, else as parse_document does."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder, not a queue document")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path}: can't be read: {reason}")
    # The bytes are let go before the jobs are built.
    text = decode(raw, str(path))
    del raw
    if path.suffix in YAML_SUFFIXES:
        from runner.model.expansion.yaml_reader import read_yaml

        members, lines = read_yaml(text, str(path))
        return _parse_given(lambda faults: members, lines, sets, now)
    return _parse_text(text, sets, now, str(path))


def parse_document(
    raw: bytes, *, sets: Mapping[str, str] = _NO_SETS, now: float | None = None
) -> QueueSpec:
    """The queue that a document describes, written out.

    ``sets``: values of its parameters, instead of its own; ``now``: for a queue_id that names the
    time, in Unix seconds. Raises DocumentError with every error, `place: message` each; of more
    than a hundred the first hundred and how many there are. ``x-…`` keys and ``$schema`` are
    dropped. Raises UsageError for a parameter of ``sets`` that it doesn't have.
    """
    return _parse_text(decode(raw, "document"), sets, now)


def parse_stored(raw: bytes) -> QueueSpec:
    """The queue that a document describes which this or an earlier version has accepted.

    As parse_document, but for the rules that came after the first version: it is written out.
    """
    text, faults = decode(raw, "document"), Faults()
    # One without jobs gets them while it runs.
    return _parse(_plain_members(text, faults), faults, STORED_JOB_FIELDS, at_least=0)


def _parse_text(text: str, sets: Mapping[str, str], now: float | None, name: str = "") -> QueueSpec:
    if not text.startswith(GIVEN_PREFIX) and is_short(text):
        return _parse_given(lambda faults: Reader(text, faults, name).members(), None, sets, now)
    faults = Faults()
    queue = _parse(_plain_members(text, faults, name), faults, JOB_FIELDS, now)
    if sets:
        from runner.model.expansion.parameters import check_sets

        check_sets(sets, ())
    return queue


def _plain_members(text: str, faults: Faults, name: str = "") -> Iterable[Member]:
    members = Reader(text, faults, name).members()
    if ESCAPED not in text:
        return members
    return (
        (key, index, value if key == GIVEN_KEY else unescaped(value))
        for key, index, value in members
    )


def _parse_given(
    members_of: Callable[[Faults], Iterable[Member]],
    lines: Mapping[str, int] | None,
    sets: Mapping[str, str],
    now: float | None,
) -> QueueSpec:
    from runner.model.expansion.given import Expansion
    from runner.model.expansion.places import GivenFaults

    faults = GivenFaults(lines)
    expansion = Expansion(members_of(faults), JOB_FIELDS, faults, sets)
    queue = _parse(expansion.members(), faults, JOB_FIELDS, now)
    return replace(queue, given=expansion.given())


def parse_members(members: Iterable[Member], faults: Faults) -> QueueSpec:
    """The queue of a document's members, which may have no jobs. Raises DocumentError."""
    return _parse(members, faults, JOB_FIELDS, at_least=0)


def _parse(
    members: Iterable[Member],
    faults: Faults,
    job_fields: dict[str, Check],
    now: float | None = None,
    at_least: int = 1,
) -> QueueSpec:
    with _no_collection():
        fields, jobs, placed = _read(members, faults, job_fields, at_least)
        if now is not None and "{" in str(fields.get("queue_id")):
            from runner.model.expansion.queue_names import dated

            fields["queue_id"] = dated(fields["queue_id"], now)
        values = check_object(fields, QUEUE_FIELDS, QUEUE_REQUIRED, faults)
        for key in (DEFAULTS, PARAMS):
            if values.pop(key, None) is not None:
                faults.add(f".{key}", _NOT_HERE)
        _check_secrets(values, "", faults)
        if values.get("max_failures") and values.get("on_failure") == "stop":
            told = 'needs "on_failure": "continue": with "stop" the first failure is the last'
            faults.add(".max_failures", told)
        fold_defaults(values)
        if "pools" in fields:
            values.setdefault("pools", None)
        check_ids(jobs, faults)
        check_placements(values, jobs, placed, faults)
        if faults:
            faults.raise_any([job.job_id for job in jobs])
    values[JOBS] = tuple(jobs)
    values.setdefault("queue_id", None)
    if isinstance(fields.get(GIVEN_KEY), dict):
        values["given"] = _compact(fields[GIVEN_KEY])
    return QueueSpec(**values)


def _compact(given: dict[str, Any]) -> str:
    import json

    return json.dumps(given, ensure_ascii=False, separators=(",", ":"))


@contextmanager
def _no_collection() -> Iterator[None]:
    # Each new job would count towards walks over all the others, and none of them is garbage:
    # without the collector 100,000 jobs take a third less time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read(
    members: Iterable[Member], faults: Faults, job_fields: dict[str, Check], at_least: int
) -> tuple[dict[str, Any], list[JobSpec], list[int]]:
    """The queue's own fields as they stand, its jobs, and which of them say how they are placed."""
    fields: dict[str, Any] = {}
    jobs: list[JobSpec] = []
    builder = _JobBuilder(faults, job_fields)
    for key, index, value in members:
        if index is not None:
            jobs.append(builder.build(value, f"{JOBS}[{index}]"))
        else:
            fields[key] = value
            if key == JOBS and not isinstance(value, list):
                faults.add(f".{JOBS}", f"must be an array of jobs, not {kind(value)}")
    if fields.get(JOBS) == [] and len(jobs) < at_least:
        faults.add(f".{JOBS}", "must hold at least one job")
    return fields, jobs, builder.placed


class _JobBuilder:
    """Builds jobs that share what is equal in them: ids, names of variables, retries."""

    def __init__(self, faults: Faults, fields: dict[str, Check]) -> None:
        self._faults = faults
        self._fields = fields
        self._shared: dict[Any, Any] = {}
        self._count = 0
        self.placed: list[int] = []

    def build(self, raw: Any, place: str) -> JobSpec:
        values = check_object(raw, self._fields, JOB_REQUIRED, self._faults, place)
        if values and not _FOLDED.isdisjoint(raw):
            self._fold(raw, values, place)
        self._count += 1
        if self._fields is JOB_FIELDS and values.get("run_if", "success") != "success":
            # A document that was accepted before this rule has its jobs without.
            _check_condition(raw, place, self._faults)
        share = self._shared.setdefault
        secrets = values.get("secret_env")
        if secrets:
            _check_secrets(values, place, self._faults)
            secrets = {share(name, name): share(at, at) for name, at in secrets.items()}
        values["secret_env"] = secrets or _NO_ENV
        if not values.keys() >= JOB_REQUIRED:
            values = _STAND_IN | values
        job_id = values["job_id"]
        values["job_id"] = share(job_id, job_id)
        if names := values.get("depends_on"):
            values["depends_on"] = tuple([share(name, name) for name in names])
        if retry := values.get("retry"):
            values["retry"] = share(retry, retry)
        if inputs := values.get("input_paths"):
            values["input_paths"] = tuple([share(each, each) for each in inputs])
        if results := values.get("result_paths"):
            values["result_paths"] = tuple([share(each, each) for each in results])
        if outputs := values.get("output_paths"):
            values["output_paths"] = tuple([share(each, each) for each in outputs])
        env = values.get("env")
        values["env"] = {share(name, name): env[name] for name in env} if env else _NO_ENV
        return JobSpec(**values)

    def _fold(self, raw: dict[str, Any], values: dict[str, Any], place: str) -> None:
        """Make one record each of what a job says of its place, and of its elements."""
        for key in MATRIX_KEYS:
            if values.pop(key, None) is not None:
                self._faults.add(f"{place}.{key}", _NOT_HERE)
        fold_placement(values)
        fold_array(raw, values, place, self._faults)
        if placement := values.get("placement"):
            values["placement"] = self._shared.setdefault(placement, placement)
            self.placed.append(self._count)
        if array := values.get("array"):
            values["array"] = self._shared.setdefault(array, array)


def _check_secrets(values: dict[str, Any], place: str, faults: Faults) -> None:
    """On one level a variable is either plain or a secret."""
    plain = values.get("env", _NO_ENV)
    for name in values.get("secret_env", _NO_ENV):
        if name in plain:
            faults.add(f"{place}.secret_env{step(name)}", "is set by env, too: only one can stand")


def _check_condition(raw: dict[str, Any], place: str, faults: Faults) -> None:
    """A condition on how the dependencies end needs some."""
    if raw.get("depends_on", []) == []:
        message = f'"{raw["run_if"]}" needs depends_on: it is about how those jobs end'
        faults.add(f"{place}.run_if", message)
