"""Writes a given document out: ``defaults``, ``params`` and matrices become plain jobs.

Takes the members of a document as its reader yields them, and yields those of the plain one: what
is wrong with those is checked by who reads them, and ``GivenFaults`` say where it was given.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.model.checks import Check
from runner.model.expansion.defaults import default_fields
from runner.model.expansion.expressions import Template, compiled, filled
from runner.model.expansion.matrix import MATRIX_FIELDS, Matrix, matrix_of
from runner.model.expansion.parameters import (
    PREFIX,
    check_params,
    check_sets,
    variables_of,
)
from runner.model.expansion.places import GivenFaults
from runner.model.in_short import DEFAULTS, PARAMS, Member
from runner.model.json_reader import JOBS, MAX_BYTES, is_ignored
from runner.model.messages import did_you_mean, quoted, step
from runner.model.queue import MAX_JOBS
from runner.model.validation_errors import InvalidError

_PARTS_OF = re.compile(r"(.+)\[((?:[A-Za-z_]\w*)(?:\s*,\s*[A-Za-z_]\w*)*)\]")


@dataclass(slots=True)
class _Given:
    """One given job: as it stands with the defaults, and what it makes."""

    index: int
    raw: Any
    matrix: Matrix | None
    ids: list[str]

    @property
    def place(self) -> str:
        return f"{JOBS}[{self.index}]"


class Expansion:
    """One document's way from how it was given to its plain form."""

    def __init__(
        self,
        members: Iterable[Member],
        job_fields: Mapping[str, Check],
        faults: GivenFaults,
        sets: Mapping[str, str],
    ) -> None:
        self._faults = faults
        self._fields: dict[str, Any] = {}
        self._jobs: list[Any] = []
        for key, index, value in members:
            if index is None:
                self._fields[key] = value
            else:
                self._jobs.append(value)
        self._params = self._parameters(sets)
        self._names = {PREFIX + name: value for name, value in self._params.items()}
        self._defaults = self._default_fields(job_fields)
        self._given: list[_Given] = []
        self._by_id: dict[str, int] = {}
        self._groups: dict[tuple[str, tuple[str, ...]], dict[tuple[str, ...], list[str]]] = {}
        self._starts: list[int] = []
        self._bytes = 0

    def given(self) -> str | None:
        """The document as it was given, its parameters as they were set: compact JSON.

        None where it says nothing in short: it is the plain one then.
        """
        if not self._fields.keys() & {DEFAULTS, PARAMS} and not any(
            given.matrix for given in self._given
        ):
            return None
        document = {**self._fields}
        if self._params:
            document[PARAMS] = self._params
        if JOBS in document and isinstance(document[JOBS], list):
            document[JOBS] = self._jobs
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    def members(self) -> Iterator[Member]:
        """The plain document's, in order: the queue's own first."""
        faults = self._faults
        for key, value in self._fields.items():
            if key not in (DEFAULTS, PARAMS, "env") and not is_ignored(key):
                yield key, None, self._filled(value, step(key)) if key != JOBS else value
        env = self._environment()
        if env or "env" in self._fields:
            yield "env", None, env
        self._prepare()
        sizes = [len(given.ids) for given in self._given]
        total = sum(sizes)
        if total > MAX_JOBS and any(given.matrix for given in self._given):
            largest = max(self._given, key=lambda given: len(given.ids))
            told = f"the document has {total:,} jobs when it is written out: at most {MAX_JOBS:,}"
            faults.add(f"{largest.place}.matrix", told)
            faults.raise_any()
        faults.origins = array("i", (n for n, size in enumerate(sizes) for _ in range(size)))
        faults.defaults = frozenset(self._defaults)
        faults.own_keys = [raw.keys() if isinstance(raw, dict) else () for raw in self._jobs]
        faults.dependency = self._dependency_of
        index = 0
        for given in self._given:
            self._starts.append(index)
            for job in self._written_out(given):
                yield JOBS, index, job
                index += 1

    # -- the queue's own ---------------------------------------------------------------------

    def _parameters(self, sets: Mapping[str, str]) -> dict[str, str]:
        """The values that hold. Raises UsageError for a parameter that isn't there."""
        given: dict[str, str] = {}
        if PARAMS in self._fields:
            try:
                given = check_params(self._fields[PARAMS])
            except InvalidError as invalid:
                for inside, message in invalid.faults:
                    self._faults.add(f".{PARAMS}{inside}", message)
                return given
        check_sets(sets, given)
        return {**given, **sets}

    def _environment(self) -> Any:
        """The queue's env with the parameters' variables; what it sets itself stands."""
        own = self._filled(self._fields["env"], ".env") if "env" in self._fields else {}
        if not isinstance(own, dict):
            return own
        return variables_of(self._params) | own

    def _default_fields(self, job_fields: Mapping[str, Check]) -> dict[str, Any]:
        if DEFAULTS not in self._fields:
            return {}
        found, faults = default_fields(self._fields[DEFAULTS], job_fields)
        for inside, message in faults:
            self._faults.add(f".{DEFAULTS}{inside}", message)
        return found

    def _filled(self, value: Any, place: str) -> Any:
        return filled(
            value, self._names, lambda inside, told: self._faults.add(place + inside, told)
        )

    # -- jobs --------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """What each job makes, so that others can depend on it."""
        first: dict[str, int] = {}
        for index, raw in enumerate(self._jobs):
            place = f"{JOBS}[{index}]"
            matrix = None
            job_id = ""
            if isinstance(raw, dict):
                job_id = raw.get("job_id", "")
                raw = {**self._defaults, **raw}
                if not raw.keys().isdisjoint(MATRIX_FIELDS):
                    for key in raw.keys() & MATRIX_FIELDS.keys() - {"matrix_id"}:
                        raw[key] = self._filled(raw[key], f"{place}.{key}")
                    matrix = matrix_of(raw, place, self._faults)
            if not isinstance(job_id, str):
                job_id = ""
            ids = (
                [job_id] if matrix is None else matrix.ids(job_id, self._names, self._faults, place)
            )
            self._given.append(_Given(index, raw, matrix, ids))
            at = first.setdefault(job_id, index) if job_id else index
            if at != index and (matrix is not None or self._given[at].matrix is not None):
                told = f'"{job_id}" is also the id of {JOBS}[{at}]'
                self._faults.add(f"{place}.job_id", told)
            self._check_ids_of(self._given[-1])
        self._by_id = {name: at for name, at in first.items() if self._given[at].matrix}

    def _check_ids_of(self, given: _Given) -> None:
        """Two combinations with one id, told with what makes them so."""
        if given.matrix is None or len(set(given.ids)) == len(given.ids):
            return
        twice = Counter(given.ids).most_common(1)[0][0]
        key = "matrix_id" if given.matrix.id_pattern is not None else "matrix"
        hint = "" if key == "matrix_id" else ": matrix_id can name them otherwise"
        self._faults.add(f"{given.place}.{key}", f"makes two jobs {quoted(twice)}{hint}")

    def _written_out(self, given: _Given) -> Iterator[Any]:
        raw, matrix = given.raw, given.matrix
        if not isinstance(raw, dict):
            yield raw
            return
        raw = {key: value for key, value in raw.items() if key not in MATRIX_FIELDS}
        names = {**self._names, **dict.fromkeys(matrix.names if matrix else (), "")}
        varying: list[tuple[str, Template]] = []
        for key, value in raw.items():
            if key == "job_id" or is_ignored(key):
                continue
            if (template := compiled(value, names, self._report(given, key))) is not None:
                varying.append((key, template))
        combinations = ((),) if matrix is None else matrix.combinations
        self._bytes += (_size(raw) + self._size_of_all(raw)) * len(combinations)
        self._check_size(given)
        for combination, job_id in zip(combinations, given.ids, strict=True):
            job = raw.copy()
            if matrix is not None:
                names.update(zip(matrix.names, combination, strict=True))
                if "job_id" in job:
                    job["job_id"] = job_id
            for key, template in varying:
                job[key] = template(names)
            if "command" in job and isinstance(job["command"], str):
                self._bytes += len(job["command"])
            if isinstance(job.get("depends_on"), list):
                job["depends_on"] = self._dependencies(job["depends_on"], given, combination)
            self._check_size(given)
            yield job

    def _size_of_all(self, raw: dict[str, Any]) -> int:
        """Bytes of the dependencies on all jobs of a matrix: they are what grows fastest."""
        items = raw.get("depends_on")
        named = [item for item in items if isinstance(item, str)] if isinstance(items, list) else []
        return sum(
            len(made) + 3
            for item in named
            if item in self._by_id
            for made in self._given[self._by_id[item]].ids
        )

    def _check_size(self, given: _Given) -> None:
        if self._bytes > MAX_BYTES:
            most = f"at most {MAX_BYTES:,} bytes ({MAX_BYTES >> 20} MiB)"
            self._faults.fail(f"{given.place}: the document is too large when written out: {most}")

    def _report(self, given: _Given, key: str) -> Any:
        place = f"{given.place}{step(key)}"
        if key in self._defaults and key not in self._jobs[given.index]:
            place = f".{DEFAULTS}{step(key)}"
        # The place is one of the given document already.
        return lambda inside, told: self._faults.add_given(place + inside, told)

    def _dependencies(self, items: list[Any], given: _Given, values: tuple[str, ...]) -> list[Any]:
        made: list[Any] = []
        for at, item in enumerate(items):
            ids, fault = self._named(item, given, values)
            if fault:
                place = f"{given.place}.depends_on[{at}]"
                self._faults.add_given(place, f"{quoted(item)}: {fault}")
            made += ids
        return made

    def _named(
        self, item: Any, given: _Given, values: tuple[str, ...]
    ) -> tuple[list[Any], str | None]:
        """The jobs that one given dependency names; or what is wrong with it."""
        if not isinstance(item, str):
            return [item], None
        if item in self._by_id:
            return self._given[self._by_id[item]].ids, None
        whole = item.removesuffix("[]")
        if whole != item and whole in self._by_id:
            return [f"{each}[]" for each in self._given[self._by_id[whole]].ids], None
        found = _PARTS_OF.fullmatch(item)
        if found is None:
            return [item], None
        job_id, names = found[1], tuple([name.strip() for name in found[2].split(",")])
        if fault := self._fault_of(job_id, names, given):
            return [], fault
        ids = self._group(job_id, names, given, values)
        same = ", ".join(names)
        return ids, None if ids else f"no job of {quoted(job_id)} has the same {same}"

    def _fault_of(self, job_id: str, names: tuple[str, ...], given: _Given) -> str | None:
        if job_id not in self._by_id:
            near = did_you_mean(job_id, self._by_id)
            return f"there is no job {quoted(job_id)} with a matrix{near}"
        other = self._given[self._by_id[job_id]].matrix
        for matrix, whose in ((other, quoted(job_id)), (given.matrix, "this job")):
            own = matrix.names if matrix else ()
            for name in names:
                if name not in own:
                    near = did_you_mean(name, own)
                    return (
                        f"the matrix of {whose} has no {quoted(name)}{near}"
                        if own
                        else (f"{whose} has no matrix")
                    )
        return None

    def _group(
        self, job_id: str, names: tuple[str, ...], given: _Given, values: tuple[str, ...]
    ) -> list[str]:
        groups = self._groups.get((job_id, names))
        other = self._given[self._by_id[job_id]]
        assert other.matrix is not None and given.matrix is not None
        if groups is None:
            groups = self._groups[job_id, names] = {}
            places = [other.matrix.names.index(name) for name in names]
            for each, made in zip(other.matrix.combinations, other.ids, strict=True):
                groups.setdefault(tuple([each[n] for n in places]), []).append(made)
        own = tuple([values[given.matrix.names.index(name)] for name in names])
        return groups.get(own, [])

    def _dependency_of(self, job: int, item: int) -> int:
        """Which of the given dependencies has made this one of an expanded job."""
        assert self._faults.origins is not None
        at = self._faults.origins[job]
        given = self._given[at]
        items = given.raw.get("depends_on") if isinstance(given.raw, dict) else None
        if not isinstance(items, list):
            return item
        values: tuple[str, ...] = ()
        names = {**self._names}
        if given.matrix is not None:
            values = given.matrix.combinations[job - self._starts[at]]
            names |= zip(given.matrix.names, values, strict=True)
        count = 0
        for index, each in enumerate(items):
            written = filled(each, names, lambda inside, told: None)
            count += len(self._named(written, given, values)[0])
            if item < count:
                return index
        return item


def _size(raw: dict[str, Any]) -> int:
    """About how many bytes a job has in the stored document, less command and dependencies."""
    rest = {key: raw[key] for key in raw if key not in ("command", "depends_on")}
    return len(json.dumps(rest, default=str)) + 32
