"""``${{name}}`` in a document's strings: which names stand in one, and what takes their place.

Owns the only syntax that strings of a document have. ``$${{`` stands for ``${{`` itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from runner.model.in_short import ESCAPED, OPEN
from runner.model.json_reader import is_ignored
from runner.model.messages import did_you_mean, quoted, step

_MARK = re.compile(r"\$\$\{\{|\$\{\{(.*?)\}\}|\$\{\{", re.S)

Names = Mapping[str, str]
Template = Callable[[Names], Any]
"""Makes a value of what the names in it stand for."""

Report = Callable[[str, str], None]
"""Takes a place inside the value and what is wrong there."""


def holds_expression(value: Any) -> bool:
    """Whether some string in the value is more than what it says."""
    return compiled(value, (), lambda place, told: None) is not None


def compiled(value: Any, known: Collection[str], report: Report) -> Template | None:
    """How the value is made of names; None if it holds no expression and stands as it is.

    An expression that is wrong is told to ``report`` and stays as written.
    """
    match value:
        case str():
            return _text(value, known, report, "") if OPEN in value else None
        case list() | dict():
            return _container(value, known, report, "")
        case _:
            return None


def filled(value: Any, names: Names, report: Report) -> Any:
    """The value with every expression replaced."""
    template = compiled(value, names, report)
    return value if template is None else template(names)


def _any(value: Any, known: Collection[str], report: Report, place: str) -> Template | None:
    if isinstance(value, str):
        return _text(value, known, report, place) if OPEN in value else None
    if isinstance(value, list | dict):
        return _container(value, known, report, place)
    return None


def _container(value: Any, known: Collection[str], report: Report, place: str) -> Template | None:
    if isinstance(value, list):
        items = [_any(item, known, report, f"{place}[{at}]") for at, item in enumerate(value)]
        if not any(items):
            return None
        pairs = list(zip(items, value, strict=True))
        return lambda names: [item if make is None else make(names) for make, item in pairs]
    parts: list[tuple[Template | None, Template | None, str, Any]] = []
    for key, item in value.items():
        if is_ignored(key):
            continue
        at = place + step(key)
        parts.append((_any(key, known, report, at), _any(item, known, report, at), key, item))
    if not any(key or item for key, item, _, _ in parts):
        return None
    return lambda names: {
        (key if make_key is None else make_key(names)): (
            item if make_item is None else make_item(names)
        )
        for make_key, make_item, key, item in parts
    }


def _text(text: str, known: Collection[str], report: Report, place: str) -> Template:
    parts: list[str] = []
    at = 0
    variable: list[int] = []
    for found in _MARK.finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        if found[0] == ESCAPED:
            parts.append(OPEN)
            continue
        name = (found[1] or "").strip()
        if found[1] is None:
            report(place, '"${{" is not closed by "}}"; "$${{" is the characters themselves')
        elif name in known:
            variable.append(len(parts))
            parts.append(name)
            continue
        else:
            report(place, _unknown(name, known))
        parts.append(found[0])
    parts.append(text[at:])

    def make(names: Names) -> str:
        made = parts.copy()
        for index in variable:
            made[index] = names[parts[index]]
        return "".join(made)

    return make


def _unknown(name: str, known: Collection[str]) -> str:
    shown = quoted(f"{OPEN}{name}}}}}")
    near = did_you_mean(name, known)
    if not near and f"params.{name}" in known:
        near = f'; did you mean "params.{name}"?'
    if known:
        return f"{shown}: there is nothing of this name{near}"
    return (
        f"{shown}: the document has no params, and the job no matrix; "
        '"$${{" is the characters themselves'
    )
