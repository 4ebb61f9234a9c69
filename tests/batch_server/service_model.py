"""Requests and answers against botocore's model of the service: shapes, required, enums, lengths.

It knows nothing of jobs. Unknown members are refused: the real service ignores them, and a client
that sends one has a mistake.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

import botocore.session

_KINDS: Mapping[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "double": (int, float),
    "float": (int, float),
}


@functools.cache
def service() -> Any:
    """botocore's model of Batch."""
    return botocore.session.get_session().get_service_model("batch")


_TAGS = "/v1/tags/"


@functools.cache
def _routes() -> Mapping[tuple[str, str], str]:
    model = service()
    http = {name: model.operation_model(name).http for name in model.operation_names}
    return {
        (each["method"], each["requestUri"].partition("{")[0]): name for name, each in http.items()
    }


def operation_of(method: str, path: str) -> tuple[str | None, dict[str, Any]]:
    """The operation of a request, and its members that stand in the path: only tags have them."""
    plain, _, query = path.partition("?")
    if not plain.startswith(_TAGS):
        return _routes().get((method, plain)), {}
    given: dict[str, Any] = {"resourceArn": unquote(plain.removeprefix(_TAGS))}
    if keys := parse_qs(query).get("tagKeys"):
        given["tagKeys"] = keys
    return _routes().get((method, _TAGS)), given


def problems_of_request(operation: str, body: Any) -> list[str]:
    """What in a request's body the model doesn't allow."""
    return list(_problems(service().operation_model(operation).input_shape, body, "request"))


def problems_of_answer(operation: str, body: Any) -> list[str]:
    """What in an answer the model doesn't know: a mistake of this server.

    Bounds are for requests: the service itself answers empty tags, of which there are 1 to 50.
    """
    shape = service().operation_model(operation).output_shape
    if shape is None:
        return []
    return [each for each in _problems(shape, body, "answer") if " must be at " not in each]


def _problems(shape: Any, value: Any, at: str) -> Iterator[str]:
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
                yield from _problems(shape.key, key, f"{at}.{key}")
                yield from _problems(shape.value, item, f"{at}.{key}")
        case "list":
            for index, item in enumerate(value):
                yield from _problems(shape.member, item, f"{at}[{index}]")
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
            yield from _problems(shape.members[name], item, f"{at}.{name}")


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
