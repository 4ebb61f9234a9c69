"""The types of a document's fields, as its JSON Schema describes them.

Owns patterns and descriptions of single values; what is valid is checked by ``fields``.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema
from typing_extensions import TypeAliasType

from runner.model import fields as rules
from runner.model import globs, secrets
from runner.model.durations import PATTERN as DURATION_PATTERN

Schema = dict[str, Any]


def text_field(description: str, **more: Any) -> Any:
    """A string that is not empty."""
    return Field(description=description, json_schema_extra={"minLength": 1, **more})


def _environment(value: Schema) -> Schema:
    reserved = "|".join((*rules.RESERVED_VARIABLES, f"{rules.RESERVED_VARIABLE_PREFIX}.*"))
    name = f"^(?!(?:{reserved})$){rules.VARIABLE_PATTERN}$"
    return {
        "type": "object",
        "properties": {"$schema": {"description": "Ignored."}},
        "patternProperties": {name: value, "^x-": {"description": "Ignored."}},
        "additionalProperties": False,
        "default": {},
    }


_KNOWN = "|".join(name.strip("{}") for name in rules.PLACEHOLDERS)
_OTHER = rules.PLACEHOLDER_PATTERN.replace(r"\{", rf"\{{(?!(?:{_KNOWN})\}})", 1)
FILLED = rf"^(?![\s\S]*{_OTHER})"
"""No placeholder that nothing fills in."""

END = r"(?![\s\S])"
"""The end of a string; not $, which some languages let a line feed follow."""

Duration = TypeAliasType(
    "Duration",
    Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "pattern": f"^{DURATION_PATTERN}$",
                "description": "A Go duration string above 0, at most 87600h; a day is 24h.",
                "examples": ["90s", "1h30m", "1.5h"],
            }
        ),
    ],
)
Id = TypeAliasType(
    "Id",
    Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{rules.ID_PATTERN}$"})],
)
Glob = TypeAliasType(
    "Glob",
    Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 1,
                "description": "*, ?, […] and, for any number of folders, **; no ~, $VAR or {a,b}.",
                "pattern": globs.PATTERN,
            }
        ),
    ],
)
Env = TypeAliasType(
    "Env", Annotated[dict[str, str], WithJsonSchema(_environment({"type": "string"}))]
)
Secrets = TypeAliasType(
    "Secrets",
    Annotated[
        dict[str, str],
        WithJsonSchema(
            _environment({"type": "string", "pattern": rf"^{secrets.PATTERN}(?![\s\S])"})
        ),
    ],
)
ExitCode = Annotated[int, Field(ge=1, le=255, description="An exit code.")]
