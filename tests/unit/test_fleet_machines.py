"""The machines of a fleet: what they run, which are a job's, and how many it takes."""

from __future__ import annotations

import argparse
import json

import pytest

from runner.cli.verbs import launch
from runner.fleet.cli.machine_commands import LAUNCH_FLAGS, WORKER_FLAGS
from runner.fleet.cli.main import parser
from runner.fleet.machine_setup import MachineSetup
from runner.fleet.machines import (
    FleetMachine,
    chosen_to_drain,
    is_of,
    machine_document,
    machines_needed,
    machines_of,
    new_names,
)
from runner.fleet.records import Backlog, JobOptions, WorkerRecord, dump_options, parse_options
from runner.model.document import parse_document

SETUP = MachineSetup(
    bucket="results",
    lifetime=86_400.0,
    flags=("--instance-type", "g5.xlarge", "--spot"),
    worker=("--concurrency", "2"),
    env={"BEC_REGION": "us-east-1"},
    secret_env={"BEC_DATABASE": "ssm:/fleet/address"},
)


def machine(name: str, state: str = "running") -> FleetMachine:
    return FleetMachine(f"i-{name}", name, state, "g5.xlarge", 1.0, 0.5)


def worker(name: str, task: int | None, stopped: float | None = None) -> WorkerRecord:
    return WorkerRecord(1, name, 1, "h", 1, "v", 0.0, 0.0, stopped, task)


def test_a_machine_runs_a_document_that_is_valid() -> None:
    """Each launch would be refused, or its workers work for another job."""
    (name,) = new_names("ld_v1", 1, 0.0)
    document = parse_document(json.dumps(machine_document("ld_v1", name, SETUP)).encode())
    (job,) = document.jobs
    assert document.queue_id == name == "fleet-ld_v1-19700101T000000Z-1"
    assert job.command == f"runner-fleet worker --job-name ld_v1 --name {name} --concurrency 2"
    assert document.secrets(job) == {"BEC_DATABASE": "ssm:/fleet/address"}


def test_how_machines_were_launched_is_kept() -> None:
    """A fleet could not be scaled by anybody who didn't see its first command."""
    options = JobOptions(command="true", terminal_codes=(3,), machines=SETUP)
    assert parse_options(dump_options(options), "j") == options
    assert parse_options(dump_options(JobOptions()), "j") == JobOptions()


def test_machines_of_other_jobs_and_those_that_have_ended_are_none_of_it() -> None:
    """A machine of somebody else would be counted, or drained."""
    names = [*new_names("a", 10, 0.0), *new_names("a", 1, 60.0), *new_names("a-b", 1, 0.0)]
    listed = [
        *({"id": f"i-{name}", "queue": name, "state": "running"} for name in reversed(names)),
        {"id": "i-x", "queue": new_names("a", 1, 90.0)[0], "state": "terminated"},
        {"id": "i-y", "queue": "q", "state": "running", "price_per_hour": 1},
        {"id": "i-z", "queue": None, "state": "running"},
    ]
    assert [each.name for each in machines_of("a", listed)] == names[:11]


@pytest.mark.parametrize(
    ("left", "mean", "within", "concurrency", "needed"),
    [
        (0, 60, 600, 1, 0),
        (1, 6000, 600, 1, 1),
        (100, 60, 600, 1, 10),
        (101, 60, 600, 1, 11),
        (100, 61, 600, 1, 12),
        (100, 60, 600, 4, 3),
        (5, 0, 600, 1, 1),
    ],
)
def test_how_many_it_takes(
    left: int, mean: float, within: float, concurrency: int, needed: int
) -> None:
    """A backlog would be done hours late, or by machines that have nothing to do."""
    assert machines_needed(Backlog(left, 0, 0), mean, within, concurrency) == needed


def test_idle_machines_are_drained_first_then_the_newest() -> None:
    """A machine in the middle of its tasks would be taken, and an idle one kept."""
    machines = [machine("a"), machine("b"), machine("c")]
    workers = [worker("a-1", None), worker("b-1", 7), worker("c-1", 8), worker("a-2", 9, 1.0)]
    assert [each.name for each in chosen_to_drain(machines, workers, 2)] == ["a", "c"]
    assert chosen_to_drain(machines, workers, -1) == []


def test_a_name_is_that_of_a_worker_or_of_all_of_a_machine() -> None:
    """Draining the first machine would drain the tenth."""
    assert is_of("m-1-2", "m-1") and is_of("m-1", "m-1")
    assert not is_of("m-10-1", "m-1")


def flags_of(made: argparse.ArgumentParser) -> dict[str, bool]:
    """Flag → whether it takes no value."""
    return {flag: action.nargs == 0 for action in made._actions for flag in action.option_strings}


def test_flags_that_go_on_are_those_of_the_commands_they_go_to() -> None:
    """A flag would be accepted here and refused by each of a hundred launches."""
    launching = argparse.ArgumentParser()
    launch.configure_machine(launching)
    nouns = next(each for each in parser()._actions if each.dest == "==SUPPRESS==" or each.choices)
    assert nouns.choices is not None
    for flags, known in (
        (LAUNCH_FLAGS, flags_of(launching)),
        (WORKER_FLAGS, flags_of(nouns.choices["worker"])),  # type: ignore[call-overload]
    ):
        assert {flag: value is None for flag, value, _ in flags}.items() <= known.items()
