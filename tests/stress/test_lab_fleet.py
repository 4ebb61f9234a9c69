"""A fleet's machines, from `runner-fleet up` to their end: two real systems, PostgreSQL, SQS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cloud import CloudMachine
from fleet_lab import WAITS, FleetLab, laboratory, machine_id
from installed import Server
from postgres_server import PostgresServer
from s3_endpoint import Endpoint

from runner.fleet.database import open_database
from runner.fleet.records import FleetTask, JobOptions, TaskItem, TaskState

Lab = Callable[[str], FleetLab]


@pytest.fixture
def lab(lab_root: Path, bundle: Path, tmp_path: Path, postgres: PostgresServer) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield lambda queue: laboratory(lab_root, bundle, tmp_path, postgres, queue, stack)


def ended(lab: FleetLab, there: CloudMachine) -> None:
    """The machine ends itself, and EC2 knows."""
    try:
        assert there.machine.wait_end(180) == 0
    except BaseException:
        print(lab.why(there))
        raise
    assert lab.journey.cloud.state(there.instance_id) == "terminated"


@pytest.mark.share
def test_a_spot_notice_gives_a_task_to_the_other_machine(lab: Lab) -> None:
    """A Spot notice would cost an attempt, or the task; or machines would stay when all is done."""
    fleet = lab("moto")
    fleet.enqueue("1", "2", "3")
    one, two = fleet.up(2, spot=True)
    lost, kept = fleet.begun(one, "1", "2", "3"), fleet.begun(two, "1", "2", "3")
    assert lost != kept
    one.imds.announce_spot(120)
    one.machine.wait_for(lambda: fleet.task(lost).state is TaskState.PENDING, "its task given back")
    task = fleet.task(lost)
    assert (task.attempts, task.lost) == (0, 0)
    one.machine.wait_for(lambda: fleet.stored_status(one) == "interrupted", "the stored state")
    one.machine.power_cut()
    two.machine.write("/var/tmp/go", "")
    here = machine_id(two)
    ended(fleet, two)
    for key in ("1", "2", "3"):
        task = fleet.task(key)
        assert (task.state, task.attempts, task.lost) == (TaskState.DONE, 0, 0)
        assert fleet.where(key) == here
    assert "Messages Available" in fleet.call("queue", "stats", "--job-name", "j")
    assert all(each.stopped_at is not None for each in fleet.database.workers(fleet.job.id))
    (told,) = json.loads(fleet.call("status", "--job-name", "j", "--json"))
    assert told["dollars_a_task"] == pytest.approx(told["dollars"] / 3)
    assert (told["dollars"] > 0, told["dollars_at_least"], told["workers"]) == (True, False, 0)


@pytest.mark.share
@pytest.mark.parametrize("queue", ["own", "none"])
def test_scaling_in_lets_a_task_end_and_then_the_machine(lab: Lab, queue: str) -> None:
    """Scaling in would throw away what a machine is doing, or the machine would go on costing."""
    fleet = lab(queue)
    code = fleet.journey.home / "code"
    code.mkdir()
    (code / "greeting").write_text("hello\n")
    fleet.call("jobs", "update", "j", "--command", f'{WAITS}; cp "$RUNNER_WORKER_DIR/greeting" .')
    fleet.enqueue("1", "2", "3", "4")
    one, two = fleet.up(2, "--workdir", "code")
    here, there = fleet.begun(one, "1", "2", "3", "4"), fleet.begun(two, "1", "2", "3", "4")
    fleet.call("scale", "--job", "j", "--to", "1")
    two.machine.wait_for(lambda: "takes no task any more" in fleet.said(two), "that it is drained")
    assert (fleet.task(there).state, two.machine.running) == (TaskState.RUNNING, True)
    two.machine.write("/var/tmp/go", "")
    of_two = machine_id(two)
    ended(fleet, two)
    assert fleet.task(there).state is TaskState.DONE
    assert fleet.task(here).state is TaskState.RUNNING
    one.machine.write("/var/tmp/go", "")
    ended(fleet, one)
    ran = {key: fleet.where(key) for key in ("1", "2", "3", "4")}
    assert [key for key, where in ran.items() if where == of_two] == [there]
    assert {fleet.task(key).attempts for key in ran} == {0}
    assert {fleet.result(key, "greeting") for key in ran} == {"hello\n"}, "what was shipped"


@pytest.mark.share
def test_the_lifetime_guard_ends_a_machine_whose_agent_is_dead(lab: Lab) -> None:
    """A worker that hangs would cost money for ever, or its end lose the task that it had."""
    fleet = lab("none")
    fleet.enqueue("1", "2")
    (one,) = fleet.up(1, "--lifetime", "1h")
    held = fleet.begun(one, "1", "2")
    one.machine.run("systemctl", "mask", "--runtime", "runner")
    one.machine.run("systemctl", "kill", "--signal=KILL", "runner")
    told = json.loads(one.machine.read("/var/lib/runner/machine.json"))
    limit = told["life"]["limit"]
    assert 3600 < limit < 2 * 3600 + 600, "what --lifetime says, and time to boot and to end"
    told["life"]["before"] += limit
    one.machine.write("/var/lib/runner/machine.json", json.dumps(told))
    ended(fleet, one)
    fleet.call("jobs", "update", "j", "--command", "true")
    words = ("worker", "--job-name", "j", "--poll-wait", "1", "--shutdown-after-empty", "1")
    fleet.call(*words)
    assert {fleet.task(key).state for key in ("1", "2")} == {TaskState.DONE}
    assert fleet.task(held).attempts == 0


UNIT = "runner-worker@j"


@pytest.mark.share
def test_the_unit_works_gives_back_and_comes_again(
    server: Callable[..., Server], postgres: PostgresServer, endpoint: Endpoint, tmp_path: Path
) -> None:
    """A worker on a machine of one's own would not begin, not end, or lose what it was doing."""
    there = server().machine
    url, bucket = postgres.database(), endpoint.bucket()
    database = open_database(url)
    database.migrate()
    command = "echo x >> /var/tmp/$I_ID; until [ -e /var/tmp/go ]; do sleep 0.1; done"
    job = database.create_job("j", "{}", JobOptions(command=command, results=f"s3://{bucket}/j"))
    known = {"RUNNER_FLEET": url, **endpoint.env}
    lines = "".join(f"{name}={value}\n" for name, value in known.items())
    there.write("/etc/runner/worker.env", lines, 0o600)
    there.boot()
    for port in (postgres.port, endpoint.port):
        there.forward(port)

    def task(key: str) -> FleetTask:
        found = database.tasks.named(job.id, f"W/{key}")
        assert found is not None
        return found

    def reaches(key: str, state: TaskState) -> None:
        there.wait_for(lambda: task(key).state is state, f"{key} {state.value}")

    database.tasks.enqueue(job.id, [TaskItem.volume("W", "1")])
    there.run("systemctl", "enable", "--now", UNIT)
    there.wait_for(lambda: there.exists("/var/tmp/1"), "its task")
    assert there.run("stat", "-c", "%U", "/var/tmp/1").stdout == "runner\n"
    there.run("systemctl", "stop", UNIT)
    assert (task("1").state, task("1").attempts, task("1").lost) == (TaskState.PENDING, 0, 0)
    assert there.show(UNIT, "Result") == "success"
    there.run("systemctl", "start", UNIT)
    there.wait_for(lambda: there.read("/var/tmp/1") == "x\nx\n", "its task again")
    there.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    there.wait_for(lambda: "Scheduled restart" in there.journal("-u", UNIT), "the next start")
    assert there.run("pgrep", "-fc", "until .*/go", check=False).stdout == "0\n"
    there.write("/var/tmp/go", "")
    database.tasks.enqueue(job.id, [TaskItem.volume("W", "2")])
    reaches("2", TaskState.DONE)
    there.reboot()
    database.tasks.enqueue(job.id, [TaskItem.volume("W", "3")])
    reaches("3", TaskState.DONE)
    report = ("/opt/runner/bin/runner-fleet", "report", "j", "--html", "/root/j.html")
    assert "3 tasks" in there.run(*report, env=known).stdout
    assert "W/3" not in there.read("/root/j.html"), "packed, for the search"
    there.power_off()
    assert [each.stopped_at is None for each in database.workers(job.id)].count(True) == 1
    database.close()
