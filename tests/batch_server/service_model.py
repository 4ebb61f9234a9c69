"""Batch's requests and answers against botocore's model of it.

It knows nothing of jobs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from service_shapes import problems, service_model


def service() -> Any:
    """botocore's model of Batch."""
    return service_model("batch")


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
    return list(problems(service().operation_model(operation).input_shape, body, "request"))


def problems_of_answer(operation: str, body: Any) -> list[str]:
    """What in an answer the model doesn't know: a mistake of this server.

    Bounds are for requests: the service itself answers empty tags, of which there are 1 to 50.
    """
    shape = service().operation_model(operation).output_shape
    if shape is None:
        return []
    return [each for each in problems(shape, body, "answer") if " must be at " not in each]
