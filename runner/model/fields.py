"""The rule of every field of a document: one small check each, and the tables that name them.

A check sees one value: what concerns several fields or jobs (ids, cycles) is ``relations``'. Values
of ``env`` and ``secret_env`` are never quoted in a message. The rarer fields have a module of their
own, ``placement_fields``.

The checks are written by hand. pydantic would read 100,000 jobs no faster: with types, ranges and
patterns in its own language, one job at a time, and without our messages, it takes 1.09 times our
processor time and 1.12 times our memory; with models of whole documents 1.23 and 3.2 times. And it
has to be imported: `runner validate` of a small document would take 171 ms of processor time, not
63, and 31 MB, not 16. So its models use these checks, and not the other way round: see
``pydantic_models``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from runner.model import globs
from runner.model.checks import (
    Check,
    check_boolean,
    check_duration,
    check_object,
    check_string,
    check_text,
    choice,
    each,
    size_of,
    whole,
)
from runner.model.elements import INDEX
from runner.model.in_short import DEFAULTS, MATRIX_KEYS, PARAMS
from runner.model.json_reader import is_ignored
from runner.model.messages import kind, one_of, quoted, step
from runner.model.notify_rule import check_notify
from runner.model.placement_fields import (
    ARRAY_FIELDS,
    JOB_PLACEMENT,
    QUEUE_PLACEMENT,
    check_pools,
)
from runner.model.queue import (
    BASE_DELAYS,
    FIT,
    FRESH,
    ON_FAILURE,
    RETRY_ON,
    RUN_IF,
    InputSpec,
    ResultSpec,
    RetrySpec,
)
from runner.model.secrets import parse_reference
from runner.model.validation_errors import KEPT, Faults, InvalidError

ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
FIRST_RESERVED_JOB_IDS = ("queue.json", "queue-state.json")
RESERVED_JOB_IDS = (*FIRST_RESERVED_JOB_IDS, "report.html", "events", "control", "_setup")
"""Names of our own beside a queue's jobs; all but the first may be those of jobs of old queues."""

VARIABLE_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*"
RESERVED_VARIABLES = ("JOB_ID", "JOB_ATTEMPT", "QUEUE_ID")
RESERVED_VARIABLE_PREFIX = "RUNNER_"
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
BUCKET_PATTERN = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"

MAX_ARGUMENT_BYTES = 131_071
"""MAX_ARG_STRLEN of Linux, 32 pages, less the final NUL: one argument, or one NAME=value."""

MAX_PREFIX_BYTES = 512
"""An S3 key has 1,024 bytes; half of them stay for the job and its file."""

MAX_KEY_BYTES = 1024
"""S3 User Guide, "Naming objects"."""

S3_SCHEME = "s3://"

PLACEHOLDERS = ("{queue_id}", "{job_id}", INDEX)
PLACEHOLDER_PATTERN = r"\{[A-Za-z_][A-Za-z0-9_]*\}"
"""What looks like a placeholder. Any other `{` is just a character: S3's keys may hold it."""

MAX_PARALLEL_JOBS = 1_000_000

MAX_ATTEMPTS = 100

MAX_VARIABLES = 10_000
"""More never fit beside a command: Linux has some 2 MB for both, with a pointer for each."""

MAX_SECRETS = 100
"""Each start of the job has to ask for them, ten at a time at best."""

_ID = re.compile(ID_PATTERN)
_ELEMENT = rf"({ID_PATTERN})\[[0-9]{{1,6}}\]"
_VARIABLE = re.compile(VARIABLE_PATTERN)
_BUCKET = re.compile(BUCKET_PATTERN)
_PLACEHOLDER = re.compile(PLACEHOLDER_PATTERN)
_IP_ADDRESS = re.compile(r"[0-9]+(?:\.[0-9]+){3}")


def _identifier(value: Any) -> str:
    text = check_text(value)
    if not _ID.fullmatch(text):
        rule = "letters, digits, '.', '_' and '-', first a letter or digit, at most 128"
        raise InvalidError(f"{quoted(text)} is not an id: {rule}")
    return text


def _dependency(value: Any) -> str:
    """A job's id, or `x[]`: element by element of the array x."""
    if isinstance(value, str) and _ID.fullmatch(value.removesuffix("[]")):
        return value
    if isinstance(value, str) and (found := re.fullmatch(_ELEMENT, value)):
        whole = found[1]
        raise InvalidError(
            f'"{value}" is one element: write "{whole}", all of it, or "{whole}[]", each element '
            "after its own"
        )
    return _identifier(value)


def _parallel(value: Any) -> Any:
    """A number, or as many as there is room for."""
    if value == FIT:
        return FIT
    try:
        return _whole_parallel(value)
    except InvalidError as invalid:
        if isinstance(value, str):
            raise InvalidError(f'{invalid}, or "{FIT}"') from None
        raise


def check_job_id(value: Any) -> str:
    """The id of a job; it is also the name of a folder."""
    text = check_text(value)
    if text in RESERVED_JOB_IDS:
        raise InvalidError(f'"{text}" is the name of one of our own files')
    return _identifier(text)


def check_stored_job_id(value: Any) -> str:
    """The same for a job of a queue that was accepted before."""
    text = check_text(value)
    return check_job_id(text) if text in FIRST_RESERVED_JOB_IDS else _identifier(text)


def _command(value: Any) -> str:
    """A string, or an array of its lines."""
    text = check_text("\n".join(_lines(value)) if isinstance(value, list) else value)
    if (size := size_of(text)) > MAX_ARGUMENT_BYTES:
        raise InvalidError(f"is too long: {size:,} bytes, at most {MAX_ARGUMENT_BYTES:,}")
    return text


def _variables(most: int, fault_of: Callable[[str, Any], str | None]) -> Check:
    """An object of variables, each of which ``fault_of`` has nothing to say against."""

    def check(value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise InvalidError(f"must be an object of names and strings, not {kind(value)}")
        if len(value) > most:
            raise InvalidError(f"has too many names: {len(value):,}, at most {most:,}")
        env: dict[str, str] = {}
        faults: list[tuple[str, str]] = []
        for name, text in value.items():
            if is_ignored(name):
                continue
            if fault := fault_of(name, text):
                faults.append((step(name), fault))
                if len(faults) > KEPT:
                    break
            env[name] = text
        if faults:
            raise InvalidError(faults=faults)
        return env

    return check


def _secret_fault(name: str, text: Any) -> str | None:
    if fault := _variable_fault(name, text):
        return fault
    try:
        parse_reference(text)
    except ValueError as error:
        return str(error)
    return None


def _variable_fault(name: str, text: Any) -> str | None:
    if not _VARIABLE.fullmatch(name):
        return "is not a valid name of an environment variable"
    if name in RESERVED_VARIABLES or name.startswith(RESERVED_VARIABLE_PREFIX):
        return "is set by the runner itself"
    if not isinstance(text, str):
        return f"must be a string, not {kind(text)}"
    if (size := len(name) + 1 + size_of(text)) > MAX_ARGUMENT_BYTES:
        return f"is too long: {size:,} bytes with its name, at most {MAX_ARGUMENT_BYTES:,}"
    return None


def check_bucket(value: Any) -> str:
    """The name of a bucket."""
    text = check_text(value)
    if not _BUCKET.fullmatch(text) or ".." in text or _IP_ADDRESS.fullmatch(text):
        rule = "3 to 63 lower-case letters, digits, '-' and '.', first and last no sign"
        raise InvalidError(f"{quoted(text)} is not a bucket's name: {rule}")
    return text


def check_prefix(value: Any) -> str:
    """What all keys in a bucket begin with, without the `/` that follows it."""
    text = check_text(value)
    if text[0] == "/" or text[-1] == "/":
        raise InvalidError("must not begin or end with '/'")
    if any(segment in ("", ".", "..") for segment in text.split("/")):
        raise InvalidError("must not hold '//', and no part of it may be '.' or '..'")
    if (size := size_of(text)) > MAX_PREFIX_BYTES:
        raise InvalidError(f"is too long: {size:,} bytes, at most {MAX_PREFIX_BYTES}")
    return text


def _retry(value: Any) -> RetrySpec:
    faults = Faults()
    values = check_object(value, RETRY_FIELDS, RETRY_REQUIRED, faults)
    if faults:
        raise InvalidError(faults=list(faults.kept.items()))
    return RetrySpec(**values)


def _retry_on(value: Any) -> tuple[str, ...]:
    words: tuple[str, ...] = each(choice(RETRY_ON), "strings")(value)
    if not words:
        raise InvalidError(f"must hold at least one of {one_of(RETRY_ON)}")
    return tuple([word for word in RETRY_ON if word in words])


def _filled(value: Any) -> str:
    """A text in which placeholders may stand."""
    text = check_text(value)
    for found in _PLACEHOLDER.findall(text):
        if found not in PLACEHOLDERS:
            known = one_of(PLACEHOLDERS)
            raise InvalidError(f"{quoted(found)} can't be filled in: only {known} can")
    return text


def _s3_source(value: Any) -> str:
    text = _filled(value)
    if not text.startswith(S3_SCHEME):
        raise InvalidError(f"must begin with {S3_SCHEME}, as in s3://bucket/key or s3://bucket/a/")
    bucket, slash, key = text.removeprefix(S3_SCHEME).partition("/")
    try:
        check_bucket(bucket)
    except InvalidError as error:
        raise InvalidError(f"the bucket {error}") from None
    if not slash:
        raise InvalidError(f"names no key; s3://{bucket}/ is the whole bucket")
    if (size := size_of(key)) > MAX_KEY_BYTES:
        raise InvalidError(f"its key is too long: {size:,} bytes, at most {MAX_KEY_BYTES:,}")
    return text


def _input(value: Any) -> InputSpec:
    faults = Faults()
    values = check_object(value, INPUT_FIELDS, INPUT_REQUIRED, faults)
    path = values.get("path", "/")
    if values.get("s3", "").endswith("/") and not path.endswith("/"):
        faults.add(".path", "must end with '/': the keys below a prefix go into a folder")
    if faults:
        raise InvalidError(faults=list(faults.kept.items()))
    return InputSpec(**values)


def _glob(value: Any) -> str:
    text = check_text(value)
    if fault := globs.fault_of(text):
        raise InvalidError(fault)
    return text


def _result(known: dict[str, Check]) -> Check:
    """A glob, or an object with one and what is to be said of it."""

    def check(value: Any) -> ResultSpec:
        if isinstance(value, str):
            return ResultSpec(known["path"](value))
        if not isinstance(value, dict):
            what = 'a string or an object with "path", "optional" and "fresh"'
            raise InvalidError(f"must be {what}, not {kind(value)}")
        faults = Faults()
        values = check_object(value, known, RESULT_REQUIRED, faults)
        if faults:
            raise InvalidError(faults=list(faults.kept.items()))
        return ResultSpec(**values)

    return check


def _in_short(key: str) -> Check:
    """The rule of a field that is written out, which is imported when a document has it."""

    def check(value: Any) -> Any:
        from runner.model.expansion.rules import check_field

        return check_field(key, value, JOB_FIELDS)

    return check


_lines = each(check_string, "strings")
_CODES = each(whole(1, 255), "exit codes")
_whole_parallel = whole(1, MAX_PARALLEL_JOBS)
_ENVIRONMENT = _variables(MAX_VARIABLES, _variable_fault)
_SECRETS = _variables(MAX_SECRETS, _secret_fault)
_GLOBS = "globs"

RETRY_REQUIRED = frozenset({"max_attempts"})
RETRY_FIELDS: dict[str, Check] = {
    "max_attempts": whole(1, MAX_ATTEMPTS),
    "backoff": choice(tuple(BASE_DELAYS)),
    "base_delay": check_duration,
    "max_delay": check_duration,
    "retry_on_codes": _CODES,
    "dont_retry_on_codes": _CODES,
    "retry_on": _retry_on,
}

INPUT_FIELDS: dict[str, Check] = {"s3": _s3_source, "path": _filled}
INPUT_REQUIRED = frozenset(INPUT_FIELDS)

RESULT_FIELDS: dict[str, Check] = {
    "path": _glob, "optional": check_boolean, "fresh": choice(FRESH),
}  # fmt: skip
RESULT_REQUIRED = frozenset({"path"})

JOB_FIELDS: dict[str, Check] = {
    "job_id": check_job_id,
    "command": _command,
    "timeout": check_duration,
    "depends_on": each(_dependency, "job ids"),
    "run_if": choice(RUN_IF),
    "env": _ENVIRONMENT,
    "secret_env": _SECRETS,
    "retry": _retry,
    "result_paths": each(_result(RESULT_FIELDS), _GLOBS),
    "checkpoint_paths": each(_glob, _GLOBS),
    "input_paths": each(_input, 'objects with "s3" and "path"'),
    "inputs_in_timeout": check_boolean,
    "keep_background": check_boolean,
    "working_directory": check_text,
    "create_working_directory": check_boolean,
    "term_grace": check_duration,
    "allow_failure": check_boolean,
    "hold": check_boolean,
    "expands": check_text,
    "inputs": each(_glob, _GLOBS),
    "output_paths": each(_result(RESULT_FIELDS), _GLOBS),
    **ARRAY_FIELDS,
    **JOB_PLACEMENT,
    **{key: _in_short(key) for key in MATRIX_KEYS},
}
JOB_REQUIRED = frozenset({"job_id", "command", "timeout"})
GIVEN_JOB_REQUIRED = frozenset({"job_id", "command"})
"""What has no default."""

STORED_JOB_FIELDS: dict[str, Check] = {
    **JOB_FIELDS,
    "job_id": check_stored_job_id,
    "result_paths": each(_result({**RESULT_FIELDS, "path": check_text}), _GLOBS),
    "checkpoint_paths": each(check_text, _GLOBS),
}
"""The same for a document that was accepted before: rules that came later don't hold for it."""

# The jobs themselves are read one by one as they come, see ``parser``.
QUEUE_FIELDS: dict[str, Check] = {
    "queue_id": _identifier,
    "queue_name": check_text,
    "jobs": lambda value: value,
    "global_timeout": check_duration,
    "on_failure": choice(ON_FAILURE),
    "result_s3_bucket": check_bucket,
    "result_s3_prefix": check_prefix,
    "env": _ENVIRONMENT,
    "secret_env": _SECRETS,
    "working_directory": check_text,
    "create_working_directory": check_boolean,
    "term_grace": check_duration,
    "max_parallel_jobs": _parallel,
    "max_failures": whole(1, MAX_PARALLEL_JOBS),
    "pools": check_pools,
    "notify": check_notify,
    **QUEUE_PLACEMENT,
    DEFAULTS: _in_short(DEFAULTS),
    PARAMS: _in_short(PARAMS),
}
QUEUE_REQUIRED = frozenset({"queue_name", "jobs", "global_timeout", "on_failure"})
