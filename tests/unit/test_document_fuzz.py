"""Random and mutated documents: an error for the user or a queue that reads back, nothing else."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runner.errors import DocumentError
from runner.model.document import dump_document, first_difference, json_schema, parse_document
from runner.model.fields import (
    INPUT_FIELDS,
    JOB_FIELDS,
    QUEUE_FIELDS,
    RESULT_FIELDS,
    RETRY_FIELDS,
)
from runner.model.graph import Graph
from runner.model.placement_fields import BATCH_FIELDS, RESOURCE_FIELDS

GOOD: dict[str, Any] = {
    "queue_id": "q",
    "queue_name": "n",
    "jobs": [
        {"job_id": "a", "command": "true", "timeout": "1m", "env": {"A": "1"}},
        {
            "job_id": "b",
            "command": "echo é",
            "timeout": "1.5h",
            "depends_on": ["a"],
            "run_if": "always",
            "retry": {"max_attempts": 3, "backoff": "fixed", "retry_on_codes": [1, 2]},
            "result_paths": ["/tmp/**/*.log", {"path": "a", "optional": True}],
            "input_paths": [{"s3": "s3://bkt/{queue_id}/a/", "path": "in/"}],
            "secret_env": {"A": "ssm:/a", "B": "secretsmanager:b#c"},
            "term_grace": "300ms",
        },
        {
            "job_id": "d",
            "command": "x",
            "timeout": "1m",
            "array": 3,
            "array_parallel": 2,
            "resources": {"cpus": 0.5, "memory": ["1GiB", "2GiB"], "gpus": 1, "p": 2},
            "image": "i:1",
            "mounts": ["/data:ro"],
            "image_options": ["--ulimit"],
            "shell": ["/bin/sh", "-c"],
            "output_paths": ["o/*"],
            "batch": {"share": "s", "priority": 1, "tags": {"k": "v"}, "shm": "64MiB"},
        },
        {"job_id": "e", "command": "x", "timeout": "1m", "array": 3, "depends_on": ["d[]", "a"]},
        {"job_id": "c", "command": "x", "timeout": "1ms", "depends_on": ["a", "b"]},
    ],
    "global_timeout": "8h",
    "on_failure": "continue",
    "result_s3_bucket": "bucket",
    "result_s3_prefix": "queues/q",
    "max_parallel_jobs": "fit",
    "pools": {"p": 2, "q": 1},
    "resources": {"cpus": 2},
    "image_pull": "always",
    "secret_env": {"A": "ssm:/q"},
}

SCHEMA = Draft202012Validator(json_schema())
FIELDS = {
    *(*QUEUE_FIELDS, *JOB_FIELDS, *RETRY_FIELDS, *INPUT_FIELDS, *RESULT_FIELDS),
    *(*RESOURCE_FIELDS, *BATCH_FIELDS, "p", "cpu"),
}
KEYS = sorted({*FIELDS, "x-a", "$schema", "env", "A", "", "\0"})
WORDS = [
    "a",
    "b",
    "c",
    "1m",
    "1d",
    "0s",
    "stop",
    "always",
    "fixed",
    "a/b",
    "a[]",
    "d[]",
    "d[1]",
    "fit",
    "1GiB",
    "1.5MiB",
    "16GB",
    "/data:ro",
    "-v/a",
    "s3://bkt/{job_id}/",
    "ssm:/a",
    "secretsmanager:a#b",
    "~/a",
    "a/$B/{a,b}",
    "\0",
    "\ud800",
    "é😀",
]

text = st.sampled_from(WORDS) | st.text(max_size=8) | st.text(st.characters(), max_size=4)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | text, inner, max_size=5)
    ),
    max_leaves=12,
)

# The first use of a strategy is slow, and on a busy machine looks like a hang.
relaxed = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


def judge(document: bytes) -> bool:
    """Whether it is a valid document; fails on anything but a clean yes or no."""
    try:
        queue = parse_document(document)
    except DocumentError as error:
        errors = error.errors
    else:
        errors = ()
    assert len(errors) == len(set(errors)) <= 101
    assert all(": " in line and line.isprintable() for line in errors)
    if errors:
        return False
    again = parse_document(dump_document(queue).encode())
    assert again == queue
    assert dump_document(again) == dump_document(queue)
    assert first_difference(queue, again) is None
    assert len(Graph(queue.jobs).order()) == len(queue.jobs)
    assert not list(SCHEMA.iter_errors(json.loads(document)))
    return True


def test_the_good_one_is_good() -> None:
    """The mutations would all start from a bad document and find nothing."""
    assert judge(json.dumps(GOOD).encode())


@relaxed
@given(values, st.booleans())
def test_random_json(value: Any, ascii_only: bool) -> None:
    """Some JSON value would end in a traceback."""
    judge(json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass"))


@relaxed
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=8), st.data())
def test_random_objects_of_known_keys(value: dict[str, Any], data: st.DataObject) -> None:
    """Some value of a known field would end in a traceback."""
    value["jobs"] = data.draw(
        st.lists(st.dictionaries(st.sampled_from(KEYS), values, max_size=8), max_size=4)
    )
    judge(json.dumps(value).encode())


@relaxed
@given(st.lists(st.tuples(st.integers(0, 2**32), values), min_size=1, max_size=4))
def test_mutations_of_a_good_document(mutations: list[tuple[int, Any]]) -> None:
    """One wrong value in a good document would end in a traceback or be taken for good."""
    document = copy.deepcopy(GOOD)
    for seed, value in mutations:
        mutate(document, random.Random(seed), value)
    judge(json.dumps(document).encode())


def mutate(node: Any, rng: random.Random, value: Any) -> None:
    """Change, remove, add or repeat something below ``node``."""
    places = [node]
    for place in places:
        inside = place.values() if isinstance(place, dict) else place
        places += [child for child in inside if isinstance(child, dict | list) and child]
    place = rng.choice(places)
    key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
    match rng.randrange(4):
        case 0:
            place[key] = value
        case 1:
            del place[key]
        case 2 if isinstance(place, dict):
            place[rng.choice(KEYS)] = value
        case _ if isinstance(place, list):
            place.append(copy.deepcopy(place[key]))
        case _:
            place[key] = copy.deepcopy(rng.choice(list(place.values())))


@relaxed
@given(st.integers(0, 2**32), st.binary(max_size=3))
def test_mutated_bytes(seed: int, junk: bytes) -> None:
    """A torn or garbled file would end in a traceback."""
    rng = random.Random(seed)
    document = json.dumps(GOOD).encode()
    start, end = sorted(rng.randrange(len(document) + 1) for _ in range(2))
    judge(document[:start] + junk + document[min(end, start + rng.randrange(4)) :])
    judge(document[:start] + document[end:])
    judge(document[:start] + document[start:end] * 2 + document[end:])
