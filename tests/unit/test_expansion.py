"""Documents in short: what they are written out to, and where their errors are told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runner.errors import DocumentError, UsageError
from runner.model.document import (
    QueueSpec,
    dump_document,
    first_difference,
    json_schema,
    parse_document,
    parse_stored,
)
from runner.model.expansion.yaml_reader import read_yaml
from runner.model.in_short import is_short
from runner.model.parser import read_document

QUEUE: dict[str, Any] = {"queue_name": "n", "global_timeout": "1h", "on_failure": "stop"}
JOB: dict[str, Any] = {"job_id": "a", "command": "true", "timeout": "1m"}
MATRIX: dict[str, Any] = {"matrix": {"s": ["A", "B"], "c": ["I", "II"]}}
SCHEMA = Draft202012Validator(json_schema())
PATTERNS = Path(__file__).parents[2] / "examples" / "patterns"


def raw(*jobs: dict[str, Any], **queue: Any) -> bytes:
    return json.dumps({**QUEUE, "jobs": [{**JOB, **job} for job in jobs], **queue}).encode()


def ids(queue: QueueSpec) -> list[str]:
    return [job.job_id for job in queue.jobs]


def errors_of(document: bytes, **more: Any) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        parse_document(document, **more)
    return list(caught.value.errors)


def test_defaults_hold_for_jobs_without_the_field() -> None:
    """A field would have to be said a hundred times; or a job's own would be mixed with it."""
    defaults = {"timeout": "5m", "env": {"A": "1", "B": "2"}, "x-note": 1}
    jobs = [{"job_id": "a", "command": "true"}, {**JOB, "job_id": "b", "env": {"A": "3"}}]
    queue = parse_document(json.dumps({**QUEUE, "defaults": defaults, "jobs": jobs}).encode())
    assert [job.timeout for job in queue.jobs] == [300.0, 60.0]
    assert [dict(job.env) for job in queue.jobs] == [{"A": "1", "B": "2"}, {"A": "3"}]


def test_lines_of_a_command_are_joined() -> None:
    """A script would have to stand in one line of JSON."""
    queue = parse_document(raw({"command": ["set -e", "", "echo b"]}))
    assert queue.jobs[0].command == "set -e\n\necho b"
    assert queue.given is None


def test_parameters_go_into_strings_and_variables() -> None:
    """A value would be said in several places, and changed in one."""
    document = raw(
        {
            "command": "train ${{params.lr}} ${{ params.n }}",
            "working_directory": "/w/${{params.n}}",
            "result_paths": ["${{params.n}}/*"],
            "env": {"N": "${{params.n}}"},
        },
        params={"lr": "0.1", "n": 3, "fast": True},
        env={"PARAM_FAST": "own", "LR": "<${{params.lr}}>"},
    )
    queue = parse_document(document)
    (job,) = queue.jobs
    assert job.command == "train 0.1 3"
    assert job.working_directory == "/w/3"
    assert [result.path for result in job.result_paths] == ["3/*"]
    assert dict(job.env) == {"N": "3"}
    assert queue.env == {"PARAM_LR": "0.1", "PARAM_N": "3", "PARAM_FAST": "own", "LR": "<0.1>"}


def test_set_parameters_are_part_of_the_identity() -> None:
    """A run with other parameters would go on where the first had left off."""
    document = raw({}, params={"lr": "0.1"})
    before, after = parse_document(document), parse_document(document, sets={"lr": "0.2"})
    assert first_difference(before, after) == "env.PARAM_LR differs"
    assert after.given is not None and json.loads(after.given)["params"] == {"lr": "0.2"}
    assert parse_document(after.given.encode()) == after


@pytest.mark.parametrize(
    ("params", "sets", "message"),
    [
        (
            {"rate": "1"},
            {"rat": "2"},
            '--set rat: the document has no such parameter; did you mean "rate"?',
        ),
        ({"lr": "1"}, {"epochs": "2"}, "--set epochs: the document has no such parameter"),
        (None, {"lr": "2"}, "--set lr: the document has no such parameter: it has no params"),
    ],
)  # fmt: skip
def test_an_unknown_parameter_cannot_be_set(params: Any, sets: Any, message: str) -> None:
    """A misspelled flag would change nothing, silently."""
    document = raw({}) if params is None else raw({}, params=params)
    with pytest.raises(UsageError) as caught:
        parse_document(document, sets=sets)
    assert str(caught.value) == message


def test_a_matrix_makes_a_job_of_each_combination() -> None:
    """Combinations would have to be written out by a program."""
    queue = parse_document(raw({**MATRIX, "command": "x ${{s}}/${{c}}"}))
    assert ids(queue) == ["a.A-I", "a.A-II", "a.B-I", "a.B-II"]
    assert [job.command for job in queue.jobs] == ["x A/I", "x A/II", "x B/I", "x B/II"]


def test_combinations_are_left_out_and_added() -> None:
    """A grid with holes, or with a few more points, could not be said."""
    job = {
        **MATRIX,
        "matrix_exclude": [{"s": "B"}, {"s": "A", "c": "II"}],
        "matrix_include": [{"s": "C", "c": "X"}],
    }
    assert ids(parse_document(raw(job))) == ["a.A-I", "a.C-X"]
    listed = {"matrix_include": [{"n": 1, "m": "x"}, {"m": "y", "n": 2.5}]}
    assert ids(parse_document(raw(listed))) == ["a.1-x", "a.2.5-y"]


def test_ids_of_a_matrix_can_be_chosen() -> None:
    """A value that no id may hold would make a matrix impossible."""
    job = {"matrix": {"f": ["in/x y.csv", "in/z.csv"]}}
    assert ids(parse_document(raw(job))) == ["a.in_x_y.csv", "a.in_z.csv"]
    named = {**MATRIX, "matrix_id": "${{c}}_${{s}}-${{params.v}}"}
    queue = parse_document(raw(named, params={"v": 2}))
    assert ids(queue) == ["I_A-2", "II_A-2", "I_B-2", "II_B-2"]


def test_jobs_depend_on_all_or_on_the_same_combination() -> None:
    """Samples would wait for other samples, or a summary for one of them only."""
    queue = parse_document(
        raw(
            {**MATRIX, "job_id": "align"},
            {"job_id": "call", "matrix": {"s": ["A", "B"]}, "depends_on": ["align[s]"]},
            {**MATRIX, "job_id": "both", "depends_on": ["align[c, s]", "call.A"]},
            {"job_id": "all", "depends_on": ["call", "align"]},
        )
    )
    needs = {job.job_id: job.depends_on for job in queue.jobs}
    assert needs["call.B"] == ("align.B-I", "align.B-II")
    assert needs["both.A-II"] == ("align.A-II", "call.A")
    assert needs["all"] == (
        *("call.A", "call.B", "align.A-I", "align.A-II", "align.B-I", "align.B-II"),
    )


def test_what_looks_like_an_expression_can_be_written() -> None:
    """Templates of other programs could not stand in a command."""
    queue = parse_document(raw({"command": "echo '$${{ github.sha }} $$$${{x}}'"}))
    assert queue.jobs[0].command == "echo '${{ github.sha }} $$${{x}}'"
    text = dump_document(queue).encode()
    assert parse_document(text) == parse_stored(text) == queue


def test_documents_accepted_before_keep_their_meaning() -> None:
    """A queue of an older version could not be read any more."""
    old = dump_document(parse_document(raw({}))).replace('"true"', '"echo ${{ x }}"')
    assert parse_stored(old.encode()).jobs[0].command == "echo ${{ x }}"


def test_a_queue_id_names_the_day() -> None:
    """A nightly run would resume yesterday's, which has ended."""
    now = 1_769_090_730.5
    dated = raw({}, queue_id="nightly-{date}")
    assert parse_document(dated, now=now).queue_id == "nightly-2026-01-22"
    assert parse_document(raw({}, queue_id="n-{time}"), now=now).queue_id == "n-140530"
    assert "is not an id" in errors_of(dated)[0]
    assert "is not an id" in errors_of(raw({}, queue_id="n-{day}"), now=now)[0]


E = "the document has no params, and the job no matrix"
ERRORS: list[tuple[bytes, list[str]]] = [
    (raw({"command": "${{x}}"}), [f'jobs[0].command: "${{{{x}}}}": {E}']),
    (
        raw({"command": ["a", "${{params.rate}}"]}, params={"rte": 1}),
        ['jobs[0].command[1]: "${{params.rate}}": there is nothing of this name; '
         'did you mean "params.rte"?'],
    ),
    (
        raw({"command": "${{lr}}"}, params={"lr": 1}),
        ['jobs[0].command: "${{lr}}": there is nothing of this name; did you mean "params.lr"?'],
    ),
    (raw({"command": "${{x"}), ['jobs[0].command: "${{" is not closed by "}}"']),
    (raw({}, env={"A": "${{s}}"}), ['env.A: "${{s}}": ']),
    (raw({}, {**MATRIX, "job_id": "b", "timeout": "1d"}), ["jobs[1].timeout: "]),
    (
        raw({**MATRIX, "job_id": "b", "env": {"A": 5}, "command": "${{s}}"}, {"depends_on": ["c"]}),
        ["jobs[0].env.A: must be a string, not a number (job \"b.A-I\")",
         'jobs[1].depends_on[0]: there is no job "c" (job "a")'],
    ),
    (raw({}, defaults={"timeout": "1d"}), ["defaults.timeout: "]),
    (raw({}, defaults={"term_grace": "${{s}}"}), ["defaults.term_grace: "]),
    (raw({}, defaults={"run_if": "always"}), ['defaults.run_if: "always" needs depends_on']),
    (raw({}, defaults={"command": "x"}), ["defaults.command: is each job's own"]),
    (
        raw({}, defaults={"tiemout": "1m"}),
        ['defaults.tiemout: unknown key; did you mean "timeout"?'],
    ),
    (raw({}, defaults=[1]), ["defaults: must be an object, not an array"]),
    (raw({}, params={"a-b": "x", "c": []}), ["params.a-b: is not a name", "params.c: must be"]),
    (raw({}, params={"a": 1, "A": 2}), ['params.A: and "a" would both be PARAM_A']),
    (raw({"matrx": {}}), ['jobs[0].matrx: unknown key; did you mean "matrix"?']),
    (raw({}, env=None, params={}), ["env: must be an object of names and strings, not null"]),
    (raw({}, parms={}), ['parms: unknown key; did you mean "params"?']),
    (raw({"matrix": {"s": []}}), ["jobs[0].matrix.s: must hold at least one value"]),
    (raw({"matrix": {"s": ["a", "a"]}}), ['jobs[0].matrix.s[1]: "a" is there twice']),
    (raw({"matrix": {"s": [[]]}}), ["jobs[0].matrix.s[0]: must be a string or a number"]),
    (raw({"matrix": {}}), ["jobs[0].matrix: must have at least one name"]),
    (raw({"matrix_id": "x"}), ["jobs[0].matrix_id: needs a matrix"]),
    (
        raw({**MATRIX, "matrix_exclude": [{"z": "A"}, {"s": "Z"}]}),
        ["jobs[0].matrix_exclude[0].z: the matrix has no such name"],
    ),
    (raw({**MATRIX, "matrix_exclude": [{"s": "Z"}]}), ["jobs[0].matrix_exclude[0]: excludes"]),
    (raw({**MATRIX, "matrix_include": [{"s": "Z"}]}), ["jobs[0].matrix_include[0]: must have"]),
    (
        raw({**MATRIX, "matrix_include": [{"s": "A", "c": "I"}]}),
        ["jobs[0].matrix_include[0]: this combination is there already"],
    ),
    (raw({**MATRIX, "matrix_id": "x${{s}}"}), ['jobs[0].matrix_id: makes two jobs "xA"']),
    (raw({"matrix": {"s": ["a b", "a c", "a-b"], "t": ["x"]}, "matrix_id": "${{u}}"}),
     ['jobs[0].matrix_id: "${{u}}": there is nothing of this name']),
    (raw({"matrix": {"s": ["a b", "a?b"]}}), ['jobs[0].matrix: makes two jobs "a.a_b": matrix_id']),
    (raw(MATRIX, {}), ['jobs[1].job_id: "a" is also the id of jobs[0]']),
    (
        raw({**MATRIX, "job_id": "b"}, {"job_id": "b.B-I"}),
        ['jobs[1].job_id: "b.B-I" is also the id of jobs[0]'],
    ),
    (
        raw(MATRIX, {"job_id": "b", "depends_on": ["a", "a[s]"]}),
        ['jobs[1].depends_on[1]: "a[s]": this job has no matrix'],
    ),
    (
        raw(MATRIX, {"job_id": "b", "matrix": {"q": [1]}, "depends_on": ["a[s]"]}),
        ['jobs[1].depends_on[0]: "a[s]": the matrix of this job has no "s"'],
    ),
    (
        raw(MATRIX, {"job_id": "b", "matrix": {"s": ["A", "Z"]}, "depends_on": ["a[s]"]}),
        ['jobs[1].depends_on[0]: "a[s]": no job of "a" has the same s'],
    ),
    (
        raw(MATRIX, {"job_id": "b", "matrix": {"s": ["A"]}, "depends_on": ["aa[s]"]}),
        ['jobs[1].depends_on[0]: "aa[s]": there is no job "aa" with a matrix; did you mean "a"?'],
    ),
    (
        raw(MATRIX, {"job_id": "b", "depends_on": ["a", "q", "a.A-I"]}),
        ['jobs[1].depends_on[1]: there is no job "q"', 'jobs[1].depends_on[2]: "a.A-I" is na'],
    ),
    (raw({**MATRIX, "depends_on": ["a"]}), ["jobs[0].depends_on: cycle: a.A-I → a.A-I"]),
    (
        raw({"matrix": {"a": list(range(400)), "b": list(range(400))}}),
        ["jobs[0].matrix: the document has 160,000 jobs when it is written out: at most 100,000"],
    ),
    (
        raw({"matrix": {name: list(range(40)) for name in "abcd"}}),
        ["jobs[0].matrix: has 2,560,000 combinations: at most 1,000,000"],
    ),
    (raw({**MATRIX, "job_id": "?"}), ['jobs[0].job_id: "?.A-I" is not an id']),
    (b'{"x-runner-given":{},' + raw(MATRIX)[1:], ["jobs[0].matrix: stands in a document"]),
    (b'{"x-runner-given":{},' + raw({}, params={"a": "b"})[1:], ["params: stands in a document"]),
]  # fmt: skip


@pytest.mark.parametrize(("document", "messages"), ERRORS)
def test_errors_name_the_place_in_the_given_document(document: bytes, messages: list[str]) -> None:
    """Somebody would look for the error in a document that he hasn't written."""
    found = errors_of(document)
    assert len(found) >= len(messages)
    for error, message in zip(found, messages, strict=False):
        assert error.startswith(message), found


def test_an_error_of_many_jobs_is_told_once() -> None:
    """A thousand lines would say the same."""
    job = {"matrix": {"n": list(range(1000))}, "timeout": "x", "depends_on": ["q"]}
    errors = errors_of(raw(job))
    assert [error.partition(":")[0] for error in errors] == [
        "jobs[0].timeout",
        "jobs[0].depends_on[0]",
    ]
    assert errors[0].endswith('(job "a.0")')


def test_keys_may_be_written_with_escapes() -> None:
    """What JSON calls the same key would be another."""
    document = raw({}, params={"a": "1"}).replace(b'"params"', b'"\\u0070arams"')
    assert parse_document(document).env == {"PARAM_A": "1"}


@pytest.mark.parametrize(
    "text", ["{}", '{"a": "\\u00e9"}', '{"command": "defaults matrix params"}']
)
def test_plain_documents_are_read_as_before(text: str) -> None:
    """Every document would cost what only some need."""
    assert not is_short(text)


def test_the_given_document_travels_with_the_plain_one() -> None:
    """Nobody could see any more what had been written."""
    document = raw(MATRIX, params={"a": "é ${{x}}"}, defaults={"term_grace": "5s"})
    queue = parse_document(document)
    assert queue.given is not None and json.loads(queue.given) == json.loads(document)
    text = dump_document(queue).encode()
    for again in (parse_document(text), parse_stored(text)):
        assert again == queue and again.given == queue.given
        assert dump_document(again).encode() == text


def test_dependencies_of_many_on_many_have_a_bound() -> None:
    """A short document would become one that no machine can hold."""
    many = {"matrix": {"n": list(range(20_000))}}
    errors = errors_of(raw({**many, "job_id": "a"}, {**many, "job_id": "b", "depends_on": ["a"]}))
    most = "at most 67,108,864 bytes (64 MiB)"
    assert errors == [f"jobs[1]: the document is too large when written out: {most}"]


def test_a_hundred_thousand_jobs_of_a_matrix_take_seconds() -> None:
    """A large sweep could not be checked while one waits."""
    axes = {"x": list(range(100)), "y": list(range(250)), "z": ["p", "q"]}
    first = {"job_id": "a", "matrix": axes, "command": "run ${{x}} ${{y}}", "env": {"Z": "${{z}}"}}
    second = {"job_id": "b", "matrix": axes, "depends_on": ["a[x,y,z]"]}
    document = raw(first, second)
    begun = time.process_time()
    queue = parse_document(document)
    assert time.process_time() - begun < 4
    assert len(queue.jobs) == 100_000
    assert queue.jobs[99_999].depends_on == ("a.99-249-q",)


def test_schema_knows_documents_in_short() -> None:
    """An editor would mark a good document as wrong, or a wrong one as good."""
    good = {
        **QUEUE,
        "queue_id": "n-{date}",
        "params": {"a": 1},
        "defaults": {"timeout": "1m"},
        "jobs": [
            {"job_id": "a", "command": ["x", "y"], "matrix": {"s": ["A", 1]}},
            {"job_id": "b", "command": "x", "depends_on": ["a[s]"], "matrix_include": [{"s": "A"}]},
        ],
    }
    good["jobs"][0]["matrix_id"] = "${{s}}"
    assert not list(SCHEMA.iter_errors(good))
    parse_document(json.dumps(good).encode(), now=0.0)
    assert list(SCHEMA.iter_errors({**good, "defaults": {}}))
    assert list(SCHEMA.iter_errors({**good, "params": {"a": []}}))


@pytest.mark.parametrize("path", sorted(PATTERNS.glob("*.yaml")), ids=lambda path: path.stem)
def test_schema_accepts_the_patterns(path: Path) -> None:
    """An editor would mark expressions in a good document as wrong."""
    document: dict[str, Any] = {}
    for key, index, value in read_yaml(path.read_text(), path.name)[0]:
        if index is None:
            document[key] = value
        else:
            document[key].append(value)
    assert not list(SCHEMA.iter_errors(document))
    document["jobs"][0]["job_id"] = "${{params.x}}"
    assert list(SCHEMA.iter_errors(document))


def test_schema_accepts_expressions_in_strings_of_any_rule() -> None:
    """The same of durations, images and places to fill in."""
    job = {
        "job_id": "a",
        "command": "x",
        "timeout": "${{params.t}}",
        "image": "python:${{v}}",
        "matrix": {"v": ["3.11"]},
        "input_paths": [{"s3": "s3://bucket/${{v}}/", "path": "in/${{v}}/"}],
        "resources": {"memory": "${{params.m}}"},
    }
    good = {**QUEUE, "params": {"t": "1m", "m": "1GiB"}, "jobs": [job]}
    parse_document(json.dumps(good).encode())
    assert not list(SCHEMA.iter_errors(good))


names = st.sampled_from(["s", "t", "u"])
scalars = st.sampled_from(["A", "B", "x y", "${{params.p}}", 1, 2.5, True, "$${{s}}", "é"])
words = st.lists(
    st.sampled_from(["${{s}}", "${{ t }}", "${{params.p}}", "$${{s}}", "$", "{", "\n", "é"]),
    max_size=6,
).map("".join)  # fmt: skip
jobs = st.fixed_dictionaries(
    {"command": words | st.lists(words, min_size=1, max_size=3)},
    optional={
        "matrix": st.dictionaries(names, st.lists(scalars, max_size=3, unique_by=str), max_size=3),
        "matrix_include": st.lists(st.dictionaries(names, scalars, max_size=3), max_size=2),
        "matrix_exclude": st.lists(st.dictionaries(names, scalars, max_size=2), max_size=2),
        "matrix_id": words,
        "depends_on": st.lists(
            st.sampled_from(["j0", "j1", "j0[s]", "j1[s,t]", "j0.A", "j1[]"]), max_size=2
        ),
        "env": st.dictionaries(st.sampled_from("AB"), words, max_size=2),
        "timeout": st.sampled_from(["1m", "5m", "${{params.t}}"]),
        "array": st.just(3),
    },
)
documents = st.fixed_dictionaries(
    {"jobs": st.lists(jobs, min_size=1, max_size=3)},
    optional={
        "params": st.fixed_dictionaries({"p": scalars, "t": st.sampled_from(["1m", "2m"])}),
        "defaults": st.fixed_dictionaries(
            {"timeout": st.sampled_from(["1m", "2m"])}, optional={"env": st.just({"D": "${{s}}"})}
        ),
        "env": st.dictionaries(st.sampled_from(["A", "PARAM_P"]), words, max_size=1),
    },
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_what_is_written_out_reads_back_the_same(document: dict[str, Any]) -> None:
    """A restarted daemon would run something else, or refuse its own queue."""
    body = [{"job_id": f"j{at}", **job} for at, job in enumerate(document["jobs"])]
    text = json.dumps({**QUEUE, **document, "jobs": body}).encode()
    try:
        queue = parse_document(text)
    except DocumentError as error:
        places = [line.partition(":")[0] for line in error.errors]
        assert all(len(body) > int(p[5]) for p in places if p.startswith("jobs["))
        with pytest.raises(DocumentError) as again:
            parse_document(text)
        assert again.value.errors == error.errors
        return
    dumped = dump_document(queue)
    assert dump_document(parse_document(text)) == dumped
    for read in (parse_document, parse_stored):
        assert read(dumped.encode()) == queue
        assert dump_document(read(dumped.encode())) == dumped
    if queue.given is not None:
        assert parse_document(queue.given.encode()) == queue


def test_yaml_is_the_same_document(tmp_path: Any) -> None:
    """The two notations would come to mean different things."""
    path = tmp_path / "q.yaml"
    path.write_text(
        """\
# a comment
queue_name: n
global_timeout: 1h
on_failure: stop
params: {lr: 0.1, day: 2026-01-22}
x-base: &base
  timeout: 1m
  env: {A: "no"}
jobs:
  - <<: *base
    job_id: a
    command: |
      set -e
      train ${{params.lr}} ${{params.day}} ${{n}}
    matrix: {n: [1, 2]}
  - job_id: b
    <<: *base
    timeout: 2m
    command: [echo a, echo b]
    depends_on: [a]
"""
    )
    queue = read_document(path)
    assert ids(queue) == ["a.1", "a.2", "b"]
    assert queue.jobs[0].command == "set -e\ntrain 0.1 2026-01-22 1\n"
    assert [job.timeout for job in queue.jobs] == [60.0, 60.0, 120.0]
    assert queue.given is not None and parse_document(queue.given.encode()) == queue


YAML_HEAD = "queue_name: n\nglobal_timeout: 1h\non_failure: stop\njobs:\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("queue_name: n\nqueue_name: m\n", "q.yml: line 2: queue_name: is given twice"),
        (YAML_HEAD + "- {job_id: a, command: x}\n", "line 5: jobs[0].timeout: is required"),
        (
            YAML_HEAD + "- job_id: a\n  command: x\n  timeout: 1m\n  env:\n    A: no\n",
            "line 9: jobs[0].env.A: must be a string, not false",
        ),
        (
            YAML_HEAD + "- job_id: a\n  command: x\n  timeout: 1m\n  matrix:\n    s: [1]\n"
            "  depends_on: [a, q]\n",
            'line 10: jobs[0].depends_on[1]: there is no job "q"',
        ),
        (YAML_HEAD + "- job_id: [\n", "q.yml: line 6, column 1: "),
        ("- a\n", "q.yml: line 1: must be a mapping, not an array"),
        ("", "q.yml: line 1, column 1: the document is empty"),
        ("a: !!python/object:x.y {}\n", "q.yml: line 1: the tag !!python/object:x.y is not read"),
        ("a: !!binary aGk=\n", "q.yml: line 1: the tag !!binary is not read"),
        ("a: .nan\n", "q.yml: line 1: .nan is not a number"),
        ("? [a]\n: b\n", "q.yml: line 1: a key must be a string"),
        ("a: &a [*a]\n", "q.yml: line 1: is nested too deeply"),
        ("a: 1\n---\nb: 2\n", "q.yml: line 2, column 1: "),
    ],
)
def test_errors_of_yaml_name_the_line(tmp_path: Any, text: str, message: str) -> None:
    """The place in a long file would have to be counted out."""
    path = tmp_path / "q.yml"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        read_document(path)
    assert any(message in error for error in caught.value.errors), caught.value.errors


def test_aliases_of_aliases_end(tmp_path: Any) -> None:
    """A few lines would fill the memory."""
    path = tmp_path / "q.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path.write_text("\n".join(lines))
    with pytest.raises(DocumentError, match="aliases make it too large"):
        read_document(path)
