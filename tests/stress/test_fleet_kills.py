"""Workers that are killed, frozen and stopped: each task is done once in effect, none is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqs_server import RUDE, SqsServer

from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.records import JobOptions, TaskItem, TaskState
from runner.fleet.task_queue import TaskQueue, parse_message, send_unsent
from runner.fleet.task_store import store_address

PROGRAM = Path(__file__).parents[1] / "fleet_worker.py"
LEASE = "3"
PATIENCE = 60.0

COMMAND = """
token=$(cat /proc/sys/kernel/random/uuid)
echo "$token" > out.txt
echo "{\\"total_images\\": 1, \\"token\\": \\"$token\\"}" > "$RUNNER_TASK_METRICS"
case "$I_ID" in
  terminal) exit 3;;
  once) mkdir "$SCRATCH/once" 2>/dev/null && exit 4;;
  n*) sleep 0.$((RANDOM % 4));;
  slow) echo $$ >> "$SCRATCH/slow"; while [ -e "$SCRATCH/hold" ]; do sleep 0.1; done;;
esac
exit 0
"""
ITEMS = ("good", "terminal", "once")


@dataclass
class KillFleet:
    """A job with tasks that succeed, fail for good, and succeed at the second attempt."""

    address: str
    folder: Path
    database: FleetDatabase
    env: dict[str, str]
    queue: TaskQueue | None
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def begin(self, *items: str) -> None:
        options = JobOptions(
            command=COMMAND, terminal_codes=(3,), retry_delay=0.1,
            results=str(self.folder / "results"),
        )  # fmt: skip
        urls = (None, None) if self.queue is None else (self.queue.url, self.queue.dlq_url)
        job = self.database.create_job("kills", "{}", options, *urls)
        self.database.tasks.enqueue(job.id, [TaskItem.volume("W", each) for each in items])
        if self.queue is not None:
            send_unsent(self.database, self.queue, job)

    def worker(
        self, step: str = "-", number: int = 1, machine: str = "m1", lease: str = LEASE
    ) -> Any:
        words = [self.address, "kills", str(self.folder / machine), lease, step, str(number)]
        started = subprocess.Popen(
            [sys.executable, str(PROGRAM), *words], env=self.env, cwd=self.folder, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.running.append(started)
        return started

    def works_to_the_end(self, machine: str = "m1") -> str:
        worker = self.worker(machine=machine)
        told: str = worker.communicate(timeout=PATIENCE)[0]
        assert worker.returncode == 0, told
        return told

    def states(self) -> dict[str, TaskState]:
        job = self.database.job("kills").id
        return {task.i_id or "": task.state for task in self.database.views.recent(job, 1000)}

    def check(self) -> None:
        """One marker a task, equal to its row and to the results it names; none for a failure."""
        job = self.database.job("kills")
        where = Path(store_address(job, self.database.folder) or "")
        for task in self.database.views.recent(job.id, 1000):
            markers = list((where / "W" / (task.i_id or "")).glob("success.json"))
            if task.i_id == "terminal":
                assert task.state is TaskState.TERMINAL_FAILED and not markers
                assert task.error == "task: command execution failed: exit status 3"
                continue
            assert task.state is TaskState.DONE, (task.key, task.state, task.error)
            marker = json.loads(markers[0].read_text())
            results = markers[0].parent / str(marker["run"]) / "jobs/task/out.txt"
            assert results.read_text().strip() == marker["metrics"]["token"]
            rows = self.database._sql.query(
                "SELECT metrics FROM task_executions WHERE id = :task", {"task": task.id}
            )
            assert json.loads(rows[0][0]) == marker["metrics"]
        totals = {each.state: each for each in self.database.views.totals(job.id)}
        assert set(totals) <= {TaskState.DONE, TaskState.TERMINAL_FAILED}

    def check_letters(self, server: SqsServer) -> None:
        """All messages are gone, and every failure has its letter with its reason."""
        job = self.database.job("kills")
        letters = [parse_message(body) for body in server.bodies("bec_kills_dlq")]
        failed = self.database.views.recent(job.id, 99, TaskState.TERMINAL_FAILED)
        for task in failed:
            mine = [each for each in letters if each.task == task.id]
            assert mine and {(e.dead_epoch, e.reason) for e in mine} == {
                (task.dead_epoch, task.error)
            }
        assert {each.task for each in letters} <= {
            task.id for task in self.database.views.recent(job.id, 99, TaskState.TERMINAL_FAILED)
        }

    def close(self) -> None:
        for each in self.running:
            if each.poll() is None:
                each.kill()
            if each.stdout is not None and not each.stdout.closed:
                each.communicate()
        self.database.close()


def waits_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it does not come true"
        time.sleep(0.05)  # reason: the other side is a process that tells nobody


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[KillFleet]:
    address = str(tmp_path / "fleet")
    database = open_database(address)
    database.migrate()
    env = {**os.environ, "SCRATCH": str(tmp_path)}
    made = KillFleet(address, tmp_path, database, env, None)
    yield made
    made.close()


@pytest.fixture
def rude() -> Iterator[SqsServer]:
    made = SqsServer(RUDE)
    yield made
    made.close()
    assert made.errors() == []


@pytest.fixture
def servers(
    tmp_path: Path, postgres: Any, rude: SqsServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KillFleet]:
    """PostgreSQL, and an SQS as rude as the service may be."""
    from runner.aws.sqs import Sqs

    for name, value in rude.env.items():
        monkeypatch.setenv(name, value)
    address = postgres.database()
    database = open_database(address)
    database.migrate()
    queue = TaskQueue.make(Sqs(), "kills", int(LEASE), lambda what, url: None)
    env = {**os.environ, **rude.env, "SCRATCH": str(tmp_path)}
    made = KillFleet(address, tmp_path, database, env, queue)
    yield made
    made.close()


STEPS = [
    ("claimed", 1), ("held", 1), ("marker_read", 2), ("ran", 1), ("ran", 2), ("marker_written", 1),
    ("finished", 1), ("settled", 1), ("failed", 1), ("failed", 2), ("dead_lettered", 1),
]  # fmt: skip


@pytest.mark.share
@pytest.mark.parametrize(("step", "number"), STEPS)
def test_a_worker_killed_between_two_steps(embedded: KillFleet, step: str, number: int) -> None:
    """A task would be lost, done twice in effect, or counted with other figures than its own."""
    embedded.begin(*ITEMS)
    victim = embedded.worker(step, number)
    told = victim.communicate(timeout=PATIENCE)[0]
    assert victim.returncode == -signal.SIGKILL, told
    embedded.works_to_the_end()
    embedded.check()


@pytest.mark.share
@pytest.mark.parametrize(("step", "number"), STEPS)
def test_the_same_with_postgresql_and_a_rude_sqs(
    servers: KillFleet, rude: SqsServer, step: str, number: int
) -> None:
    """The same; and a message would be lost with its task, or a failure without a dead letter."""
    servers.begin(*ITEMS)
    victim = servers.worker(step, number)
    told = victim.communicate(timeout=PATIENCE)[0]
    assert victim.returncode == -signal.SIGKILL, told
    servers.works_to_the_end()
    servers.check()
    servers.check_letters(rude)


def test_a_killed_workers_tree_is_ended_before_the_task_runs_again(embedded: KillFleet) -> None:
    """Two trees of one task would write to the same place."""
    (embedded.folder / "hold").touch()
    embedded.begin("slow")
    victim = embedded.worker()
    pids = embedded.folder / "slow"
    waits_for(lambda: pids.exists() and pids.read_text().strip())
    first = int(pids.read_text())
    victim.kill()
    victim.communicate()
    assert Path(f"/proc/{first}").exists(), "it outlives its worker"
    again = embedded.worker()
    waits_for(lambda: len(pids.read_text().split()) == 2)
    assert not Path(f"/proc/{first}").exists()
    (embedded.folder / "hold").unlink()
    told = again.communicate(timeout=PATIENCE)[0]
    assert "Ended 1 processes that a killed worker had left behind" in told
    embedded.check()


def test_a_worker_that_thaws_ends_its_tree_and_stores_nothing(embedded: KillFleet) -> None:
    """It would go on beside the one that has its task now, and both would count."""
    (embedded.folder / "hold").touch()
    embedded.begin("slow")
    frozen = embedded.worker(machine="m1")
    pids = embedded.folder / "slow"
    waits_for(lambda: pids.exists() and pids.read_text().strip())
    first = int(pids.read_text())
    frozen.send_signal(signal.SIGSTOP)
    other = embedded.worker(machine="m2")
    waits_for(lambda: len(pids.read_text().split()) == 2)
    frozen.send_signal(signal.SIGCONT)
    waits_for(lambda: not Path(f"/proc/{first}").exists())
    (embedded.folder / "hold").unlink()
    assert "Lost message" in frozen.communicate(timeout=PATIENCE)[0]
    other.communicate(timeout=PATIENCE)
    embedded.check()


def test_a_stopped_worker_gives_its_task_back_uncounted(embedded: KillFleet) -> None:
    """Each scale-in would cost an attempt, and a lease of waiting."""
    (embedded.folder / "hold").touch()
    embedded.begin("slow")
    stopped = embedded.worker()
    pids = embedded.folder / "slow"
    waits_for(lambda: pids.exists() and pids.read_text().strip())
    stopped.send_signal(signal.SIGTERM)
    told = stopped.communicate(timeout=PATIENCE)[0]
    assert stopped.returncode == 0 and "Gave message back" in told
    task = embedded.database.tasks.named(embedded.database.job("kills").id, "W/slow")
    assert task is not None
    assert (task.state, task.attempts, task.lost) == (TaskState.PENDING, 0, 0)
    (embedded.folder / "hold").unlink()
    embedded.works_to_the_end()
    embedded.check()
    done = embedded.database.tasks.find(task.id)
    assert done is not None and done.run == 1, "it goes on in the same run"


def test_a_database_that_was_away_costs_nothing(servers: KillFleet, postgres: Any) -> None:
    """Each failover would end all tasks that run, or all workers."""
    (servers.folder / "hold").touch()
    servers.begin("slow", "good")
    worker = servers.worker(lease="60")
    pids = servers.folder / "slow"
    waits_for(lambda: pids.exists() and pids.read_text().strip())
    postgres.kill()
    (servers.folder / "hold").unlink()  # it ends while nobody can be told
    waits_for(lambda: list((servers.folder / "results").glob("W/slow/success.json")))
    postgres.start()
    told = worker.communicate(timeout=PATIENCE)[0]
    assert worker.returncode == 0 and "The database is away" in told, told
    assert len(pids.read_text().split()) == 1, "it ran once"
    servers.database.close()  # what was open to the former server
    servers.check()


def test_a_task_goes_on_while_sqs_is_away(servers: KillFleet, rude: SqsServer) -> None:
    """A task of hours would be ended because its message can't be kept for a while."""
    (servers.folder / "hold").touch()
    servers.begin("slow")
    worker = servers.worker()
    pids = servers.folder / "slow"
    waits_for(lambda: pids.exists() and pids.read_text().strip())
    rude.go_away()

    def lease() -> float:
        found = servers.database.tasks.named(servers.database.job("kills").id, "W/slow")
        return (found and found.lease_until) or 0.0

    before = lease()
    waits_for(lambda: lease() > before + 1.5 * float(LEASE))
    rude.go_away(False)
    (servers.folder / "hold").unlink()
    told = worker.communicate(timeout=PATIENCE)[0]
    assert worker.returncode == 0 and "could not be kept from others" in told, told
    assert len(pids.read_text().split()) == 1, "it ran once"
    servers.check()


def test_two_workers_share_the_tasks_of_one_job(embedded: KillFleet) -> None:
    """Workers would wait for each other, run a task twice, or end before all is done."""
    items = [f"n{number}" for number in range(12)]
    embedded.begin(*items, "once")
    workers = [embedded.worker(machine=f"m{number}") for number in (1, 2)]
    told = [each.communicate(timeout=PATIENCE)[0] for each in workers]
    assert [each.returncode for each in workers] == [0, 0], told
    counts = [text.count("Successfully processed") for text in told]
    assert sum(counts) == 13 and min(counts) > 0, told
    embedded.check()


def test_a_worker_that_cant_run_tasks_ends_and_fails_none(embedded: KillFleet) -> None:
    """A machine with a full disk would go through all tasks, and each would have failed."""
    embedded.begin("good", "once")
    work = embedded.folder / "m1/fleet-work/1"
    work.mkdir(parents=True)
    (work / "1-1").touch()  # the folder of the first task's state can't be made
    broken = embedded.worker()
    told = broken.communicate(timeout=PATIENCE)[0]
    assert broken.returncode == 1 and "this worker can't run W/good" in told, told
    assert embedded.states()["good"] is TaskState.RUNNING, "until its lease is over"
    embedded.works_to_the_end(machine="m2")
    embedded.check()


def test_beats_go_on_while_a_task_runs(embedded: KillFleet) -> None:
    """A worker with a long task would be taken for stuck, or for dead."""
    (embedded.folder / "hold").touch()
    embedded.begin("slow")
    worker = embedded.worker()
    pids = embedded.folder / "slow"
    waits_for(lambda: pids.exists() and pids.read_text().strip())

    def beat() -> float:
        return embedded.database.workers()[0].beat_at or 0.0

    before = beat()
    waits_for(lambda: beat() > before + float(LEASE) / 2)
    (embedded.folder / "hold").unlink()
    worker.communicate(timeout=PATIENCE)
    embedded.check()


def chaos(fleet: KillFleet, seed: int, faults: int) -> int:
    """Kill, freeze and stop three workers at any moment until all is done; how often that was."""
    dice, count = random.Random(seed), 0
    fleet.begin(*(f"n{number}" for number in range(2 * faults)), "terminal", "once")
    workers = {name: fleet.worker(machine=name) for name in ("m1", "m2", "m3")}
    frozen: dict[str, float] = {}
    until = time.monotonic() + PATIENCE + 4 * faults
    while set(fleet.states().values()) - {TaskState.DONE, TaskState.TERMINAL_FAILED}:
        assert time.monotonic() < until, fleet.states()
        time.sleep(dice.uniform(0.05, 0.5))  # reason: faults come at any moment
        for name, since in list(frozen.items()):
            if time.monotonic() > since + dice.uniform(0.5, 2) * float(LEASE):
                workers[name].send_signal(signal.SIGCONT)
                del frozen[name]
        name = dice.choice([*workers])
        if count < faults and name not in frozen and workers[name].poll() is None:
            count += 1
            fault = dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
            workers[name].send_signal(fault)
            if fault is signal.SIGSTOP:
                frozen[name] = time.monotonic()
        for name, worker in workers.items():
            if worker.poll() is not None:
                told = worker.communicate()[0]
                assert "Traceback" not in told, told
                workers[name] = fleet.worker(machine=name)
    for name in frozen:
        workers[name].send_signal(signal.SIGCONT)
    for worker in workers.values():
        worker.communicate(timeout=PATIENCE)
    fleet.works_to_the_end()
    fleet.check()
    return count


def test_kills_and_freezes_at_any_moment(
    embedded: KillFleet, seed: int, scaled: Callable[[int], int]
) -> None:
    """What no list of steps holds would lose a task, or do it twice in effect."""
    print(chaos(embedded, seed, scaled(160)), "faults")


def test_kills_and_freezes_with_postgresql_and_a_rude_sqs(
    servers: KillFleet, rude: SqsServer, seed: int, scaled: Callable[[int], int]
) -> None:
    """The same; messages are lost, doubled and late meanwhile."""
    print(chaos(servers, seed, scaled(160)), "faults")
    servers.check_letters(rude)
