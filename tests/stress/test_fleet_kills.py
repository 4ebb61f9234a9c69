"""Workers that are killed, frozen and stopped: each task is done once in effect, none is lost."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_fleet import ITEMS, LEASE, PATIENCE, KillFleet, embedded_fleet, served_fleet, waits_for
from sqs_server import RUDE, SqsServer

from runner.fleet.records import TaskState


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[KillFleet]:
    with embedded_fleet(tmp_path) as made:
        yield made


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
    for name, value in rude.env.items():
        monkeypatch.setenv(name, value)
    with served_fleet(tmp_path, postgres.database(), rude.env) as made:
        yield made


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
