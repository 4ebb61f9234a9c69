"""Several calls of a function as one: what ``map`` sends with a ``chunksize``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runner.api.unpicklable import name_of


class ChunkCall:
    """Calls a function for each of several tuples of arguments."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        self.__qualname__ = name_of(fn)

    def __call__(self, chunk: list[tuple[Any, ...]]) -> list[Any]:
        return [self._fn(*each) for each in chunk]
