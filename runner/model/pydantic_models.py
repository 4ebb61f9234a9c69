"""The models to build a queue document with in Python; the package ``runner`` hands them out.

    from runner import Job, Queue

    Queue(jobs=[Job("train", "python train.py", timeout="2h")]).save("queue.json")

Owns what a person sees of a document: its fields, their types, descriptions and JSON Schema. The
rules of the fields are those of ``fields``, so a model and a document are refused with the same
words. pydantic is imported here and nowhere else: it takes 0.1 s and 15 MB, which only `runner
schema` pays of the commands.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast, dataclass_transform

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import TypeAliasType

from runner.model import fields as rules
from runner.model import globs, secrets
from runner.model.durations import LONGEST, format_duration, parse_duration
from runner.model.durations import PATTERN as DURATION_PATTERN
from runner.model.faults import InvalidError
from runner.model.parsing import parse_document
from runner.model.queue import RUN_IF
from runner.model.reading import JOBS

_STEP = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|\.?([^.\[]+)')
_Schema = dict[str, Any]
_Model = TypeVar("_Model")


def _check(check: rules.Check, value: Any) -> None:
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


def _text(description: str, **more: Any) -> Any:
    return Field(description=description, json_schema_extra={"minLength": 1, **more})


def _object(
    checks: dict[str, rules.Check], required: frozenset[str], more: _Schema | None
) -> Callable[[_Schema], None]:
    """What the schema says of each object of a document: other keys are notes, or errors."""

    def say(schema: _Schema) -> None:
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
def _part(
    checks: dict[str, rules.Check], required: frozenset[str], more: _Schema | None = None
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
            name: field.get_default(call_default_factory=True) for name, field in known.items()
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


def _environment(value: _Schema) -> _Schema:
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
_FILLED = rf"^(?![\s\S]*{_OTHER})"
"""No placeholder that nothing fills in."""

_END = r"(?![\s\S])"  # not $, which some languages let a line feed follow

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


@dataclass
class _Part:
    """A part of a document: each of its fields is checked by the rule that documents have."""

    _checks: ClassVar[dict[str, rules.Check]]
    _required: ClassVar[frozenset[str]]
    _defaults: ClassVar[dict[str, Any]]

    @field_validator("*", mode="before")
    @classmethod
    def _as_documents(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        # Jobs were checked one by one.
        if name != JOBS and (value is not None or cls._defaults[name] is not None):
            _check(cls._checks[name], _plain(value))
        return value


@_part(rules.RETRY_FIELDS, rules.RETRY_REQUIRED)
class Retry(_Part):
    """How often and when a failed job is tried again."""

    max_attempts: Annotated[
        int,
        Field(
            json_schema_extra={"minimum": 1, "maximum": rules.MAX_ATTEMPTS},
            description="How many executions there may be, the first included.",
        ),
    ]
    _: KW_ONLY
    backoff: Literal["exponential", "fixed", "exponential-jitter"] = Field(
        default="exponential", description="How the delay grows with each attempt."
    )
    base_delay: Duration | None = Field(
        default=None, description="The first delay: 1s, with a fixed backoff 5s by default."
    )
    max_delay: Duration = Field(default="5m", description="No delay is longer.")
    retry_on_codes: list[ExitCode] | None = Field(
        default=None, description="Only these exit codes are tried again."
    )
    dont_retry_on_codes: list[ExitCode] = Field(
        default_factory=list, description="These exit codes are never tried again."
    )


@_part(
    rules.INPUT_FIELDS,
    rules.INPUT_REQUIRED,
    {
        "not": {
            "properties": {
                "s3": {"pattern": f"/{_END}"},
                "path": {"not": {"pattern": f"/{_END}"}},
            },
            "required": ["path", "s3"],
        }
    },
)
class InputPath(_Part):
    """What is fetched from S3 before the first attempt."""

    s3: Annotated[
        str,
        _text(
            "s3://bucket/key, or s3://bucket/prefix/ for all keys below it.",
            pattern=f"{_FILLED}{rules.S3_SCHEME}{rules.BUCKET_PATTERN}/",
        ),
    ]
    path: Annotated[
        str,
        _text("Where it goes: a file's name, or with a / at its end a folder.", pattern=_FILLED),
    ]


@_part(rules.RESULT_FIELDS, rules.RESULT_REQUIRED)
class ResultPath(_Part):
    """A glob of the files to keep after success."""

    path: Annotated[Glob, Field(description="Which files.")]
    _: KW_ONLY
    optional: bool = Field(default=False, description="It may match nothing.")


_CONDITION: _Schema = {
    "if": {
        "properties": {"run_if": {"enum": [word for word in RUN_IF if word != "success"]}},
        "required": ["run_if"],
    },
    "then": {"properties": {"depends_on": {"minItems": 1}}, "required": ["depends_on"]},
}
"""A job that runs after a failure, or in any case, says after which jobs."""


@_part(rules.JOB_FIELDS, rules.JOB_REQUIRED, _CONDITION)
class Job(_Part):
    """One command of a queue, and all that belongs to it."""

    job_id: Annotated[
        Id,
        Field(
            description="The job's name in the queue, unique.",
            json_schema_extra={"not": {"enum": list(rules.RESERVED_JOB_IDS)}},
        ),
    ]
    command: Annotated[
        str,
        _text(
            "Run as /bin/bash -c COMMAND; at most 131,071 bytes of UTF-8.",
            maxLength=rules.MAX_ARGUMENT_BYTES,
        ),
    ]
    _: KW_ONLY
    timeout: Annotated[Duration, Field(description="The most time that one attempt may take.")]
    depends_on: list[Id] = Field(
        default_factory=list,
        description="Ids of the jobs that must have ended before this one starts.",
        json_schema_extra={"uniqueItems": True},
    )
    run_if: Literal["success", "failure", "always"] = Field(
        default="success", description="How its dependencies must have ended for the job to run."
    )
    env: Env = Field(
        default_factory=dict,
        repr=False,
        description="Environment variables; they win over the queue's.",
    )
    secret_env: Secrets = Field(
        default_factory=dict,
        description="Variables read at each start: ssm:NAME, secretsmanager:NAME#KEY.",
        examples=[{"HF_TOKEN": "ssm:/train/hf-token"}],
    )
    retry: Retry | None = Field(
        default=None, description="Whether a failed attempt is tried again; one attempt if not."
    )
    result_paths: list[Glob | ResultPath] = Field(
        default_factory=list,
        description="Globs of the files to keep after success; each must match some.",
        examples=[["/tmp/models/*.pt", {"path": "logs/**/*.log", "optional": True}]],
    )
    checkpoint_paths: list[Glob] = Field(
        default_factory=list,
        description="Globs of the files that an interrupted attempt leaves for the next.",
        examples=[["checkpoints/**"]],
    )
    input_paths: list[InputPath] = Field(
        default_factory=list,
        description="What is fetched from S3 before the first attempt.",
        examples=[[{"s3": "s3://bucket/data/", "path": "/data/in/"}]],
    )
    inputs_in_timeout: bool = Field(
        default=False, description="Count the time that the inputs take as the attempt's."
    )
    keep_background: bool = Field(
        default=False,
        description="Leave what the command put into the background until the queue ends.",
    )
    working_directory: Annotated[
        str | None, _text("The folder the job starts in, instead of the queue's.")
    ] = None

    term_grace: Duration | None = Field(
        default=None, description="Time between SIGTERM and SIGKILL, instead of the queue's."
    )


@_part(rules.QUEUE_FIELDS, rules.QUEUE_REQUIRED)
class Queue(_Part):
    """A queue of jobs that run on one machine, in the order they depend on."""

    _: KW_ONLY
    queue_id: Id | None = Field(
        default=None, description="The queue's identity; made from the time when left out."
    )
    queue_name: Annotated[str, _text("A name for people.")] = "queue"
    jobs: list[Job] = Field(
        default_factory=list,
        description="The jobs. Among jobs that are ready the first one here starts first.",
        json_schema_extra={"minItems": 1},
    )
    global_timeout: Duration | None = Field(
        default=None, description="The most time the queue may be worked on, all in all."
    )
    on_failure: Literal["stop", "continue"] = Field(
        default="stop",
        description="When a job fails for good: stop, or continue with what doesn't need it.",
    )
    result_s3_bucket: str | None = Field(
        default=None,
        description="The S3 bucket for logs and results.",
        json_schema_extra={"pattern": f"^{rules.BUCKET_PATTERN}$"},
    )
    result_s3_prefix: Annotated[
        str | None,
        _text(
            "What all keys in the bucket begin with; queues/<queue_id> by default.",
            examples=["queues/nightly"],
            pattern="^[^/]+(?:/[^/]+)*$",
        ),
    ] = None
    env: Env = Field(
        default_factory=dict, repr=False, description="Environment variables for every job."
    )
    secret_env: Secrets = Field(
        default_factory=dict, description="The same, from where secrets are kept: see a job's."
    )
    working_directory: Annotated[str | None, _text("The folder that jobs start in.")] = None
    term_grace: Duration = Field(default="30s", description="Time between SIGTERM and SIGKILL.")
    max_parallel_jobs: int = Field(
        default=1,
        description="How many jobs may run at once.",
        json_schema_extra={"minimum": 1, "maximum": rules.MAX_PARALLEL_JOBS},
    )

    def to_json(self) -> str:
        """The document, for people and for `runner run`; what has its default is left out.

        Without a ``global_timeout`` the queue gets the time that all attempts of its jobs may take
        one after another. Raises DocumentError with every error, those between jobs included.
        """
        document = _plain(self)
        document |= {"global_timeout": self.global_timeout or self._longest()}
        document |= {"jobs": document.pop("jobs")}  # to the end
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        parse_document(text.encode(errors="surrogatepass"))
        return text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the document: the file is replaced as a whole, or stays as it is.

        Raises DocumentError as ``to_json`` does, and OSError.
        """
        target = Path(path).resolve()
        text = self.to_json()
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with open(beside, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)

    def _longest(self) -> str:
        """How long all attempts of all jobs may take, their delays included."""
        seconds = 0.0
        for job in self.jobs:
            attempts = job.retry.max_attempts if job.retry else 1
            delay = parse_duration(job.retry.max_delay) if job.retry else 0.0
            seconds += attempts * parse_duration(job.timeout) + (attempts - 1) * delay
        return format_duration(min(max(seconds, 1.0), LONGEST))


def _plain(value: Any) -> Any:
    """As JSON has it; of a model all that isn't its default, or is required."""
    if isinstance(value, _Part):
        return {
            name: _plain(held)
            for name, default in value._defaults.items()
            if (held := getattr(value, name)) != default or name in value._required
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
