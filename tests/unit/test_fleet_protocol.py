"""What follows from how a task ended, and how items are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import RecordError, UsageError
from runner.fleet.cli.fleet_settings import FleetEnvironment, postgres_address
from runner.fleet.cli.items import item, read_items, volume
from runner.fleet.connection import POSTGRESQL, SQLITE
from runner.fleet.protocol import (
    FAILED_IN_A_ROW,
    FailForGood,
    RetryLater,
    TaskEnd,
    TaskEndKind,
    after_failure,
    ends_before,
    extends_every,
    pause_reason,
)
from runner.fleet.records import FleetTask, JobOptions, TaskState, dump_options, parse_options
from runner.fleet.task_document import document_of, environment_of
from runner.fleet.task_rows import parse_metrics
from runner.fleet.task_store import folder_of

FAILED = TaskEnd(TaskEndKind.FAILED, "task: exit status 3", exit_code=3)


def task(key: str = "a", w: str | None = None, i: str | None = None, **params: str) -> FleetTask:
    return FleetTask(7, 1, key, params, TaskState.RUNNING, 2, 0, 0, 2, w, i)


@pytest.mark.parametrize(("attempts", "delay"), [(0, 10.0), (1, 20.0), (2, 40.0), (8, 900.0)])
def test_retries_wait_longer_each_time(attempts: int, delay: float) -> None:
    """A service that is down would be asked by all workers at once, for ever."""
    found = after_failure(FAILED, attempts, JobOptions(max_attempts=100))
    assert found == RetryLater(delay, FAILED.reason)


def test_the_last_attempt_and_terminal_codes_fail_for_good() -> None:
    """A task would be tried for ever, or given up although it may succeed."""
    used_up = after_failure(FAILED, 2, JobOptions())
    assert used_up == FailForGood("task: exit status 3 (3 attempts)")
    assert isinstance(after_failure(FAILED, 1, JobOptions()), RetryLater)
    assert after_failure(FAILED, 0, JobOptions(terminal_codes=(3,))) == FailForGood(FAILED.reason)
    invalid = TaskEnd(TaskEndKind.INVALID, "no template")
    assert after_failure(invalid, 0, JobOptions()) == FailForGood("no template")


def test_ten_failures_in_a_row_pause_a_job() -> None:
    """One bad setting would make every task fail before anybody looks."""
    bad = [TaskState.TERMINAL_FAILED] * FAILED_IN_A_ROW
    assert pause_reason(bad, "x") == "10 tasks in a row have failed for good, the last: x"
    assert pause_reason(bad[1:], "x") is None
    assert pause_reason([*bad[1:], TaskState.DONE], "x") is None


def test_a_lease_is_extended_long_before_it_ends() -> None:
    """One lost answer would lose a task; a tree would live on beside its successor's."""
    assert (extends_every(300), extends_every(40)) == (60, 10)
    assert ends_before(300) == 30
    assert ends_before(8) == 2


def test_options_come_back_as_they_were_stored() -> None:
    """A job would be run in another way than it was made for."""
    options = JobOptions(command="a 'ü'", terminal_codes=(1, 2), retry_delay=0.5, results="/r")
    assert parse_options(dump_options(options), "j") == options
    with pytest.raises(RecordError, match="max_attempts: must be 1 to 100"):
        parse_options('{"max_attempts": 0}', "j")


@pytest.mark.parametrize("raw", ["[]", "{", '{"total_images": -1}', '{"nb_errors": "3"}', "NaN"])
def test_metrics_that_are_none_are_refused(raw: str) -> None:
    """The sums of `jobs stats` would be nonsense."""
    with pytest.raises(RecordError, match="metrics"):
        parse_metrics(raw, "metrics")


def test_no_two_tasks_share_a_folder() -> None:
    """One task's marker would say that another is done."""
    tasks = [task("W/I", "W", "I"), task("W/I"), task("..")]
    tasks += [task("W%2FI"), task("."), task(".a"), task("_items"), task("W", "_items", "W/I")]
    folders = [folder_of(each) for each in tasks]
    assert len(set(folders)) == len(folders)
    assert not any(part in ("", ".", "..") for name in folders for part in name.split("/"))


def test_volumes_and_items_are_read_as_the_guide_writes_them(tmp_path: Path) -> None:
    """A list of volumes of before could not be used."""
    file = tmp_path / "volumes.txt"
    file.write_text("# one a line\nW22084,I0886\n\nW22084 I0887 # the same work\n W1 , I1\n")
    found = [each.key for each in read_items(file)]
    assert found == ["W22084/I0886", "W22084/I0887", "W1/I1"]
    table = tmp_path / "items.csv"
    table.write_text('id,path\na,"x,y"\n')
    assert [(each.key, each.params["path"]) for each in read_items(table)] == [("a", "x,y")]
    lines = tmp_path / "items.jsonl"
    lines.write_text('{"a": "x", "n": 3}\n{"W_ID": "W1", "I_ID": "I2"}\n')
    first, second = read_items(lines)
    assert (first.params, second.key) == ({"a": "x", "n": "3"}, "W1/I2")
    assert item(["a=b=c", "d="], "--item").params == {"a": "b=c", "d": ""}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "W1\nW2,I2,x\n../x,I1\n", r"a.txt:1: .*\n.*a.txt:2: .*\n.*a.txt:3: "),
        ("a.txt", "# nothing\n", "holds no item"),
        ("a.csv", "a,a\n1,2\n", "each column, once"),
        ("a.csv", "a,b\n1\n", "a.csv:2: has 1 values, and the head line 2"),
        ("a.jsonl", '{"a": 1\n', "a.jsonl:1: is not JSON"),
        ("a.jsonl", '{"RUNNER_X": "1"}\n', "RUNNER_X is set by runner itself"),
        ("a.jsonl", '{"a b": "1"}\n', "can't be the name of a variable"),
    ],
)
def test_lists_that_are_wrong_are_refused_by_line(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    """Half a list would be enqueued, or a task nobody meant."""
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=f"(?s){told}"):
        read_items(tmp_path / name)


def test_one_volume_is_two_ids() -> None:
    """A comma that was forgotten would make another task."""
    with pytest.raises(UsageError, match='--volume: "W1" is not W_ID,I_ID'):
        volume("W1", "--volume")


def test_a_task_finds_its_item_and_no_secret(tmp_path: Path) -> None:
    """The database's password would be in the logs of a task that prints its environment."""
    from runner.fleet.records import FleetJob

    job = FleetJob(1, "ldv1", "{}", JobOptions(command="true"))
    secret = {"BEC_SQL_PASSWORD": "s", "PGPASSWORD": "s", "RUNNER_FLEET": "postgresql://u:s@h/d"}
    found = environment_of(job, task("W/I", "W", "I"), tmp_path, {**secret, "PATH": "/bin"}, "/m")
    assert "s" not in found.values() and not any("u:s@h" in value for value in found.values())
    assert (found["W_ID"], found["I_ID"], found["TASK_ID"]) == ("W", "I", "7")
    assert (found["PATH"], found["RUNNER_MODEL_PATH"]) == ("/bin", "/m")


def test_a_template_has_the_items_values_as_parameters() -> None:
    """A document with parameters could not be a template."""
    from runner.fleet.records import FleetJob

    text = """{"queue_name": "t", "global_timeout": "1m", "on_failure": "stop",
        "params": {"set": "none", "b": "o"},
        "jobs": [{"job_id": "a", "timeout": "1m", "command": "${{params.set}} ${{params.b}}"}]}"""
    job = FleetJob(1, "j", "{}", JobOptions(template=text))
    document = document_of(job, task(set="x", more="y"))
    assert (document.jobs[0].command, document.queue_id) == ("x o", "task-7-2")


def test_a_job_that_says_nothing_is_refused() -> None:
    """Its tasks would fail one by one."""
    from runner.fleet.records import FleetJob

    with pytest.raises(UsageError, match=r"no --template and no --command.*runner\.fleet\.jobs"):
        document_of(FleetJob(1, "nobody", "{}", JobOptions()))


def test_a_template_that_waits_for_a_person_is_refused() -> None:
    """Its tasks would never end, and their workers never be free."""
    from runner.fleet.records import FleetJob

    text = """{"queue_name": "t", "global_timeout": "1m", "on_failure": "stop",
        "jobs": [{"job_id": "a", "timeout": "1m", "command": "true", "hold": true}]}"""
    with pytest.raises(UsageError, match="can't hold jobs"):
        document_of(FleetJob(1, "j", "{}", JobOptions(template=text)))


def test_the_seeds_variables_make_an_address() -> None:
    """A password with a slash would name another host."""
    names = {"BEC_SQL_PASSWORD": "p/@:", "BEC_SQL_USER": "u", "RUNNER_FLEET_SQL_USER": "v"}
    found = FleetEnvironment({}, names)
    assert postgres_address("h", found) == "postgresql://v:p%2F%40%3A@h:5432/pipeline_v1"


def test_statements_are_written_for_both_databases() -> None:
    """A value would be taken for SQL, or a cast for a value."""
    sql = "SELECT {now}, {after:lease}, x::text WHERE a = :a {skip_locked}"
    assert SQLITE.written(sql).endswith("+ :lease), x::text WHERE a = :a ")
    assert "secs => %(lease)s" in POSTGRESQL.written(sql)
    assert POSTGRESQL.written(sql).endswith("x::text WHERE a = %(a)s FOR UPDATE SKIP LOCKED")
