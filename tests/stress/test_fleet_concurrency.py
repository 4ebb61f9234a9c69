"""Workers of one process, and a job's limit over all of them: each task has its own lease."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kill_fleet import PATIENCE, KillFleet, embedded_fleet, served_fleet, waits_for
from sqs_server import RUDE, SqsServer

from runner.fleet.records import TaskState

BESIDES = """
echo "+ $I_ID $$" >> "$SCRATCH/log"
echo "$TASK_ID" > out.txt
echo "{\\"total_images\\": 1, \\"token\\": \\"$TASK_ID\\"}" > "$RUNNER_TASK_METRICS"
case "$I_ID" in
  slow*) while [ -e "$SCRATCH/hold" ]; do sleep 0.1; done;;
  *) sleep 0.$((3 + RANDOM % 3));;
esac
echo "- $I_ID $$" >> "$SCRATCH/log"
"""


@pytest.fixture(params=["embedded", "servers"])
def fleet(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KillFleet]:
    """With the embedded database; with PostgreSQL and a rude SQS."""
    if request.param == "embedded":
        with embedded_fleet(tmp_path) as made:
            yield made
        return
    server = SqsServer(RUDE)
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    postgres = request.getfixturevalue("postgres")
    with served_fleet(tmp_path, postgres.database(), server.env) as made:
        yield made
    server.close()
    assert server.errors() == []


def lines(fleet: KillFleet) -> list[list[str]]:
    path = fleet.folder / "log"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def started(fleet: KillFleet) -> list[int]:
    return [int(pid) for sign, _, pid in lines(fleet) if sign == "+"]


def running_at_once(fleet: KillFleet) -> list[int]:
    """How many ran after each start."""
    now, found = 0, []
    for sign, *_ in lines(fleet):
        now += 1 if sign == "+" else -1
        found.append(now)
    return found


def test_one_process_runs_several_tasks_and_keeps_each(fleet: KillFleet) -> None:
    """The lease of one task would be extended for another, or of the newest task only."""
    (fleet.folder / "hold").touch()
    fleet.begin("slow1", "slow2", "slow3", command=BESIDES)
    worker = fleet.worker(concurrency=3, lease="20")
    waits_for(lambda: len(started(fleet)) == 3)
    job = fleet.database.job("kills").id

    def leases() -> list[float]:
        tasks = fleet.database.views.recent(job, 9, TaskState.RUNNING)
        return sorted(task.lease_until or 0.0 for task in tasks)

    before = leases()
    assert len(before) == 3
    waits_for(lambda: len(leases()) == 3 and min(leases()) > max(before) + 1)
    holders = {task.worker_id for task in fleet.database.views.recent(job, 9)}
    assert len(holders) == 3, "each has a row of its own"
    (fleet.folder / "hold").unlink()
    told = worker.communicate(timeout=PATIENCE)[0]
    assert worker.returncode == 0, told
    assert len(started(fleet)) == 3, "each ran once"
    fleet.check()


def test_a_killed_process_loses_both_its_tasks_and_their_trees(fleet: KillFleet) -> None:
    """Its second task would live on beside the one that runs it again."""
    (fleet.folder / "hold").touch()
    fleet.begin("slow1", "slow2", command=BESIDES)
    victim = fleet.worker(concurrency=2)
    waits_for(lambda: len(started(fleet)) == 2)
    first = started(fleet)
    victim.kill()
    victim.communicate()
    again = fleet.worker(concurrency=2)
    waits_for(lambda: len(started(fleet)) >= 4)
    assert not [pid for pid in first if Path(f"/proc/{pid}").exists()]
    (fleet.folder / "hold").unlink()
    told = again.communicate(timeout=PATIENCE)[0]
    assert told.count("Ended 1 processes that a killed worker had left behind") == 2, told
    fleet.check()


STEPS = [("claimed", 2), ("ran", 3), ("marker_written", 2), ("finished", 3), ("settled", 2)]


@pytest.mark.share
@pytest.mark.parametrize(("step", "number"), STEPS)
def test_a_process_of_four_workers_killed_between_two_steps(
    fleet: KillFleet, step: str, number: int
) -> None:
    """The tasks that its other workers were at would be lost, or counted twice."""
    fleet.begin(*(f"n{number}" for number in range(8)), command=BESIDES)
    victim = fleet.worker(step, number, concurrency=4)
    told = victim.communicate(timeout=PATIENCE)[0]
    assert victim.returncode == -signal.SIGKILL, told
    fleet.works_to_the_end(concurrency=4)
    fleet.check()


def test_a_stopped_process_gives_all_its_tasks_back(fleet: KillFleet) -> None:
    """A scale-in would wait for a lease of each task but one."""
    (fleet.folder / "hold").touch()
    fleet.begin("slow1", "slow2", command=BESIDES)
    stopped = fleet.worker(concurrency=2)
    waits_for(lambda: len(started(fleet)) == 2)
    stopped.send_signal(signal.SIGTERM)
    told = stopped.communicate(timeout=PATIENCE)[0]
    assert stopped.returncode == 0 and told.count("Gave message back") == 2, told
    assert set(fleet.states().values()) == {TaskState.PENDING}
    (fleet.folder / "hold").unlink()
    fleet.works_to_the_end(concurrency=2)
    fleet.check()


def test_no_more_run_than_may_over_all_workers(fleet: KillFleet) -> None:
    """Licences, or a service that a job calls, would be overdrawn by each machine that is added;
    or places stay empty although tasks are due."""
    fleet.begin(*(f"n{number}" for number in range(12)), command=BESIDES)
    job = fleet.database.job("kills").id
    fleet.database.update_job(job, max_running=2)
    workers = [fleet.worker(machine=f"m{n}", concurrency=2, lease="20") for n in (1, 2)]
    waits_for(lambda: len([1 for sign, *_ in lines(fleet) if sign == "-"]) >= 5)
    before = len(lines(fleet))
    fleet.database.update_job(job, max_running=3)
    told = [each.communicate(timeout=PATIENCE)[0] for each in workers]
    assert [each.returncode for each in workers] == [0, 0], told
    found = running_at_once(fleet)
    assert max(found[:before]) == 2, lines(fleet)
    assert max(found) <= 3
    fleet.check()


def memory(pid: int) -> float:
    """MiB that are this process's own."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(
        int(line.split()[1]) for line in text.splitlines() if line.startswith("Private")
    ) / 1024  # fmt: skip


def test_another_task_of_a_process_costs_little_memory(tmp_path: Path) -> None:
    """`--concurrency 8` would cost as much as eight workers, and nobody would use it."""
    found = {}
    for count in (1, 8):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "hold").touch()
        with embedded_fleet(folder) as fleet:
            fleet.begin(*(f"slow{n}" for n in range(count)), command=BESIDES)
            worker = fleet.worker(concurrency=count, lease="60")
            waits_for(lambda fleet=fleet, count=count: len(started(fleet)) == count)
            found[count] = memory(worker.pid)
            (folder / "hold").unlink()
            worker.communicate(timeout=PATIENCE)
            fleet.check()
    print({count: f"{mib:.0f} MiB" for count, mib in found.items()})
    assert found[1] < 110
    assert (found[8] - found[1]) / 7 < 8
