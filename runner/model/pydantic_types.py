"""The types of a document's fields, as its JSON Schema describes them.

Owns patterns and descriptions of single values; what is valid is checked by ``fields``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema
from typing_extensions import TypeAliasType

from runner.model import fields as rules
from runner.model import globs, secrets, sizes
from runner.model import placement_fields as placing
from runner.model.durations import PATTERN as DURATION_PATTERN
from runner.model.expansion.matrix import NAME_PATTERN
from runner.model.expansion.queue_names import FORMATS

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

_TIME = rf"\{{(?:{'|'.join(FORMATS)})\}}"
_NAMES = rf"{NAME_PATTERN}(?:\s*,\s*{NAME_PATTERN})*"

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
QueueId = TypeAliasType(
    "QueueId",
    Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "pattern": rf"^(?:[A-Za-z0-9]|{_TIME})(?:[A-Za-z0-9._-]|{_TIME}){{0,127}}$",
                "examples": ["nightly-{date}"],
            }
        ),
    ],
)
Command = TypeAliasType(
    "Command",
    Annotated[
        str,
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": rules.MAX_ARGUMENT_BYTES}),
    ],
)
Dependency = TypeAliasType(
    "Dependency",
    Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "pattern": rf"^{rules.ID_PATTERN}(?:\[(?:{_NAMES})?\])?$",
                "description": "A job's id, of a matrix all of its jobs; ID[s]: those of the same "
                "s; of arrays of one size ID[], element by element.",
            }
        ),
    ],
)
_Parallel = Annotated[
    int, Field(json_schema_extra={"minimum": 1, "maximum": rules.MAX_PARALLEL_JOBS})
]
Parallel = _Parallel | Literal["fit"]
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
RetryOn = Literal["exit", "timeout", "signal"]
Fresh = Literal["keep", "check", "clear"]
ExitCode = Annotated[int, Field(ge=1, le=255, description="An exit code.")]

_SIZE: Schema = {
    "type": "string",
    "pattern": f"^{sizes.PATTERN}$",
    "description": "A size above 0 in KiB, MiB, GiB or TiB.",
    "examples": ["512MiB", "16GiB"],
}
Size = TypeAliasType("Size", Annotated[str, WithJsonSchema(_SIZE)])

_POOL = rf"^(?!(?:{'|'.join(placing.OWN_RESOURCES)})$){placing.POOL_PATTERN}$"
_AMOUNT: Schema = {"type": "integer", "minimum": 1, "maximum": placing.MAX_POOL}
_NOTES: Schema = {"^x-": {"description": "Ignored."}}

Resources = TypeAliasType(
    "Resources",
    Annotated[
        dict[str, Any],
        WithJsonSchema(
            {
                "type": "object",
                "properties": {
                    "cpus": {
                        "type": "number",
                        "minimum": placing.CPU_STEP,
                        "maximum": placing.MAX_CPUS,
                        "multipleOf": placing.CPU_STEP,
                        "default": 1,
                        "description": "Processors, in steps of 0.25.",
                    },
                    "memory": {
                        "anyOf": [
                            _SIZE,
                            {
                                "type": "array",
                                "items": _SIZE,
                                "minItems": 1,
                                "maxItems": placing.MAX_SIZES,
                            },
                        ],
                        "description": "Memory; a list has one size for each attempt, the last "
                        "for all later ones.",
                        "examples": ["16GiB", ["8GiB", "16GiB"]],
                    },
                    "gpus": {
                        "type": "integer",
                        "minimum": 0,
                        "maximum": placing.MAX_GPUS,
                        "description": "GPUs; 0 hides them, without it they are left as they are.",
                    },
                    "$schema": {"description": "Ignored."},
                },
                "patternProperties": {
                    _POOL: {**_AMOUNT, "description": "So much of a pool of the queue."},
                    **_NOTES,
                },
                "required": [],
                "additionalProperties": False,
                "examples": [{"cpus": 4, "memory": "16GiB", "gpus": 1}],
            }
        ),
    ],
)
Pools = TypeAliasType(
    "Pools",
    Annotated[
        dict[str, Any],
        WithJsonSchema(
            {
                "type": "object",
                "properties": {"$schema": {"description": "Ignored."}},
                "patternProperties": {_POOL: _AMOUNT, **_NOTES},
                "additionalProperties": False,
                "default": {},
                "examples": [{"licence": 2}],
            }
        ),
    ],
)
_NO_TAG = r"x-|\$schema$|[aA][wW][sS]:"
Tags = TypeAliasType(
    "Tags",
    Annotated[
        dict[str, str],
        WithJsonSchema(
            {
                "type": "object",
                "properties": {"$schema": {"description": "Ignored."}},
                "patternProperties": {
                    rf"^(?!{_NO_TAG})[\s\S]{{1,{placing.MAX_TAG_NAME}}}(?![\s\S])": {
                        "type": "string",
                        "maxLength": placing.MAX_TAG_VALUE,
                    },
                    **_NOTES,
                },
                "additionalProperties": False,
                "default": {},
            }
        ),
    ],
)
Mount = TypeAliasType(
    "Mount",
    Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "pattern": f"^{placing.MOUNT_PATTERN}$",
                "description": "A folder, perhaps its place in the container, perhaps :ro.",
                "examples": ["/data:ro", "/data:/mnt/data"],
            }
        ),
    ],
)
_SHELL_WORDS: Schema = {
    "type": "array",
    "prefixItems": [{"type": "string", "pattern": "^/"}],
    "items": {"type": "string", "minLength": 1},
    "minItems": 1,
    "maxItems": placing.MAX_SHELL,
}
Shell = TypeAliasType(
    "Shell", Annotated[list[str], WithJsonSchema({**_SHELL_WORDS, "examples": [["/bin/sh", "-c"]]})]
)
ImageOption = TypeAliasType(
    "ImageOption",
    Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 1,
                "not": {"pattern": placing.TAKEN_PATTERN},
                "description": "One word of the engine's command line.",
            }
        ),
    ],
)


def all_ends() -> list[RetryOn]:
    """Each way in which an attempt may end that is tried again."""
    return ["exit", "timeout", "signal"]
