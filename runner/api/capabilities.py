"""What a call needs and where it may run: the options of ``ex.options(…)``, the dictionary of
``submit_command``.

Owns the names, their synonyms, and what a value may be. Most rules are those of a queue document's
fields, so that both refuse a value with the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any

from runner.model.durations import format_duration, parse_duration
from runner.model.fields import ID_PATTERN, JOB_FIELDS
from runner.model.messages import did_you_mean, kind, quoted
from runner.model.placement import ResourceSpec
from runner.model.placement_fields import RESOURCE_FIELDS, check_image, check_job_queue
from runner.model.queue import RetrySpec
from runner.model.records import Rule
from runner.model.validation_errors import InvalidError

MIB = 1024 * 1024

_REGION = r"[a-z]{2}(-[a-z]+)+-[0-9]+"
# AWS Batch API Reference, SubmitJob: jobDefinition is a name, a name and revision, or an ARN.
_DEFINITION = r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}(:[0-9]+)?|arn:aws[a-z-]*:batch:[!-~]{1,400}"


def _stored_retry(value: Any) -> RetrySpec | None:
    """A RetrySpec as ``as_json`` writes it, checked as a document's is."""
    if not isinstance(value, dict):
        return None if value is None else _retry(value)
    given = {key: held for key, held in value.items() if held is not None}
    for key in ("base_delay", "max_delay"):
        if isinstance(given.get(key), int | float):
            given[key] = format_duration(given[key])
    spec: RetrySpec = JOB_FIELDS["retry"](given)
    return spec


@dataclass(frozen=True, slots=True)
class Capabilities:
    """None: nothing is said. ``cpus``: processors, in steps of 0.25; ``memory`` in bytes;
    ``timeout`` in seconds, of each attempt. ``queue``, ``job_definition``, ``region``: of AWS
    Batch. ``target``: the name of the target it is to run on. ``env`` is in no repr.
    """

    target: str | None = None
    region: str | None = None
    queue: str | None = None
    job_definition: str | None = None
    cpus: float | None = None
    memory: int | None = None
    gpus: int | None = None
    image: str | None = None
    timeout: float | None = None
    retry: Annotated[RetrySpec | None, Rule(_stored_retry)] = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def resources(self) -> ResourceSpec | None:
        """As a job of a document has them; None if nothing is said of any."""
        if self.cpus is None and self.memory is None and self.gpus is None:
            return None
        memory = () if self.memory is None else (self.memory,)
        return ResourceSpec(self.cpus or 1.0, memory, self.gpus)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of those of which something is said."""
        return tuple(
            each.name
            for each in fields(self)
            if getattr(self, each.name) is not None and getattr(self, each.name) != {}
        )

    def over(self, others: Capabilities) -> Capabilities:
        """The same, with what it says nothing of taken from ``others``; variables are joined."""
        own = {name: getattr(self, name) for name in self.given}
        return replace(others, **{**own, "env": {**others.env, **self.env}})

    def as_json(self) -> dict[str, Any]:
        """What of it is said, as JSON."""
        said = {name: getattr(self, name) for name in self.given}
        if self.retry is not None:
            said["retry"] = asdict(self.retry)
        return said


NOTHING_SAID = Capabilities()


def parse_capabilities(
    given: Mapping[str, Any], *, allowed: Iterable[str] | None = None
) -> Capabilities:
    """Check names and values. Raises ValueError with a line for each that is wrong.

    ``allowed``: which of them may be given, by their own names; None: all.
    """
    names = {*_CHECKS} if allowed is None else {*allowed}
    known = [each for each in (*_CHECKS, *SYNONYMS) if SYNONYMS.get(each, each) in names]
    faults: list[str] = []
    found: dict[str, Any] = {}
    source: dict[str, str] = {}
    for key, value in given.items():
        if not isinstance(key, str) or key not in known:
            told = quoted(key) if isinstance(key, str) else repr(key)
            near = did_you_mean(key, known) if isinstance(key, str) else ""
            faults.append(f"{told} is not a capability{near or _all_known(known)}")
            continue
        name = SYNONYMS.get(key, key)
        if name in source:
            faults.append(f'"{key}" and "{source[name]}" mean the same: give one of them')
            continue
        source[name] = key
        if value is None:
            continue
        try:
            found[name] = _CHECKS[name](value)
        except InvalidError as error:
            faults += [f"{key}{place}: {text}" for place, text in error.faults]
        except ValueError as error:
            faults.append(f"{key}: {error}")
    if faults:
        raise ValueError("\n".join(faults))
    return Capabilities(**found)


def _all_known(known: list[str]) -> str:
    return f"; there are {', '.join(sorted(known))}"


SYNONYMS = {
    "vcpus": "cpus",
    "job_queue": "queue",
    "jobQueue": "queue",
    "jobDefinition": "job_definition",
    "timeout_seconds": "timeout",
}
"""Other names, as AWS Batch's API and its users spell them."""


def _memory(value: Any) -> int:
    """A size such as `16GiB`; a number counts MiB, as AWS Batch has it."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError("must be at least 1 (MiB)")
        return value * MIB
    if not isinstance(value, str):
        raise ValueError(f'must be a size such as "16GiB" or a number of MiB, not {kind(value)}')
    sizes: tuple[int, ...] = RESOURCE_FIELDS["memory"](value)
    return sizes[0]


def _timeout(value: Any) -> float:
    """Seconds as a number, or a Go duration."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value < float("inf"):
            raise ValueError("must be more than 0 seconds")
        return float(value)
    if not isinstance(value, str):
        raise ValueError(f'must be seconds or a duration such as "1h30m", not {kind(value)}')
    return parse_duration(value)


def _retry(value: Any) -> RetrySpec:
    """How many attempts, or the object that a job's `retry` is in a document."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"max_attempts": value}
    if (dump := getattr(value, "model_dump", None)) is not None:  # runner.Retry
        value = dump(mode="json", exclude_none=True)
    if not isinstance(value, dict):
        raise ValueError(f'must be a number of attempts or {{"max_attempts": …}}, not {_a(value)}')
    value = {key: list(v) if isinstance(v, tuple) else v for key, v in value.items()}
    spec: RetrySpec = JOB_FIELDS["retry"](value)
    return spec


def _a(value: Any) -> str:
    return kind(value) if isinstance(value, str | int | float | list) else type(value).__name__


def _word(pattern: str, what: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            told = quoted(value) if isinstance(value, str) else _a(value)
            raise ValueError(f"{told} is not {what}")
        return value

    return check


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "target": _word(ID_PATTERN, "the name of a target"),
    "region": _word(_REGION, 'a region such as "us-east-1"'),
    "queue": check_job_queue,
    "job_definition": _word(_DEFINITION, "the name, name:revision or ARN of a job definition"),
    "cpus": RESOURCE_FIELDS["cpus"],
    "memory": _memory,
    "gpus": RESOURCE_FIELDS["gpus"],
    "image": check_image,
    "timeout": _timeout,
    "retry": _retry,
    "env": lambda value: JOB_FIELDS["env"](dict(value) if isinstance(value, Mapping) else value),
}
NAMES = tuple(_CHECKS)
