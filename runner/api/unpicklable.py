"""Which object it is that can't be pickled: words for the error.

The error of pickle names a type (`cannot pickle '_thread.lock' object`), and not where the object
is. Here the call is taken apart until the smallest part is found that can't be pickled alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_DEEPEST = 6
_MOST = 1000
"""Parts of one object that are looked at."""


def describe_unpicklable(
    function: object, args: tuple[Any, ...], kwargs: Mapping[str, Any], dump: Callable[[Any], Any]
) -> str:
    """The place of what ``dump`` refuses: ``argument 2: ["lock"] (a lock)``."""
    parts: list[tuple[str, Any]] = [(f"function {name_of(function)}", function)]
    parts += [(f"argument {number}", value) for number, value in enumerate(args, 1)]
    parts += [(f"argument {name}=", value) for name, value in kwargs.items()]
    for place, value in parts:
        if _fails(value, dump):
            return place + _inside(value, dump, _DEEPEST)
    return "the call as a whole"


def describe_part(value: object, dump: Callable[[Any], Any]) -> str:
    """The same for a single object, such as a result."""
    return _inside(value, dump, _DEEPEST).removeprefix(": ")


def name_of(function: object) -> str:
    """What people call a function: its qualified name, or its type's."""
    wrapped = getattr(function, "func", None)  # functools.partial
    if not hasattr(function, "__qualname__") and wrapped is not None:
        return name_of(wrapped)
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)


def _inside(value: Any, dump: Callable[[Any], Any], depth: int) -> str:
    if depth:
        for number, (place, part) in enumerate(_parts(value)):
            if number >= _MOST:
                break
            if part is not value and _fails(part, dump):
                return f": {place}{_inside(part, dump, depth - 1)}"
    return f" (a {type(value).__module__}.{type(value).__qualname__})"


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object consists of, as far as pickle would go into it."""
    if isinstance(value, dict):
        for key, held in value.items():
            yield f"[{key!r:.60}]", held
            yield f"the key {key!r:.60}", key
    elif isinstance(value, list | tuple | set | frozenset):
        for number, held in enumerate(value):
            yield f"[{number}]", held
    else:
        code, cells = getattr(value, "__code__", None), getattr(value, "__closure__", None)
        if code is not None and cells:
            for name, cell in zip(code.co_freevars, cells, strict=False):
                try:
                    yield f"the variable {name} of its closure", cell.cell_contents
                except ValueError:  # not filled yet
                    continue
        if code is not None:
            known = getattr(value, "__globals__", {})
            for name in code.co_names:
                if name in known:
                    yield f"the global {name} that it uses", known[name]
        if (owner := getattr(value, "__self__", None)) is not None:
            yield "the object it is a method of", owner
        held = getattr(value, "__dict__", None)
        if isinstance(held, dict) and code is None:
            for name, part in held.items():
                yield f".{name}", part


def _fails(value: Any, dump: Callable[[Any], Any]) -> bool:
    try:
        dump(value)
    except Exception:
        return True
    return False
