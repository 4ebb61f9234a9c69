"""What travels to a target: capabilities, tasks, payload files."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.api.capabilities import NAMES, Capabilities, parse_capabilities
from runner.api.command_result import CommandResult
from runner.api.job_errors import JobError, PayloadError
from runner.api.payload import (
    CALL,
    RESULT,
    parse_header,
    pickled,
    read_payload,
    write_payload,
)
from runner.api.tasks import (
    CommandTask,
    FunctionTask,
    InputFile,
    PayloadReference,
    Task,
    task_from_json,
    task_to_json,
)
from runner.api.unpicklable import describe_unpicklable, name_of
from runner.errors import RecordError
from runner.model.queue import RetrySpec

# -- capabilities ------------------------------------------------------------------------------


def test_a_capability_has_its_names() -> None:
    """A dictionary written for AWS Batch would have to be written anew."""
    ours = {"cpus": 2, "memory": "16GiB", "queue": "q", "job_definition": "d:3", "timeout": "90s"}
    theirs = {
        "vcpus": 2,
        "memory": 16384,
        "job_queue": "q",
        "jobDefinition": "d:3",
        "timeout_seconds": 90,
    }
    found = parse_capabilities(ours)
    assert found == parse_capabilities(theirs)
    assert found.resources is not None and found.resources.memory == (16 << 30,)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"memroy": 1}, '"memroy" is not a capability; did you mean "memory"?'),
        ({"zzz": 1}, "there are cpus,"),
        ({3: 1}, "3 is not a capability"),
        ({"memory": "16GB"}, 'memory: "16GB" is not a size such as'),
        ({"memory": True}, "memory: must be a size"),
        ({"memory": 0}, "memory: must be at least 1"),
        ({"cpus": 0.1}, "cpus: must be 0.25 to"),
        ({"cpus": 1, "vcpus": 1}, '"vcpus" and "cpus" mean the same'),
        ({"region": "us-east"}, "region: "),
        ({"timeout": -1}, "timeout: must be more than 0"),
        ({"timeout": "1d"}, 'write "24h"'),
        ({"retry": 0}, "retry.max_attempts: must be 1 to 100"),
        ({"retry": {"max_attempt": 2}}, "unknown key"),
        ({"env": {"A B": "x"}}, "is not a valid name"),
        ({"env": {"A": 1}}, "env.A: must be a string"),
        ({"image": ""}, "image: must not be empty"),
        ({"queue": "a b"}, "queue: "),
        ({"job_definition": 3}, "job_definition: a number is not"),
    ],
)  # fmt: skip
def test_a_wrong_capability_is_refused_by_name(wrong: dict, told: str) -> None:
    """It would be dropped in silence, or fail on a machine far away."""
    with pytest.raises(ValueError) as refused:
        parse_capabilities(wrong)
    assert told in str(refused.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Each try would show one more mistake."""
    with pytest.raises(ValueError) as refused:
        parse_capabilities({"memroy": 1, "cpus": "x"})
    assert len(str(refused.value).splitlines()) == 2


def test_options_add_up_and_variables_are_joined() -> None:
    """A view of a view would forget what the first one said."""
    first = parse_capabilities({"cpus": 2, "env": {"A": "1", "B": "1"}})
    both = parse_capabilities({"memory": "1GiB", "env": {"B": "2"}}).over(first)
    assert both == Capabilities(cpus=2.0, memory=1 << 30, env={"A": "1", "B": "2"})
    assert both.given == ("cpus", "memory", "env")


def test_secret_values_are_in_no_repr() -> None:
    """They would stand in tracebacks and logs."""
    assert "hunter2" not in repr(parse_capabilities({"env": {"PASSWORD": "hunter2"}}))


# -- tasks -------------------------------------------------------------------------------------

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
WORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
)
VARIABLES = st.dictionaries(st.from_regex(r"[A-Z]{3,9}", fullmatch=True), WORDS, max_size=3)
DURATIONS = st.integers(1, 10**9).map(lambda millis: millis / 1000)
RETRIES = st.builds(
    RetrySpec,
    max_attempts=st.integers(1, 100),
    backoff=st.sampled_from(["exponential", "fixed", "exponential-jitter"]),
    base_delay=DURATIONS,
    max_delay=DURATIONS,
    retry_on_codes=st.none() | st.tuples(st.integers(1, 255)),
    retry_on=st.sampled_from([("exit",), ("exit", "signal")]),
)
WANTED = st.builds(
    Capabilities,
    target=st.none() | IDS,
    region=st.sampled_from([None, "us-east-1", "eu-central-1"]),
    queue=st.none() | IDS.map(lambda text: text.replace(".", "-")),
    job_definition=st.none() | st.just("train:7"),
    cpus=st.none() | st.sampled_from([0.25, 1.0, 96.0]),
    memory=st.none() | st.integers(1, 10**6).map(lambda size: size << 20),
    gpus=st.none() | st.integers(0, 8),
    image=st.none() | st.just("local/deb:1"),
    timeout=st.none() | DURATIONS,
    retry=st.none() | RETRIES,
    env=VARIABLES,
)
FUNCTIONS = st.builds(
    FunctionTask,
    id=IDS,
    source=WORDS,
    name=WORDS,
    payload=st.builds(PayloadReference, WORDS, WORDS, st.integers(0, 2**40)),
    capabilities=WANTED,
)
INPUTS = st.lists(st.builds(InputFile, WORDS, WORDS), max_size=2).map(tuple)
PATHS = st.lists(WORDS, max_size=3).map(tuple)
SCRIPTS = st.builds(
    CommandTask,
    id=IDS,
    source=WORDS,
    script=WORDS,
    input_paths=INPUTS,
    result_paths=PATHS,
    capabilities=WANTED,
)
ARGVS = st.builds(
    CommandTask,
    id=IDS,
    source=WORDS,
    argv=st.lists(WORDS, min_size=1, max_size=4).map(tuple),
    capabilities=WANTED,
)


@settings(deadline=None, max_examples=60)
@given(FUNCTIONS | SCRIPTS | ARGVS)
def test_a_task_reads_back_what_it_wrote(task: Task) -> None:
    """A job would run with other arguments, or less memory, than it was submitted with."""
    line = task_to_json(task)
    assert "\n" not in line
    assert task_from_json(line) == task


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "a task of version 2, and this runner reads version 1"),
        ({"version": True}, "version True"),
        ({"kind": "thing"}, 'must be "function" or "command"'),
        ({"kind": "function"}, "unknown key"),
        ({"colour": "red"}, "colour: unknown key"),
        ({"id": "../x"}, "id: "),
        ({"argv": ["x"]}, "either a script or an argv"),
        ({"script": None}, "either a script or an argv"),
        ({"capabilities": {"cpus": "x"}}, "capabilities.cpus: "),
        ({"capabilities": {"memroy": 1}}, "unknown key"),
        ({"capabilities": {"retry": {"max_attempts": 2, "backoff": "x"}}}, "retry.backoff: "),
    ],
)  # fmt: skip
def test_a_task_of_another_kind_is_refused_by_name(change: dict, told: str) -> None:
    """A record of a later version would be carried out by half."""
    task = json.loads(task_to_json(CommandTask("a-1", "host:1", script="true")))
    with pytest.raises(RecordError) as refused:
        task_from_json(json.dumps({**task, **change}), "spool/1")
    assert "spool/1" in str(refused.value) and told in str(refused.value)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_break_the_door(data: bytes) -> None:
    """A damaged spool would end with a traceback."""
    with pytest.raises(RecordError):
        task_from_json(data)


# -- payload files -----------------------------------------------------------------------------


def test_a_payload_gives_what_was_put_in(tmp_path: Path) -> None:
    """A lambda of a script, with what it closes over, would not arrive."""
    factor, where = 3, tmp_path / "x.call"
    header = write_payload(where, CALL, pickled((lambda x: x * factor, (2,), {})), ["/src"])
    payload = read_payload(where, (CALL,), header.sha256)
    function, args, kwargs = payload.load()
    assert function(*args, **kwargs) == 6 and payload.header.path == ("/src",)


def with_header(where: Path, **change: object) -> None:
    line, _, body = where.read_bytes().partition(b"\n")
    where.write_bytes(json.dumps({**json.loads(line), **change}).encode() + b"\n" + body)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"python": "cpython-310", "python_version": "3.10.2"}, "Python 3.10.2 (cpython-310)"),
        ({"cloudpickle": "1.0"}, "cloudpickle 1.0 and can't be read by cloudpickle "),
        ({"sha256": "0" * 64}, "sha256"),
        ({"size": 1}, "is damaged: more bytes, 1 were written"),
        ({"size": 10**9}, "is damaged"),
        ({"size": -1}, "no header"),
        ({"version": 2}, "version 2, this runner reads version 1"),
        ({"magic": "x"}, "is no payload of runner's"),
        ({"kind": RESULT}, "holds a result, not a call"),
        ({"path": [1]}, "no header"),
        ({"colour": 1}, "no header"),
    ],
)  # fmt: skip
def test_nothing_is_unpickled_that_does_not_fit(tmp_path: Path, change: dict, told: str) -> None:
    """Bytes of another Python end the process with a segmentation fault."""
    where = tmp_path / "x.call"
    write_payload(where, CALL, pickled(1))
    with_header(where, **change)
    with pytest.raises(PayloadError) as refused:
        read_payload(where, (CALL,))
    assert told in str(refused.value) and str(where) in str(refused.value)
    if "python" in change:
        assert sys.version.split()[0] in str(refused.value)


def test_another_payload_than_the_one_that_was_sent_is_refused(tmp_path: Path) -> None:
    """A file that was put in its place meanwhile would run."""
    where = tmp_path / "x.call"
    sent = write_payload(where, CALL, pickled(1)).sha256
    write_payload(where, CALL, pickled(2))
    with pytest.raises(PayloadError, match="not the one that was sent"):
        read_payload(where, (CALL,), sent)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300))
def test_no_bytes_are_taken_for_a_header(data: bytes) -> None:
    """Garbage would be unpickled, which may run anything."""
    with pytest.raises(PayloadError):
        parse_header(data, "x.call")


# -- what can't be pickled ---------------------------------------------------------------------


def test_what_can_not_be_pickled_is_named_by_its_place() -> None:
    """People would look through all they pass for a lock."""
    lock, deep = threading.Lock(), {"a": [1, {"b": threading.Lock()}]}

    class Model:
        def __init__(self) -> None:
            self.lock = lock

        def fit(self) -> None:
            pass

    def where(fn: object, *args: object, **kwargs: object) -> str:
        return describe_unpicklable(fn, args, kwargs, pickled)

    assert where(len, 1, deep).startswith("argument 2: ['a']: [1]: ['b'] (a _thread.lock)")
    assert where(len, model=Model()).startswith("argument model=: .lock (a _thread.lock)")
    assert "the variable lock of its closure" in where(lambda: lock)
    assert "the object it is a method of: .lock" in where(Model().fit)


def test_functions_have_names_for_people() -> None:
    """Every job of a partial would be called `partial`."""
    from functools import partial

    assert name_of(partial(print, 1)) == "print"
    assert name_of(type("Caller", (), {"__call__": print})()) == "Caller"


# -- results -----------------------------------------------------------------------------------


def test_a_commands_result_reads_as_a_dictionary() -> None:
    """Programs written for AWS Batch's statuses would have to be changed."""
    result = CommandResult("x-1", "timed_out")
    assert dict(result) == {"batch_job_id": "x-1", "status": "TIMEOUT", "exit_code": None}
    assert not result.ok and CommandResult("x", "completed", 0)["status"] == "SUCCEEDED"
    with pytest.raises(KeyError):
        result["colour"]


def test_a_jobs_error_can_be_pickled() -> None:
    """A call that waits for another one's result could not raise its error."""
    import pickle

    error = pickle.loads(pickle.dumps(JobError("told", "x-1", "failed", 3)))
    assert (str(error), error.job_id, error.exit_status) == ("told", "x-1", 3)


def test_every_capability_can_be_said() -> None:
    """A name without a field would be an error of ours."""
    assert set(NAMES) == set(Capabilities.__dataclass_fields__)
