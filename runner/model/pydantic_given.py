"""The fields of jobs and queues that are written out when a document is read: see ``expansion``.

Owns their types, descriptions and JSON Schema; the models of ``pydantic_models`` have them too.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema
from pydantic.dataclasses import dataclass
from typing_extensions import TypeAliasType

from runner.model.expansion import matrix, parameters
from runner.model.fields import MAX_PARALLEL_JOBS
from runner.model.in_short import DEFAULTS
from runner.model.pydantic_base import DocumentPart
from runner.model.pydantic_notify import NotifyingQueue
from runner.model.pydantic_types import Schema

_NOTES: Schema = {"^x-": {"description": "Ignored."}}
_NAME = f"^(?!x-){matrix.NAME_PATTERN}$"
_VALUE: Schema = {"type": ["string", "number", "boolean"]}


def _object(value: Schema, **more: Any) -> Schema:
    return {
        "type": "object",
        "properties": {"$schema": {"description": "Ignored."}},
        "patternProperties": {_NAME: value, **_NOTES},
        "additionalProperties": False,
        **more,
    }


Matrix = TypeAliasType(
    "Matrix",
    Annotated[
        dict[str, Any],
        WithJsonSchema(
            _object(
                {"type": "array", "items": _VALUE, "minItems": 1, "uniqueItems": True},
                examples=[{"sample": ["A", "B"], "chromosome": ["I", "II"]}],
            )
        ),
    ],
)
Combination = TypeAliasType(
    "Combination",
    Annotated[dict[str, Any], WithJsonSchema(_object(_VALUE, minProperties=1))],
)
Params = TypeAliasType(
    "Params",
    Annotated[
        dict[str, Any],
        WithJsonSchema(
            _object(_VALUE, default={}, examples=[{"lr": "0.1"}], maxProperties=1000),
        ),
    ],
)
Lines = Annotated[list[str], Field(min_length=1)]

_HAS_TIMEOUT: Schema = {
    "properties": {DEFAULTS: {"required": ["timeout"]}},
    "required": [DEFAULTS],
}
BETWEEN_FIELDS: Schema = {
    "if": {"not": _HAS_TIMEOUT},
    "then": {"properties": {"jobs": {"items": {"required": ["timeout"]}}}},
    "dependentSchemas": {"max_failures": {"properties": {"on_failure": {"const": "continue"}}}},
}
"""A job has a timeout of its own, or there is one in the defaults; a stop has no further failures.
"""


@dataclass(kw_only=True)
class JobInShort(DocumentPart):
    """What makes several jobs of one, where they start, and what their failure means."""

    allow_failure: bool = Field(
        default=False,
        description="Whether the job may fail: those that depend on it take that for success, and "
        "the queue can be completed.",
    )
    hold: bool = Field(
        default=False, description="Whether the job waits, also when it could start, for a release."
    )
    expands: str | None = Field(
        default=None,
        description="The file, relative to the working directory, in which the job leaves further "
        'jobs: {"jobs": […]}. When it has succeeded they are added to the queue as JOB.ID, and '
        "those that depend on this job wait for them, too.",
        json_schema_extra={"minLength": 1},
    )

    create_working_directory: bool | None = Field(
        default=None,
        description="Whether the working directory is made where there is none, instead of the "
        "queue's.",
    )

    matrix: Matrix | None = Field(
        default=None,
        description="Make a job of each combination of these values: ${{name}} is its value, and "
        "its id is ID.VALUE-VALUE.",
    )
    matrix_include: list[Combination] = Field(
        default_factory=list,
        description="Further combinations, each with all of the names; without matrix, all.",
    )
    matrix_exclude: list[Combination] = Field(
        default_factory=list,
        description="Combinations that are left out: those that have all of the values.",
    )
    matrix_id: str | None = Field(
        default=None,
        description="What ids are made of, instead of ID.VALUE-VALUE.",
        json_schema_extra={"minLength": 1},
        examples=["train-${{lr}}"],
    )


@dataclass(kw_only=True)
class QueueInShort(NotifyingQueue):
    """What is said once for many jobs."""

    max_failures: int | None = Field(
        default=None,
        description="With on_failure continue: start nothing new once so many jobs have failed.",
        json_schema_extra={"minimum": 1, "maximum": MAX_PARALLEL_JOBS},
    )

    create_working_directory: bool = Field(
        default=False, description="Whether working directories are made where there are none."
    )

    defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="Fields of a job, for each job that doesn't have them itself; all but job_id, "
        "command, depends_on and matrix.",
        examples=[{"timeout": "1h", "retry": {"max_attempts": 3}}],
    )
    params: Params = Field(
        default_factory=dict,
        description="Names and values: ${{params.NAME}} in strings, PARAM_NAME for jobs; "
        "run --set NAME=VALUE sets another.",
        json_schema_extra={"maxProperties": parameters.MAX_PARAMS},
    )
