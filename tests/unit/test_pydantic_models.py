"""Documents that are built in Python: the same rules and words, and no cost for who builds none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from test_document import FULL, JOB, JOB_ERRORS, QUEUE, QUEUE_ERRORS, errors_of, raw

import runner
from runner import BatchOptions, InputPath, Job, Queue, ResultPath, Retry
from runner.control.ssm_codec import pack_request
from runner.errors import DocumentError
from runner.model.document import parse_document
from runner.model.messages import step

TRAIN = Job("train", "python train.py", timeout="2h")


def without_notes(value: Any) -> Any:
    """Keys of other programs are of documents only."""
    if isinstance(value, dict):
        named = {key: item for key, item in value.items() if key[:2] != "x-" and key != "$schema"}
        return {key: without_notes(item) for key, item in named.items()}
    return [without_notes(item) for item in value] if isinstance(value, list) else value


def test_the_short_way_makes_a_document(tmp_path: Path) -> None:
    """The first example of the documentation would not run."""
    path = tmp_path / "queue.json"
    Queue(jobs=[Job("train", "python train.py", timeout="2h")]).save(path)
    assert json.loads(path.read_text()) == {
        "queue_name": "queue",
        "on_failure": "stop",
        "global_timeout": "2h0m0s",
        "jobs": [{"job_id": "train", "command": "python train.py", "timeout": "2h"}],
    }
    assert [each.name for each in tmp_path.iterdir()] == ["queue.json"]


def test_the_guides_program_makes_a_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who copies the program of the guide would get an error."""
    guide = (Path(__file__).parents[2] / "docs/guides/python.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```$", guide, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    queue = parse_document((tmp_path / "queue.json").read_bytes())
    assert [job.job_id for job in queue.jobs] == ["prepare", "train-0", "train-1", "train-2"]


def test_every_field_can_be_given() -> None:
    """What a document can say could not be said in Python."""
    full = without_notes(FULL)
    assert parse_document(Queue(**full).to_json().encode()) == parse_document(
        json.dumps(FULL).encode()
    )


def test_parts_are_models_too() -> None:
    """An editor would complete the names of a job's fields, and none of its parts."""
    job = Job(
        "a",
        "true",
        timeout="1m",
        retry=Retry(3, backoff="fixed"),
        result_paths=["a/*", ResultPath("b", optional=True)],
        input_paths=[InputPath("s3://bucket/k/", "in/")],
        resources={"cpus": 4, "memory": "16GiB"},
        batch=BatchOptions(share="a", tags={"k": "v"}),
    )
    (told,) = json.loads(Queue(jobs=[job]).to_json())["jobs"]
    assert told == {
        **JOB,
        "retry": {"max_attempts": 3, "backoff": "fixed"},
        "result_paths": ["a/*", {"path": "b", "optional": True}],
        "input_paths": [{"s3": "s3://bucket/k/", "path": "in/"}],
        "resources": {"cpus": 4, "memory": "16GiB"},
        "batch": {"share": "a", "tags": {"k": "v"}},
    }


def test_the_time_of_a_queue_is_that_of_its_attempts() -> None:
    """A queue without a global_timeout would be ended in the middle of its work."""
    jobs = [Job("a", "true", timeout="1h", retry=Retry(3)), Job("b", "true", timeout="30m")]
    assert json.loads(Queue(jobs=jobs).to_json())["global_timeout"] == "3h40m0s"
    array = [Job("a", "true", timeout="1m", array=90)]
    assert json.loads(Queue(jobs=array).to_json())["global_timeout"] == "1h30m0s"
    years = [Job("a", "true", timeout="87600h", retry=Retry(2))]
    assert json.loads(Queue(jobs=years).to_json())["global_timeout"] == "87600h0m0s"


def told_by_model(error: ValidationError, root: str) -> set[str]:
    """Its errors as a document has them: `jobs[0].retry.max_attempts: must be 1 to 100`."""
    found = set()
    for each in error.errors():
        steps = [f"[{at}]" if isinstance(at, int) else step(at) for at in each["loc"]]
        found.add(f"{root}{''.join(steps)}: {each['msg']}")
    return found


BETWEEN_FIELDS = (
    *("needs depends_on", "is set by env, too", 'needs "array"', "contradicts env"),
    *("none of the que", 'needs "on_failure"'),
)


# A timeout of None is one that is left out: the queue's defaults may have it.
@pytest.mark.parametrize(
    ("change", "message"), [each for each in JOB_ERRORS if each[0] != {"timeout": None}]
)
def test_jobs_are_refused_as_in_a_document(change: dict[str, Any], message: str) -> None:
    """A wrong job would be found when the script is over, or in other words."""
    in_document = {line.removesuffix(' (job "a")') for line in errors_of(raw([change]))}
    if not {*change} <= {*Job.__dataclass_fields__}:
        with pytest.raises(ValidationError, match=next(iter(change))):
            Job(**{**JOB, **change})
    elif any(words in message for words in BETWEEN_FIELDS):
        # They concern several fields, and are told when the document is written.
        with pytest.raises(DocumentError) as late:
            Queue(jobs=[Job(**{**JOB, **change})]).to_json()
        assert {line.removesuffix(' (job "a")') for line in late.value.errors} == in_document
    else:
        with pytest.raises(ValidationError) as caught:
            Job(**{**JOB, **change})
        assert told_by_model(caught.value, "jobs[0]") == in_document


@pytest.mark.parametrize(("change", "message"), QUEUE_ERRORS)
def test_queues_are_refused_as_in_a_document(change: dict[str, Any], message: str) -> None:
    """A wrong field would be found when the script is over, or not at all."""
    with pytest.raises((ValidationError, DocumentError)) as caught:
        Queue(**{**QUEUE, "jobs": [JOB], **change}).to_json()
    name = next(iter(change))
    assert name in str(caught.value)


def test_places_are_names() -> None:
    """Nobody would know which of ten values is wrong."""
    with pytest.raises(ValidationError) as caught:
        Job("a/b", "", timeout="1h", env={"A": "1", "B-C": "x"}, retry={"max_attempts": 0})  # type: ignore[arg-type]
    places = [".".join(map(str, error["loc"])) for error in caught.value.errors()]
    assert places == ["job_id", "command", "env.B-C", "retry.max_attempts"]


def test_what_concerns_several_jobs_is_told_with_its_place(tmp_path: Path) -> None:
    """A document would be written that no machine takes, over one that is good."""
    path = tmp_path / "queue.json"
    Queue(jobs=[TRAIN]).save(path)
    before = path.read_text()
    broken = Queue(jobs=[TRAIN, Job("b", "true", timeout="1m", depends_on=["trian"])])
    with pytest.raises(DocumentError) as caught:
        broken.save(path)
    assert list(caught.value.errors) == [
        'jobs[1].depends_on[0]: there is no job "trian"; did you mean "train"? (job "b")'
    ]
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


def test_a_queue_can_be_built_step_by_step() -> None:
    """A loop that makes jobs would have to collect them first."""
    queue = Queue(queue_name="sweep")
    with pytest.raises(DocumentError, match="must hold at least one job"):
        queue.to_json()
    for seed in range(3):
        queue.jobs.append(Job(f"train-{seed}", f"python train.py {seed}", timeout="1h"))
    assert len(json.loads(queue.to_json())["jobs"]) == 3
    with pytest.raises(ValidationError, match="must be a duration"):
        queue.jobs[0].timeout = 5  # type: ignore[assignment]


def test_ten_thousand_jobs_take_a_moment() -> None:
    """A sweep of 100,000 jobs would take minutes to write."""
    began = time.process_time()
    retry = Retry(3)
    jobs = [Job(f"j{n}", "true", timeout="1h", retry=retry) for n in range(10_000)]
    Queue(jobs=jobs).to_json()
    assert time.process_time() - began < 4


def test_values_of_variables_are_never_shown() -> None:
    """A secret would stand in a log or a traceback."""
    for env in ({"A": ["hunter2"]}, {"JOB_ID": "hunter2"}, {"a b": "hunter2"}):
        with pytest.raises(ValidationError) as caught:
            Job("a", "true", timeout="1m", env=env)  # type: ignore[arg-type]
        assert "hunter2" not in f"{caught.value}{caught.value.errors()}"
    with pytest.raises(ValidationError) as caught:
        Job("a", "true", timeout="1m", secret_env={"A": "hunter2"})
    assert "hunter2" not in f"{caught.value}{caught.value.errors()}"
    job = Job("a", "true", timeout="1m", env={"A": "hunter2"})
    assert "hunter2" not in f"{job!r}{Queue(jobs=[job], env={'A': 'hunter2'})!r}"


def test_positions_are_counted() -> None:
    """A third word would be taken for some field."""
    with pytest.raises(TypeError, match=r"Job\(\) takes 2 positional arguments"):
        Job("a", "true", "1h")  # type: ignore[misc,call-arg]
    with pytest.raises(TypeError, match="multiple values"):
        Job("a", "true", job_id="a", timeout="1h")  # type: ignore[misc]


def test_a_name_that_is_not_there_is_an_error() -> None:
    """A slip in an import would give None."""
    with pytest.raises(AttributeError, match="Jobb"):
        runner.Jobb  # type: ignore[attr-defined]  # noqa: B018
    assert {"Job", "Queue", "__version__"} <= set(dir(runner))


VERBS = ["--version", "status", "logs a", "queues", "validate {document}", "submit {document}"]


@pytest.mark.parametrize("verb", [*VERBS, "ask {request}", "run {document} --simulate"])
def test_no_verb_imports_pydantic(verb: str, tmp_path: Path) -> None:
    """Every command would start 0.1 s later, and the idle daemon be 15 MB larger."""
    document = tmp_path / "queue.json"
    Queue(jobs=[TRAIN]).save(document)
    request = pack_request("status", limit=1)
    words = [word.format(document=document, request=request) for word in verb.split()]
    code = f"""
import sys
from runner.cli.main import run_command
run_command({words!r})
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"pydantic", "pydantic_core"}}))
"""
    env = {"RUNNER_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path), "PATH": "/bin"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=env, input="{}", capture_output=True, text=True
    )
    assert told.stdout.splitlines()[-1] == "[]", told.stderr
