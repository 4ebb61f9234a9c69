"""A fleet whose workers are killed, frozen and stopped, and what must be true at its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqs_server import SqsServer

from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.records import JobOptions, TaskItem, TaskState
from runner.fleet.task_queue import TaskQueue, parse_message, send_unsent
from runner.fleet.task_store import store_address

PROGRAM = Path(__file__).parent / "fleet_worker.py"
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

    def begin(self, *items: str, command: str = COMMAND) -> None:
        options = JobOptions(
            command=command, terminal_codes=(3,), retry_delay=0.1,
            results=str(self.folder / "results"),
        )  # fmt: skip
        urls = (None, None) if self.queue is None else (self.queue.url, self.queue.dlq_url)
        job = self.database.create_job("kills", "{}", options, *urls)
        self.database.tasks.enqueue(job.id, [TaskItem.volume("W", each) for each in items])
        if self.queue is not None:
            send_unsent(self.database, self.queue, job)

    def worker(
        self,
        step: str = "-",
        number: int = 1,
        machine: str = "m1",
        lease: str = LEASE,
        concurrency: int = 1,
    ) -> Any:
        words = [self.address, "kills", str(self.folder / machine), lease, step, str(number)]
        words.append(str(concurrency))
        started = subprocess.Popen(
            [sys.executable, str(PROGRAM), *words], env=self.env, cwd=self.folder, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.running.append(started)
        return started

    def works_to_the_end(self, machine: str = "m1", concurrency: int = 1) -> str:
        worker = self.worker(machine=machine, concurrency=concurrency)
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


@contextmanager
def embedded_fleet(folder: Path) -> Iterator[KillFleet]:
    """With the embedded database."""
    address = str(folder / "fleet")
    database = open_database(address)
    database.migrate()
    env = {**os.environ, "SCRATCH": str(folder)}
    made = KillFleet(address, folder, database, env, None)
    yield made
    made.close()


@contextmanager
def served_fleet(folder: Path, address: str, env: dict[str, str]) -> Iterator[KillFleet]:
    """With a database of its own and the SQS that these variables, which are set, name."""
    from runner.aws.sqs import Sqs

    database = open_database(address)
    database.migrate()
    queue = TaskQueue.make(Sqs(), "kills", int(LEASE), lambda what, url: None)
    own = {**os.environ, **env, "SCRATCH": str(folder)}
    made = KillFleet(address, folder, database, own, queue)
    yield made
    made.close()
