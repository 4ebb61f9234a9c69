"""A document in YAML, as the members that a JSON document has, and the line of each place.

YAML 1.1's safe tags only, and of them those that JSON has values for: a date is a string. Imports
PyYAML, so it is imported only where a file's name says that it is YAML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from runner.errors import DocumentError
from runner.model.in_short import Member
from runner.model.json_reader import JOBS
from runner.model.messages import kind, step

_TAG = "tag:yaml.org,2002:"
_COLLECTIONS = (f"{_TAG}map", f"{_TAG}seq")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_ALIASED = 100_000
"""Values that aliases may stand for, beyond those that are written: each takes a character."""

_MAX_DEPTH = 100
_KEPT = 100


def read_yaml(text: str, name: str) -> tuple[Iterator[Member], Mapping[str, int]]:
    """The members, and lines by place; ``name`` is the file's, for errors of its syntax.

    Raises DocumentError with file, line and column for what isn't YAML, and with every key that is
    given twice.
    """
    try:
        node = yaml.compose(text, _LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise DocumentError([f"{name}: {where}{error.problem or error.context}"]) from None
    except (yaml.YAMLError, RecursionError) as error:
        told = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DocumentError([f"{name}: {' '.join(told.split())}"]) from None
    if node is None:
        raise DocumentError([f"{name}: line 1, column 1: the document is empty"])
    maker = _Maker(name, len(text) + _MAX_ALIASED)
    document = maker.value(node, "", 0)
    if maker.errors:
        raise DocumentError([f"{name}: {error}" for error in maker.errors[:_KEPT]])
    if not isinstance(document, dict):
        raise DocumentError([f"{name}: line 1: must be a mapping, not {kind(document)}"])
    return _members(document), maker.lines


def _members(document: dict[str, Any]) -> Iterator[Member]:
    for key, value in document.items():
        if key == JOBS and isinstance(value, list):
            yield key, None, []
            for index, job in enumerate(value):
                yield key, index, job
        else:
            yield key, None, value


class _Maker:
    """Makes JSON values of nodes, and notes where each stands."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self.errors: list[str] = []
        self.lines: dict[str, int] = {}
        self._scalars: Any = yaml.SafeLoader("")
        self._count = 0

    def value(self, node: yaml.Node, place: str, depth: int) -> Any:
        """The value; its lines go to ``lines``."""
        self.lines[place.removeprefix(".")] = node.start_mark.line + 1
        self._count += 1
        if self._count > self._most or depth > _MAX_DEPTH:
            told = "is nested too deeply" if depth > _MAX_DEPTH else "aliases make it too large"
            self._fault(node, told)
            raise DocumentError([f"{self._name}: {error}" for error in self.errors[-_KEPT:]])
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
            self._tag_fault(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(item, f"{place}[{at}]", depth + 1) for at, item in enumerate(node.value)
            ]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, place: str, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        own: set[str] = set()
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                for each in self._merged(value_node, place, depth):
                    merged = {**each, **merged}
                continue
            key = key_node.value
            if not isinstance(key, str) or not isinstance(key_node, yaml.ScalarNode):
                self._fault(key_node, "a key must be a string")
                continue
            if key in own:
                self._fault(key_node, f"{(place + step(key)).removeprefix('.')}: is given twice")
            own.add(key)
            made[key] = self.value(value_node, place + step(key), depth + 1)
            self.lines[(place + step(key)).removeprefix(".")] = key_node.start_mark.line + 1
        return {**merged, **made}

    def _merged(self, node: yaml.Node, place: str, depth: int) -> Iterator[dict[str, Any]]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for each in nodes:
            if isinstance(each, yaml.MappingNode):
                yield self.value(each, place, depth + 1)
            else:
                self._fault(each, "<<: takes a mapping, or a list of them")

    def _scalar(self, node: yaml.Node) -> Any:
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "str" | "timestamp" | "value":
                return self._text(node, text)
            case "null":
                return None
            case "bool":
                return self._scalars.construct_yaml_bool(node)
            case "int":
                return self._number(node, self._scalars.construct_yaml_int)
            case "float":
                value = self._number(node, self._scalars.construct_yaml_float)
                if value != value or value in (float("inf"), float("-inf")):
                    self._fault(node, f"{text} is not a number that JSON has")
                return value
            case _:
                self._tag_fault(node)
                return text

    def _number(self, node: yaml.Node, construct: Any) -> Any:
        try:
            return construct(node)
        except ValueError:
            self._fault(node, "is not a number that can be read")
            return 0

    def _text(self, node: yaml.Node, text: str) -> str:
        if "\0" in text:
            self._fault(node, "must not hold a NUL character")
        elif not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            self._fault(node, "holds a lone surrogate, which is not a character")
        return text

    def _tag_fault(self, node: yaml.Node) -> None:
        self._fault(node, f"the tag {node.tag.replace(_TAG, '!!')} is not read")

    def _fault(self, node: yaml.Node, message: str) -> None:
        self.errors.append(f"line {node.start_mark.line + 1}: {message}")
