"""The rules of a document's rarer fields: resources, pools, images, arrays, AWS Batch's own.

A check sees one value, as in ``fields``; that pools exist and arrays fit each other is checked by
``relations``. ``fold`` makes records of what a document has as single fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runner.model.checks import (
    Check,
    check_boolean,
    check_object,
    check_text,
    choice,
    each,
    whole,
)
from runner.model.json_reader import is_ignored
from runner.model.messages import kind, quoted, step
from runner.model.placement import (
    IMAGE_PULLS,
    SHELL,
    STAGINGS,
    STRICT,
    STRICT_SHELL,
    ArraySpec,
    BatchSpec,
    Placement,
    ResourceSpec,
)
from runner.model.sizes import UNITS, format_binary_size, parse_binary_size
from runner.model.validation_errors import Faults, InvalidError

MAX_CPUS = 4096
CPU_STEP = 0.25
MAX_GPUS = 1024
MAX_POOL = 1_000_000
MAX_SIZES = 100
"""As many as a job may have attempts."""

POOL_PATTERN = r"(?!x-)[A-Za-z][A-Za-z0-9_-]{0,63}"
OWN_RESOURCES = ("cpus", "memory", "gpus")

MAX_ARRAY = 10_000
"""AWS Batch User Guide, "Array jobs"; the same everywhere, so that a document runs everywhere."""

# AWS Batch API Reference, SubmitJob: schedulingPriorityOverride, shareIdentifier, tags.
MAX_PRIORITY = 9999
SHARE_PATTERN = r"[A-Za-z0-9]{1,255}"
MAX_TAGS = 50
# AWS General Reference, "Tag naming limits and requirements".
MAX_TAG_NAME = 128
MAX_TAG_VALUE = 256
# AWS Batch API Reference, CreateJobQueue: jobQueueName; SubmitJob takes its ARN as well.
QUEUE_PATTERN = (
    r"(?:[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
    r"|arn:aws[a-z-]*:batch:[a-z0-9-]+:[0-9]{12}:job-queue/[A-Za-z0-9][A-Za-z0-9_-]{0,127})"
)
# AWS Batch API Reference, EphemeralStorage: on Fargate, in GiB.
LEAST_EPHEMERAL = 21 * UNITS["GiB"]
MOST_EPHEMERAL = 200 * UNITS["GiB"]

# The longest that a registry takes is 255 for the name, 128 for the tag; a digest has 71.
MAX_IMAGE = 512
IMAGE_PATTERN = rf"(?!-)[!-~]{{1,{MAX_IMAGE}}}"
MOUNT_PATTERN = r"/[^:,\s]*(?::/[^:,\s]+)?(?::r[ow])?"
MAX_SHELL = 32

TAKEN_OPTIONS = frozenset({
    "--attach", "--cgroup-parent", "--cgroups", "--cidfile", "--conmon-pidfile", "--cpu-shares",
    "--cpus", "--detach", "--detach-keys", "--device-cgroup-rule", "--entrypoint", "--env",
    "--env-file", "--gpus", "--help", "--hostuser", "--http-proxy", "--init", "--interactive",
    "--label", "--label-file", "--log-driver", "--log-opt", "--memory", "--memory-reservation",
    "--memory-swap", "--mount", "--name", "--net", "--network", "--oom-kill-disable", "--pid",
    "--pidfile", "--pull", "--replace", "--restart", "--rm", "--sdnotify", "--sig-proxy",
    "--stop-signal", "--stop-timeout", "--systemd", "--timeout", "--tty", "--umask", "--user",
    "--userns", "--volume", "--volumes-from", "--workdir",
})  # fmt: skip
"""Options of ``docker run`` and ``podman run`` that are ours: they decide on rights, on files, on
limits, or on how a container is found and ended."""

TAKEN_LETTERS = "acdehilmtuvw"
"""The same, of the short ones: a value may follow without a blank, as in `-v/data:/data`."""

TAKEN_PATTERN = rf"^(?:(?:{'|'.join(sorted(TAKEN_OPTIONS))})(?:=|(?![\s\S]))|-[{TAKEN_LETTERS}])"
"""The same as a regular expression, for the schema."""


# -- resources ---------------------------------------------------------------------------------


def check_size(value: Any) -> int:
    """A size such as `16GiB`, as bytes."""
    try:
        return parse_binary_size(value)
    except ValueError as error:
        raise InvalidError(str(error)) from None


def _size_between(least: int, most: int, unit: str) -> Check:
    """A size in this range that is a whole number of the unit."""

    def check(value: Any) -> int:
        size = check_size(value)
        if size % UNITS[unit]:
            raise InvalidError(f"must be a whole number of {unit}")
        if not least <= size <= most:
            told = f"{format_binary_size(least)} to {format_binary_size(most)}"
            raise InvalidError(f"must be {told}")
        return size

    return check


def _memory(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return (check_size(value),)
    if not 1 <= len(value) <= MAX_SIZES:
        raise InvalidError(f"must hold 1 to {MAX_SIZES} sizes, one for each attempt")
    sizes: tuple[int, ...] = each(check_size, "sizes")(value)
    # Later attempts have the last one: to repeat it says nothing.
    while len(sizes) > 1 and sizes[-1] == sizes[-2]:
        sizes = sizes[:-1]
    return sizes


def _cpus(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidError(f"must be a number, not {kind(value)}")
    if not CPU_STEP <= value <= MAX_CPUS or (value / CPU_STEP) % 1:
        raise InvalidError(f"must be {CPU_STEP} to {MAX_CPUS:,}, in steps of {CPU_STEP}")
    return float(value)


_amount = whole(1, MAX_POOL)


def check_pools(value: Any) -> tuple[tuple[str, int], ...]:
    """Names of what is scarce, and how much there is."""
    if not isinstance(value, dict):
        raise InvalidError(f"must be an object of names and numbers, not {kind(value)}")
    return _amounts({name: amount for name, amount in value.items() if not is_ignored(name)})


def _amounts(pools: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    faults: list[tuple[str, str]] = []
    for name, amount in pools.items():
        if name in OWN_RESOURCES:
            faults.append((step(name), "is a resource of every machine, and not a pool"))
        elif not re.fullmatch(POOL_PATTERN, name):
            rule = "letters, digits, '_' and '-', first a letter, at most 64"
            faults.append((step(name), f"is not the name of a pool: {rule}"))
        else:
            try:
                _amount(amount)
            except InvalidError as invalid:
                faults += [(f"{step(name)}{at}", text) for at, text in invalid.faults]
    if faults:
        raise InvalidError(faults=faults)
    return tuple(sorted(pools.items()))


def check_resources(value: Any) -> ResourceSpec:
    """What an attempt needs; names that aren't ours are those of pools."""
    if not isinstance(value, dict):
        raise InvalidError(f"must be an object, not {kind(value)}")
    faults = Faults()
    own = {name: held for name, held in value.items() if name in OWN_RESOURCES}
    values = check_object(own, RESOURCE_FIELDS, frozenset(), faults)
    found = list(faults.kept.items())
    pools: tuple[tuple[str, int], ...] = ()
    try:
        pools = _amounts({
            name: amount
            for name, amount in value.items()
            if name not in own and not is_ignored(name)
        })  # fmt: skip
    except InvalidError as invalid:
        found += invalid.faults
    if found:
        raise InvalidError(faults=found)
    return ResourceSpec(**values, pools=pools)


RESOURCE_FIELDS: dict[str, Check] = {
    "cpus": _cpus,
    "memory": _memory,
    "gpus": whole(0, MAX_GPUS),
}


# -- images ------------------------------------------------------------------------------------


def check_image(value: Any) -> str:
    """The name of an image, as ``docker pull`` takes it."""
    text = check_text(value)
    if not re.fullmatch(IMAGE_PATTERN, text):
        raise InvalidError(f"{quoted(text)} is not the name of an image")
    return text


def check_own_image(value: Any) -> str:
    """The same; "" is none, whatever the queue says."""
    return value if value == "" else check_image(value)


def _mount(value: Any) -> str:
    text = check_text(value)
    if not re.fullmatch(MOUNT_PATTERN, text):
        raise InvalidError(
            f'{quoted(text)} is not a mount: "/data", "/data:ro" or "/data:/mnt/data:ro"'
        )
    return text


def _option(value: Any) -> str:
    text = check_text(value)
    if re.match(TAKEN_PATTERN, text):
        raise InvalidError(f"{quoted(text.partition('=')[0])} is set by the runner itself")
    return text


def _shell(value: Any) -> tuple[str, ...]:
    if value == STRICT:
        return STRICT_SHELL
    if isinstance(value, str):
        raise InvalidError(f'must be an array of strings, or "{STRICT}", not {quoted(value)}')
    words: tuple[str, ...] = each(check_text, "strings")(value)
    if not 1 <= len(words) <= MAX_SHELL:
        raise InvalidError(f"must hold 1 to {MAX_SHELL} strings: a program, and its arguments")
    if not words[0].startswith("/"):
        at = f"must be the whole path of a program, as /bin/sh, not {quoted(words[0])}"
        raise InvalidError(faults=[("[0]", at)])
    return words


# -- AWS Batch ---------------------------------------------------------------------------------


def _share(value: Any) -> str:
    text = check_text(value)
    if not re.fullmatch(SHARE_PATTERN, text):
        raise InvalidError(f"{quoted(text)} is not a share: at most 255 letters and digits")
    return text


def check_job_queue(value: Any) -> str:
    """The name or ARN of a job queue of AWS Batch."""
    text = check_text(value)
    if not re.fullmatch(QUEUE_PATTERN, text):
        raise InvalidError(f"{quoted(text)} is not the name or ARN of a job queue")
    return text


def _tags(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise InvalidError(f"must be an object of names and strings, not {kind(value)}")
    tags = {name: text for name, text in value.items() if not is_ignored(name)}
    if len(tags) > MAX_TAGS:
        raise InvalidError(f"has too many tags: {len(tags):,}, at most {MAX_TAGS}")
    faults = [
        (step(name), fault) for name, text in tags.items() if (fault := _tag_fault(name, text))
    ]
    if faults:
        raise InvalidError(faults=faults)
    return tuple(sorted(tags.items()))


def _tag_fault(name: str, text: Any) -> str | None:
    if not isinstance(text, str):
        return f"must be a string, not {kind(text)}"
    if not 1 <= len(name) <= MAX_TAG_NAME or len(text) > MAX_TAG_VALUE:
        return f"a tag's name has 1 to {MAX_TAG_NAME} characters, its value at most {MAX_TAG_VALUE}"
    return 'begins with "aws:", which is AWS\'s own' if name.lower().startswith("aws:") else None


def check_batch(value: Any) -> BatchSpec:
    """What concerns AWS Batch only."""
    faults = Faults()
    values = check_object(value, BATCH_FIELDS, frozenset(), faults)
    if faults:
        raise InvalidError(faults=list(faults.kept.items()))
    return BatchSpec(**values)


BATCH_FIELDS: dict[str, Check] = {
    "share": _share,
    "priority": whole(0, MAX_PRIORITY),
    "tags": _tags,
    "shm": _size_between(UNITS["MiB"], UNITS["TiB"], "MiB"),
    "ephemeral_storage": _size_between(LEAST_EPHEMERAL, MOST_EPHEMERAL, "GiB"),
    "queue": check_job_queue,
    "staging": choice(STAGINGS),
}


# -- the tables, and what becomes of them --------------------------------------------------------

QUEUE_PLACEMENT: dict[str, Check] = {
    "resources": check_resources,
    "image": check_image,
    "mounts": each(_mount, "mounts"),
    "image_options": each(_option, "strings"),
    "image_pull": choice(IMAGE_PULLS),
    "shell": _shell,
}
"""A queue's fields that are defaults for its jobs, and together a ``Placement``."""

JOB_PLACEMENT: dict[str, Check] = {
    **QUEUE_PLACEMENT,
    "image": check_own_image,
    "batch": check_batch,
}

ARRAY_FIELDS: dict[str, Check] = {
    "array": whole(1, MAX_ARRAY),
    "array_parallel": whole(1, MAX_ARRAY),
    "array_stop": check_boolean,
}
"""A job's fields that are together an ``ArraySpec``."""

FOLDED = frozenset({*JOB_PLACEMENT, *ARRAY_FIELDS})


def fold_placement(values: dict[str, Any]) -> None:
    """Put a job's fields of a placement into one record."""
    given = {name: values.pop(name) for name in JOB_PLACEMENT if name in values}
    if given:
        values["placement"] = Placement(**given)


def fold_defaults(values: dict[str, Any]) -> None:
    """Put a queue's into one; what says no more than nothing would say is left out."""
    said = {"mounts": (), "image_options": (), "image_pull": IMAGE_PULLS[0], "shell": SHELL}
    for name, default in said.items():
        if values.get(name) == default:
            del values[name]
    fold_placement(values)


def fold_array(raw: Mapping[str, Any], values: dict[str, Any], place: str, faults: Faults) -> None:
    """Put a job's fields of an array into one record, with those of its dependencies that go from
    element to element. ``raw``: the job as it was given."""
    size, parallel, stop = (values.pop(name, None) for name in ARRAY_FIELDS)
    if "array" not in raw:
        for name in ARRAY_FIELDS:
            if name in raw:
                faults.add(f"{place}.{name}", 'needs "array": it is about the elements of one')
        return
    given = values.get("depends_on", ())
    elementwise = tuple(sorted(name.removesuffix("[]") for name in given if name.endswith("[]")))
    values["depends_on"] = tuple([name.removesuffix("[]") for name in given])
    # Of a size that is wrong something has to stand in, so that the rest can be checked.
    values["array"] = ArraySpec(size or 0, parallel, bool(stop), elementwise)
