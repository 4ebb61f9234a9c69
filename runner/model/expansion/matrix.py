"""A job's ``matrix``: its combinations of values, in order, and the ids of the jobs they make.

Owns the rules of ``matrix``, ``matrix_include``, ``matrix_exclude`` and ``matrix_id``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from runner.model.checks import Check, check_object, check_text
from runner.model.expansion.expressions import Names, compiled
from runner.model.json_reader import is_ignored
from runner.model.messages import did_you_mean, kind, quoted, step
from runner.model.validation_errors import Faults, InvalidError

NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
"""What names of parameters and of a matrix look like."""

MAX_NAMES = 16
MAX_COMBINATIONS = 1_000_000
"""Combinations that are looked at, those that are excluded included."""

_NAME = re.compile(NAME_PATTERN)
_NO_ID = re.compile(r"[^A-Za-z0-9._-]+")

Combination = dict[str, str]


def check_value(value: Any) -> str:
    """A string, or a number or truth value as JSON writes it."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case _:
            raise InvalidError(f"must be a string or a number, not {kind(value)}")


def check_name(name: str) -> str | None:
    """What is wrong with the name of a parameter or of a matrix, if something is."""
    if _NAME.fullmatch(name):
        return None
    return "is not a name: letters, digits and '_', first no digit, at most 64"


def _matrix(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise InvalidError(f"must be an object of names and arrays, not {kind(value)}")
    names: dict[str, tuple[str, ...]] = {}
    faults: list[tuple[str, str]] = []
    for name, values in value.items():
        if is_ignored(name):
            continue
        place = step(name)
        if fault := check_name(name):
            faults.append((place, fault))
        elif not isinstance(values, list):
            faults.append((place, f"must be an array of values, not {kind(values)}"))
        elif not values:
            faults.append((place, "must hold at least one value"))
        else:
            names[name] = tuple(_values(values, place, faults))
    if not names and not faults:
        faults.append(("", "must have at least one name"))
    if len(names) > MAX_NAMES:
        faults.append(("", f"has too many names: {len(names)}, at most {MAX_NAMES}"))
    if faults:
        raise InvalidError(faults=faults)
    return names


def _values(values: list[Any], place: str, faults: list[tuple[str, str]]) -> Iterator[str]:
    seen: set[str] = set()
    for at, value in enumerate(values):
        try:
            text = check_value(value)
        except InvalidError as invalid:
            faults.append((f"{place}[{at}]", str(invalid)))
            continue
        if text in seen:
            faults.append((f"{place}[{at}]", f"{quoted(text)} is there twice"))
        seen.add(text)
        yield text


def _combinations(value: Any) -> tuple[Combination, ...]:
    """An array of objects of names and values."""
    if not isinstance(value, list):
        raise InvalidError(f"must be an array of objects, not {kind(value)}")
    made: list[Combination] = []
    faults: list[tuple[str, str]] = []
    for at, item in enumerate(value):
        if not isinstance(item, dict):
            faults.append((f"[{at}]", f"must be an object of names and values, not {kind(item)}"))
            continue
        combination: Combination = {}
        for name, given in item.items():
            if is_ignored(name):
                continue
            if fault := check_name(name):
                faults.append((f"[{at}]{step(name)}", fault))
                continue
            try:
                combination[name] = check_value(given)
            except InvalidError as invalid:
                faults.append((f"[{at}]{step(name)}", str(invalid)))
        if not combination and not faults:
            faults.append((f"[{at}]", "names nothing"))
        made.append(combination)
    if faults:
        raise InvalidError(faults=faults)
    return tuple(made)


MATRIX_FIELDS: dict[str, Check] = {
    "matrix": _matrix,
    "matrix_include": _combinations,
    "matrix_exclude": _combinations,
    "matrix_id": check_text,
}


@dataclass(frozen=True, slots=True)
class Matrix:
    """The combinations of one job. ``id_pattern``: their ids', else they are ``ID.value-value``."""

    names: tuple[str, ...]
    combinations: tuple[tuple[str, ...], ...]
    id_pattern: str | None = None

    def ids(self, job_id: str, params: Names, faults: Faults, place: str) -> list[str]:
        """The id of each combination's job; values are written with what an id may hold."""
        parts = [[_NO_ID.sub("_", value) for value in each] for each in self.combinations]
        if self.id_pattern is None:
            return [f"{job_id}.{'-'.join(each)}" for each in parts]
        names = {name: _NO_ID.sub("_", value) for name, value in params.items()}
        names |= dict.fromkeys(self.names, "")
        template = compiled(
            self.id_pattern, names, lambda at, told: faults.add(f"{place}.matrix_id{at}", told)
        )
        if template is None:
            return [self.id_pattern] * len(parts)
        return [template({**names, **dict(zip(self.names, each, strict=True))}) for each in parts]


def matrix_of(raw: dict[str, Any], place: str, faults: Faults) -> Matrix | None:
    """The matrix of a given job; None where it has none, or a wrong one, which ``faults`` say."""
    own = {key: raw[key] for key in MATRIX_FIELDS if key in raw}
    values = check_object(own, MATRIX_FIELDS, frozenset(), faults, place)
    if len(values) < len(own):
        return None
    given: dict[str, tuple[str, ...]] = values.get("matrix", {})
    include: tuple[Combination, ...] = values.get("matrix_include", ())
    exclude: tuple[Combination, ...] = values.get("matrix_exclude", ())
    if not given and not include:
        key = next(iter(own))
        faults.add(f"{place}.{key}", "needs a matrix")
        return None
    names = tuple(given) or tuple(include[0])
    if not _all_named(names, include, exclude, place, faults):
        return None
    if (size := prod(map(len, given.values()))) > MAX_COMBINATIONS:
        told = f"has {size:,} combinations: at most {MAX_COMBINATIONS:,}"
        faults.add(f"{place}.matrix", told)
        return None
    product = list(itertools.product(*given.values())) if given else []
    left = _without(names, product, exclude, place, faults)
    seen = set(left)
    for at, item in enumerate(include):
        each = tuple([item[name] for name in names])
        if each in seen:
            faults.add(f"{place}.matrix_include[{at}]", "this combination is there already")
        seen.add(each)
        left.append(each)
    if not left:
        faults.add(f"{place}.matrix_exclude", "leaves no combination")
    return Matrix(names, tuple(left), values.get("matrix_id"))


def _all_named(
    names: tuple[str, ...],
    include: Sequence[Combination],
    exclude: Sequence[Combination],
    place: str,
    faults: Faults,
) -> bool:
    right = True
    for key, items in (("matrix_include", include), ("matrix_exclude", exclude)):
        for at, item in enumerate(items):
            for name in item:
                if name not in names:
                    told = f"the matrix has no such name{did_you_mean(name, names)}"
                    faults.add(f"{place}.{key}[{at}]{step(name)}", told)
                    right = False
            missing = [name for name in names if name not in item]
            if key == "matrix_include" and missing:
                told = f"must have every name of the matrix: {missing[0]} is missing"
                faults.add(f"{place}.{key}[{at}]", told)
                right = False
    return right


def _without(
    names: tuple[str, ...],
    combinations: list[tuple[str, ...]],
    exclude: Sequence[Combination],
    place: str,
    faults: Faults,
) -> list[tuple[str, ...]]:
    """Without those that hold all that an exclusion says."""
    for at, item in enumerate(exclude):
        wanted = [(names.index(name), value) for name, value in item.items()]
        left = [each for each in combinations if not all(each[n] == value for n, value in wanted)]
        if len(left) == len(combinations):
            told = "excludes nothing: no combination that is left has these values"
            faults.add(f"{place}.matrix_exclude[{at}]", told)
        combinations = left
    return combinations
