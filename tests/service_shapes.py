"""Values against botocore's model of a service: shapes, required members, enums, lengths.

Unknown members are refused: the real services ignore them, and a client that sends one has a
mistake.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import botocore.session

_KINDS: Mapping[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "blob": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "double": (int, float),
    "float": (int, float),
}


@functools.cache
def service_model(name: str) -> Any:
    """botocore's model of a service."""
    return botocore.session.get_session().get_service_model(name)


def problems(shape: Any, value: Any, at: str) -> Iterator[str]:
    """What in a value its shape doesn't allow; ``at``: what the value is called."""
    kinds = _KINDS[shape.type_name]
    fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not fits:
        yield f"{at}: {type(value).__name__} is not a {shape.type_name}"
        return
    yield from _bounds(shape, value, at)
    match shape.type_name:
        case "structure":
            yield from _members(shape, value, at)
        case "map":
            for key, item in value.items():
                yield from problems(shape.key, key, f"{at}.{key}")
                yield from problems(shape.value, item, f"{at}.{key}")
        case "list":
            for index, item in enumerate(value):
                yield from problems(shape.member, item, f"{at}[{index}]")
        case _:
            pass


def _members(shape: Any, value: Mapping[str, Any], at: str) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value:
            yield f"{at}.{name} is required"
    for name, item in value.items():
        if name not in shape.members:
            yield f"{at}.{name} is unknown"
        elif item is not None:
            yield from problems(shape.members[name], item, f"{at}.{name}")


def _bounds(shape: Any, value: Any, at: str) -> Iterator[str]:
    if shape.type_name in ("structure", "boolean"):
        return
    enum = getattr(shape, "enum", None)
    if enum and value not in enum:
        yield f"{at}: {value!r} is none of {', '.join(enum)}"
    size = value if isinstance(value, int | float) else len(value)
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        yield f"{at} must be at least {least}"
    if most is not None and size > most:
        yield f"{at} must be at most {most}"
