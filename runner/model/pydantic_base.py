"""What the models of a document have in common: their checks, their form as JSON, their schema.

Owns how a rule of ``fields`` becomes pydantic's error: same words, same place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from runner.model.checks import Check
from runner.model.json_reader import JOBS
from runner.model.pydantic_types import Schema
from runner.model.validation_errors import InvalidError

_STEP = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|\.?([^.\[]+)')
_Model = TypeVar("_Model")


def _check(check: Check, value: Any) -> None:
    """Raise pydantic's error with the words and places that a document's error has."""
    try:
        check(value)
    except InvalidError as invalid:
        errors: list[InitErrorDetails] = [
            {
                # Not as the message itself: braces in it would be taken for places to fill in.
                "type": PydanticCustomError("document_rule", "{rule}", {"rule": message}),
                "loc": tuple(int(n) if n else quoted or key for quoted, n, key in steps),
                "input": None,
            }
            for place, message in invalid.faults
            for steps in [_STEP.findall(place)]
        ]
        raise ValidationError.from_exception_data("value", errors) from None


def _object(
    checks: dict[str, Check], required: frozenset[str], more: Schema | None
) -> Callable[[Schema], None]:
    """What the schema says of each object of a document: other keys are notes, or errors."""

    def say(schema: Schema) -> None:
        del schema["title"]
        made = schema["properties"]
        for name in required:  # a model's default is written into the document
            made[name].pop("default", None)
        schema["properties"] = {name: made[name] for name in checks}
        schema["properties"]["$schema"] = {"description": "Ignored."}
        schema["patternProperties"] = {"^x-": {"description": "Ignored: notes to other programs."}}
        schema["required"] = sorted(required)
        schema["additionalProperties"] = False
        schema.update(more or {})

    return say


@dataclass_transform(field_specifiers=(Field,))
def document_part(
    checks: dict[str, Check], required: frozenset[str], more: Schema | None = None
) -> Callable[[type[_Model]], type[_Model]]:
    """Makes a class a model whose first fields may be given by position."""
    config = ConfigDict(
        extra="forbid",
        # They may be values of env.
        hide_input_in_errors=True,
        validate_assignment=True,
        json_schema_extra=_object(checks, required, more),
    )

    def make(cls: type[_Model]) -> type[_Model]:
        made: Any = dataclass(cls, config=config)
        made._checks, made._required = checks, required
        known: dict[str, FieldInfo] = made.__pydantic_fields__
        made._defaults = {
            name: known[name].get_default(call_default_factory=True) for name in checks
        }
        names = [field.name for field in fields(made) if not field.kw_only]
        validate = made.__init__

        def by_name(self: Any, *given: Any, **named: Any) -> None:
            """pydantic's errors would call the first field 0."""
            if len(given) > len(names):
                raise TypeError(f"{cls.__name__}() takes {len(names)} positional arguments")
            validate(self, **dict(zip(names, given, strict=False)), **named)

        made.__init__ = by_name
        return cast(type[_Model], made)

    return make


@dataclass
class DocumentPart:
    """A part of a document: each of its fields is checked by the rule that documents have."""

    _checks: ClassVar[dict[str, Check]]
    _required: ClassVar[frozenset[str]]
    _defaults: ClassVar[dict[str, Any]]

    @field_validator("*", mode="before")
    @classmethod
    def _as_documents(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        # Jobs were checked one by one.
        if name != JOBS and (value is not None or cls._defaults[name] is not None):
            _check(cls._checks[name], plain(value))
        return value


def plain(value: Any) -> Any:
    """As JSON has it; of a model all that isn't its default, or is required."""
    if isinstance(value, DocumentPart):
        return {
            name: plain(held)
            for name, default in value._defaults.items()
            if (held := getattr(value, name)) != default or name in value._required
        }
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
