"""A fleet's machines: launched, scaled and drained by its commands; what one runs, run here."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from account import Laptop, account
from postgres_server import PostgresServer

from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.machine_setup import MachineSetup
from runner.fleet.machines import machine_document
from runner.fleet.records import JobOptions, Metrics, TaskItem, TaskState
from runner.fleet.task_store import store_address

FLEET = [sys.executable, "-c", "from runner.fleet.cli.main import main; main()"]
PATIENCE = 60.0


class Fleet:
    """`runner-fleet` on a laptop with an account, and a job ``j`` in a database."""

    def __init__(self, laptop: Laptop, url: str) -> None:
        self.laptop, self.url = laptop, url
        self.database = open_database(url)
        self.database.migrate()
        options = JobOptions(command="true", results=f"s3://{laptop.bucket}/j")
        self.job = self.database.create_job("j", "{}", options)

    def call(self, *words: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        own = {**self.laptop.env, "RUNNER_FLEET": self.url, **env}
        done = subprocess.run(
            [*FLEET, *words], cwd=self.laptop.root, env=own, text=True, timeout=240,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def up(self, workers: int, *words: str, code: int = 0, **env: str) -> Any:
        machine = ("--instance-type", "t3.medium", "--bundle", str(self.laptop.bundle))
        wanted = ("up", "--job", "j", "--workers", str(workers), *machine, *words)
        return self.call(*wanted, code=code, **env)

    def queues(self) -> list[str]:
        """Of the machines that there are."""
        tags = [
            {tag["Key"]: tag["Value"] for tag in each["Tags"]} for each in self.laptop.instances()
        ]
        assert all(each["runner-fleet"] == "j" for each in tags)
        return sorted(each["runner:queue"] for each in tags)


@pytest.fixture
def fleet(tmp_path: Path, postgres: PostgresServer) -> Iterator[Fleet]:
    with account() as made:
        fleet = Fleet(Laptop(made, tmp_path), postgres.database())
        yield fleet
        fleet.database.close()


def test_machines_come_to_the_number_that_is_wanted(fleet: Fleet) -> None:
    """A second call would double the machines, or scaling in end one with its tasks."""
    told = json.loads(fleet.up(2, "--spot", "--json").stdout)
    names = fleet.queues()
    assert sorted(each["queue_id"] for each in told["launched"]) == names
    assert (len(names), {each.get("InstanceLifecycle") for each in fleet.laptop.instances()}) == (
        2, {"spot"}
    )  # fmt: skip
    document = fleet.laptop.read(f"runner/launches/{told['launched'][0]['launch']}/queue.json")
    assert document["env"]["BEC_DATABASE"] == fleet.url
    again = fleet.up(2)
    assert (again.stdout, fleet.queues()) == ("", names)
    assert "2 machines work for j already" in again.stderr
    fleet.call("scale", "--job", "j", "--to", "3")
    assert len(fleet.queues()) == 3
    newest = fleet.queues()[-1]
    told = json.loads(fleet.call("scale", "--job", "j", "--to", "2", "--json").stdout)
    assert (told, fleet.database.draining(fleet.job.id)) == (
        {"launched": [], "drained": [newest]}, [newest]
    )  # fmt: skip
    # The drained one doesn't count.
    assert "2 machines now, 2 wanted" in fleet.call("scale", "--job", "j", "--to", "2").stderr
    (first,) = (
        each["InstanceId"]
        for each in fleet.laptop.instances()
        if {"Key": "runner:queue", "Value": names[0]} in each["Tags"]
    )
    assert names[0] in fleet.call("drain", "--job", "j", first).stdout
    assert fleet.database.draining(fleet.job.id) == sorted([names[0], newest])
    fleet.call("drain", "--job", "j", "nobody", code=102)


def test_a_target_is_a_number_of_machines(fleet: Fleet) -> None:
    """A backlog would be worked on by machines that somebody has to count."""
    wanted = ("scale", "--job", "j", "--target", "30m", "--dry-run")
    assert "no machine was launched" in fleet.call(*wanted, code=2).stderr
    fleet.up(1)
    tasks = fleet.database.tasks
    tasks.enqueue(fleet.job.id, [TaskItem.volume("W", str(number)) for number in range(60)])
    assert "how long one takes isn't known" in fleet.call(*wanted, code=2).stderr
    number = fleet.database.register(fleet.job.id, "w")
    task = tasks.claim_next(fleet.job.id, number, "c", 60.0)
    assert task is not None
    assert tasks.finish(task, Metrics(duration_ms=300_000.0))
    told = fleet.call(*wanted).stderr
    assert "59 tasks are left, one takes 300.0 s" in told
    assert "1 machines now, 10 wanted" in told
    assert told.count("would launch") == 9


def test_real_workers_reach_the_target_and_a_task_has_its_cost(fleet: Fleet) -> None:
    """The figure would be one that as many machines don't reach, or a task's cost a guess."""
    work = ("--poll-wait", "0.5", "--shutdown-after-empty", "1")
    fleet.call("jobs", "update", "j", "--command", "sleep 2")
    fleet.up(1, "--spot")
    (first,) = fleet.queues()
    told = json.loads(fleet.call("status", "--job-name", "j", "--json").stdout)[0]
    assert (told["dollars"], told["dollars_a_task"], told["unheard_machines"]) == (None, None, 1)
    tasks = fleet.database.tasks
    tasks.enqueue(fleet.job.id, [TaskItem.volume("V", str(number)) for number in range(4)])
    fleet.call("worker", "--job-name", "j", "--name", first, "--concurrency", "2", *work)
    told = json.loads(fleet.call("status", "--job-name", "j", "--json").stdout)[0]
    (machine,) = fleet.database.machines(fleet.job.id)
    (last,) = {each.stopped_at for each in fleet.database.workers(fleet.job.id)[-1:]}
    assert machine.price is not None and last is not None
    spent = machine.price * (last - machine.launched_at) / 3600
    assert told["dollars"] == pytest.approx(spent, rel=0.2)
    assert told["dollars_a_task"] == pytest.approx(told["dollars"] / 4)
    assert not told["dollars_at_least"]

    tasks.enqueue(fleet.job.id, [TaskItem.volume("W", str(number)) for number in range(24)])
    words = fleet.call("scale", "--job", "j", "--target", "20s", "--dry-run").stderr
    found = re.search(r"24 tasks are left, one takes ([\d.]+) s.* (\d+) wanted", words, re.S)
    assert found is not None, words
    (done_so_far,) = (
        each for each in fleet.database.views.totals(fleet.job.id) if each.state is TaskState.DONE
    )
    mean, count = done_so_far.mean_ms / 1000, int(found[2])
    assert found[1] == f"{mean:.1f}"
    assert count == math.ceil(24 / math.floor(20 / mean))
    began = fleet.database.now()
    env = {**fleet.laptop.env, "RUNNER_FLEET": fleet.url}
    running = [
        subprocess.Popen(
            [*FLEET, "worker", "--job-name", "j", *work], env=env, cwd=fleet.laptop.root,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )
        for _ in range(count)
    ]  # fmt: skip
    assert [each.wait(120) for each in running] == [0] * count
    done = [task for task in fleet.database.views.recent(fleet.job.id, 24) if task.done_at]
    assert len(done) == 24
    starts = [task.started_at for task in done if task.started_at is not None]
    took = max(task.done_at or 0.0 for task in done) - min(starts)
    print(f"{count} workers, {took:.1f} s for a target of 20 s; began {min(starts) - began:.1f} s")
    assert took < 20 * 1.5
    told = json.loads(fleet.call("status", "--job-name", "j", "--json").stdout)[0]
    assert (told["unpriced_workers"], told["dollars_at_least"]) == (count, True)


def test_what_would_not_work_is_refused_before_a_machine_costs(fleet: Fleet) -> None:
    """Machines would start that reach no database, or whose documents hold its password."""
    for words, env, why in (
        ((), {"RUNNER_FLEET": fleet.url.replace("postgres@", "postgres:pw@")}, "--database-secret"),
        (("--lifetime", "x"), {}, "--lifetime"),
        (("--concurrency", "x"), {}, "--concurrency"),
        (("--no-such-flag",), {}, "--no-such-flag"),
    ):
        assert why in fleet.up(1, *words, code=2, **env).stderr
    fleet.up(1, "--ami", "ami-00000000", code=2)
    assert fleet.laptop.instances() == []
    fleet.call("jobs", "update", "j", "--results", str(fleet.laptop.root))
    assert "would stay on the machines" in fleet.up(1, code=2).stderr


# -- what a machine runs -------------------------------------------------------------------------


def until(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


class Machine:
    """What `up` has a machine run, run by this one: a queue whose job is a worker."""

    def __init__(self, folder: Path, command: str, *flags: str) -> None:
        self.folder = folder
        self.database: FleetDatabase = open_database(str(folder / "fleet"))
        self.database.check_schema()
        options = JobOptions(command=command, retry_delay=0.1)
        self.job = self.database.create_job("j", "{}", options)
        words = ("--poll-wait", "0.2", "--shutdown-after-empty", "1", "--visibility-timeout", "4")
        setup = MachineSetup(
            bucket="none",
            lifetime=600.0,
            worker=(*words, *flags),
            env={"BEC_DATABASE": str(folder / "fleet")},
        )
        document = machine_document("j", "fleet-j-1", setup)
        del document["result_s3_bucket"]
        programs = folder / "bin"
        programs.mkdir()
        script = programs / "runner-fleet"
        script.write_text(f"#!{sys.executable}\nfrom runner.fleet.cli.main import main\nmain()\n")
        script.chmod(0o755)
        (folder / "queue.json").write_text(json.dumps(document))
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("RUNNER", "BEC"))}
        self.env = {
            **ours,
            "HOME": str(folder),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "RUNNER_STATE_DIR": str(folder / "state"),
            "RUNNER_LOG_DIR": str(folder / "logs"),
        }

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "runner", "run", "queue.json"],
            cwd=self.folder, env=self.env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def enqueue(self, *keys: str) -> None:
        self.database.tasks.enqueue(self.job.id, [TaskItem.volume("W", key) for key in keys])

    def said(self) -> str:
        """What its worker has told so far."""
        return "".join(each.read_text() for each in (self.folder / "logs").glob("**/*stdout*"))


def test_a_machine_ends_when_nothing_is_left(tmp_path: Path) -> None:
    """A machine would cost for ever, or end before the last task."""
    machine = Machine(tmp_path, "true")
    machine.enqueue("1", "2", "3")
    running = machine.start()
    told, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, told
    assert machine.database.views.backlog(machine.job.id).empty
    assert [each.name for each in machine.database.workers(machine.job.id)] == ["fleet-j-1-1"]


def test_a_machine_that_goes_gives_its_task_back_uncounted(tmp_path: Path) -> None:
    """A Spot notice would use up an attempt: its signal reaches the task before the worker."""
    begun = tmp_path / "begun"
    machine = Machine(tmp_path, f"echo x >> {begun}; sleep 60")
    machine.enqueue("1")
    running = machine.start()
    until(begun.exists)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=PATIENCE)
    task = machine.database.tasks.named(machine.job.id, "W/1")
    assert task is not None
    assert (task.state, task.attempts, task.lost) == (TaskState.PENDING, 0, 0)


def test_a_drained_machine_ends_after_the_task_it_has(tmp_path: Path) -> None:
    """Scaling in would throw away what a machine is doing, or never end."""
    begun, go = tmp_path / "begun", tmp_path / "go"
    machine = Machine(tmp_path, f"echo $I_ID >> {begun}; until [ -e {go} ]; do sleep 0.1; done")
    machine.enqueue("1", "2", "3")
    running = machine.start()
    until(begun.exists)
    machine.database.drain(machine.job.id, "fleet-j-1")
    until(lambda: "takes no task any more" in machine.said())
    go.touch()
    told, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, told
    assert begun.read_text() == "1\n"
    assert machine.database.views.backlog(machine.job.id).due == 2
    assert store_address(machine.job, machine.database.folder) is not None
