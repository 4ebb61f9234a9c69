"""The JSON Schema (2020-12) of a queue document as a user writes it, for editors and other tools.

It says all that a schema can say of one value. What concerns several jobs (unique ids, existing
dependencies, cycles), sizes in bytes and duplicate keys is only checked by ``parsing``. A test
holds its fields against the parser's tables.
"""

from __future__ import annotations

from typing import Any

from runner.model import fields, globs, secrets
from runner.model.durations import PATTERN as DURATION_PATTERN
from runner.model.queue import BASE_DELAYS, ON_FAILURE, RUN_IF

_Schema = dict[str, Any]


def json_schema() -> dict[str, Any]:
    """The schema, made anew: the caller may change it."""
    queue = _object(_queue_fields(), fields.QUEUE_REQUIRED)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Queue document",
        "description": "A queue of jobs that run on one machine, in the order they depend on.",
        **queue,
        "$defs": {
            "job": {**_object(_job_fields(), fields.JOB_REQUIRED), **_CONDITION},
            "retry": _object(_retry_fields(), fields.RETRY_REQUIRED),
            "input": _input(),
            "result": _result(),
            "glob": {
                **_text("*, ?, […] and, for any number of folders, **; no ~, $VAR or {a,b}."),
                "pattern": globs.PATTERN,
            },
            "env": _environment({"type": "string"}),
            "secrets": _environment(_reference()),
            "duration": {
                "type": "string",
                "pattern": f"^{DURATION_PATTERN}$",
                "description": "A Go duration string above 0, at most 87600h; a day is 24h.",
                "examples": ["90s", "1h30m", "1.5h"],
            },
            "id": {"type": "string", "pattern": f"^{fields.ID_PATTERN}$"},
        },
    }


_CONDITION: _Schema = {
    "if": {
        "properties": {"run_if": {"enum": [word for word in RUN_IF if word != "success"]}},
        "required": ["run_if"],
    },
    "then": {"properties": {"depends_on": {"minItems": 1}}, "required": ["depends_on"]},
}
"""A job that runs after a failure, or in any case, says after which jobs."""


def _object(properties: _Schema, required: frozenset[str]) -> _Schema:
    return {
        "type": "object",
        "properties": {**properties, "$schema": {"description": "Ignored."}},
        "patternProperties": {"^x-": {"description": "Ignored: notes to other programs."}},
        "required": sorted(required),
        "additionalProperties": False,
    }


def _queue_fields() -> _Schema:
    return {
        "queue_id": _ref("id", "The queue's identity; made from the time when left out."),
        "queue_name": _text("A name for people."),
        "jobs": {
            "type": "array",
            "items": {"$ref": "#/$defs/job"},
            "minItems": 1,
            "description": "The jobs. Among jobs that are ready the first one here starts first.",
        },
        "global_timeout": _ref("duration", "The most time the queue may be worked on, all in all."),
        "on_failure": _enum(
            ON_FAILURE, "When a job fails for good: stop, or continue with what doesn't need it."
        ),
        "result_s3_bucket": {
            "type": "string",
            "pattern": f"^{fields.BUCKET_PATTERN}$",
            "description": "The S3 bucket for logs and results.",
        },
        "result_s3_prefix": {
            "type": "string",
            "minLength": 1,
            "pattern": "^[^/]+(?:/[^/]+)*$",
            "description": "What all keys in the bucket begin with; queues/<queue_id> by default.",
            "examples": ["queues/nightly"],
        },
        "env": _ref("env", "Environment variables for every job."),
        "secret_env": _ref("secrets", "The same, from where secrets are kept: see a job's."),
        "working_directory": _text("The folder that jobs start in."),
        "term_grace": _ref("duration", "Time between SIGTERM and SIGKILL.", "30s"),
        "max_parallel_jobs": {
            **_whole(1, fields.MAX_PARALLEL_JOBS, "How many jobs may run at once."),
            "default": 1,
        },
    }


def _job_fields() -> _Schema:
    job_id = _ref("id", "The job's name in the queue, unique.")
    return {
        "job_id": {**job_id, "not": {"enum": list(fields.RESERVED_JOB_IDS)}},
        "command": {
            **_text("Run as /bin/bash -c COMMAND; at most 131,071 bytes of UTF-8."),
            "maxLength": fields.MAX_ARGUMENT_BYTES,
        },
        "timeout": _ref("duration", "The most time that one attempt may take."),
        "depends_on": {
            "type": "array",
            "items": {"$ref": "#/$defs/id"},
            "uniqueItems": True,
            "default": [],
            "description": "Ids of the jobs that must have ended before this one starts.",
        },
        "run_if": {
            **_enum(RUN_IF, "How its dependencies must have ended for the job to run."),
            "default": "success",
        },
        "env": _ref("env", "Environment variables; they win over the queue's."),
        "secret_env": {
            **_ref("secrets", "Variables read at each start: ssm:NAME, secretsmanager:NAME#KEY."),
            "examples": [{"HF_TOKEN": "ssm:/train/hf-token"}],
        },
        "retry": _ref("retry", "Whether a failed attempt is tried again; one attempt if not."),
        "result_paths": {
            "type": "array",
            "items": {"anyOf": [{"$ref": "#/$defs/glob"}, {"$ref": "#/$defs/result"}]},
            "default": [],
            "description": "Globs of the files to keep after success; each must match some.",
            "examples": [["/tmp/models/*.pt", {"path": "logs/**/*.log", "optional": True}]],
        },
        "checkpoint_paths": {
            "type": "array",
            "items": {"$ref": "#/$defs/glob"},
            "default": [],
            "description": "Globs of the files that an interrupted attempt leaves for the next.",
            "examples": [["checkpoints/**"]],
        },
        "input_paths": {
            "type": "array",
            "items": {"$ref": "#/$defs/input"},
            "default": [],
            "description": "What is fetched from S3 before the first attempt.",
            "examples": [[{"s3": "s3://bucket/data/", "path": "/data/in/"}]],
        },
        "inputs_in_timeout": {
            "type": "boolean",
            "default": False,
            "description": "Count the time that the inputs take as the attempt's.",
        },
        "keep_background": {
            "type": "boolean",
            "default": False,
            "description": "Leave what the command put into the background until the queue ends.",
        },
        "working_directory": _text("The folder the job starts in, instead of the queue's."),
        "term_grace": _ref("duration", "Time between SIGTERM and SIGKILL, instead of the queue's."),
    }


def _retry_fields() -> _Schema:
    codes = {"type": "array", "items": _whole(1, 255, "An exit code.")}
    return {
        "max_attempts": _whole(1, 100, "How many executions there may be, the first included."),
        "backoff": {
            **_enum(tuple(BASE_DELAYS), "How the delay grows with each attempt."),
            "default": "exponential",
        },
        "base_delay": _ref("duration", "The first delay: 1s, with a fixed backoff 5s by default."),
        "max_delay": _ref("duration", "No delay is longer.", "5m"),
        "retry_on_codes": {**codes, "description": "Only these exit codes are tried again."},
        "dont_retry_on_codes": {
            **codes,
            "default": [],
            "description": "These exit codes are never tried again.",
        },
    }


def _input() -> _Schema:
    known = "|".join(name.strip("{}") for name in fields.PLACEHOLDERS)
    pattern = fields.PLACEHOLDER_PATTERN.replace(r"\{", rf"\{{(?!(?:{known})\}})", 1)
    filled = rf"^(?![\s\S]*{pattern})"
    end = r"(?![\s\S])"  # not $, which some languages let a line feed follow
    ends = f"/{end}"
    s3 = {"s3": {"pattern": ends}, "path": {"not": {"pattern": ends}}}
    return {
        **_object(
            {
                "s3": {
                    **_text("s3://bucket/key, or s3://bucket/prefix/ for all keys below it."),
                    "pattern": f"{filled}{fields.S3_SCHEME}{fields.BUCKET_PATTERN}/",
                },
                "path": {
                    **_text("Where it goes: a file's name, or with a / at its end a folder."),
                    "pattern": filled,
                },
            },
            fields.INPUT_REQUIRED,
        ),
        "not": {"properties": s3, "required": ["path", "s3"]},
    }


def _result() -> _Schema:
    optional = {"type": "boolean", "default": False, "description": "It may match nothing."}
    path = _ref("glob", "Which files.")
    return _object({"path": path, "optional": optional}, fields.RESULT_REQUIRED)


def _environment(value: _Schema) -> _Schema:
    reserved = "|".join((*fields.RESERVED_VARIABLES, f"{fields.RESERVED_VARIABLE_PREFIX}.*"))
    name = f"^(?!(?:{reserved})$){fields.VARIABLE_PATTERN}$"
    return {
        "type": "object",
        "properties": {"$schema": {"description": "Ignored."}},
        "patternProperties": {name: value, "^x-": {"description": "Ignored."}},
        "additionalProperties": False,
        "default": {},
    }


def _reference() -> _Schema:
    return {"type": "string", "pattern": rf"^{secrets.PATTERN}(?![\s\S])"}


def _text(description: str) -> _Schema:
    return {"type": "string", "minLength": 1, "description": description}


def _enum(choices: tuple[str, ...], description: str) -> _Schema:
    return {"type": "string", "enum": list(choices), "description": description}


def _whole(least: int, most: int, description: str) -> _Schema:
    return {"type": "integer", "minimum": least, "maximum": most, "description": description}


def _ref(name: str, description: str, default: str | None = None) -> _Schema:
    schema: _Schema = {"$ref": f"#/$defs/{name}", "description": description}
    return schema if default is None else {**schema, "default": default}
