"""Whether a fleet can work from here: its database, the stores of its results, its task queues.

Owns what each finding means for the fleet; changes nothing, but for the probe of a store.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from runner.aws.sqs import Sqs
from runner.errors import RunnerError
from runner.fleet.database import FleetDatabase
from runner.fleet.queue_permissions import BEYOND, NEEDED, PermissionState, try_permissions
from runner.fleet.records import FleetJob
from runner.fleet.task_store import TaskStore, store_address
from runner.model.settings import Settings
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok, warn

DATABASE = "database"


def examine_database(database: FleetDatabase) -> list[Finding]:
    """Whether it answers, and its schema is the one that is needed."""
    began = time.monotonic()
    try:
        database.check_schema()
        count = len(database.jobs())
    except RunnerError as error:
        todo = "the message names the command, or the server that must be reached"
        return [fail(DATABASE, str(error), todo)]
    took = (time.monotonic() - began) * 1000
    jobs = "1 job" if count == 1 else f"{count} jobs"
    return [ok(DATABASE, f"{database.describe()} answers ({took:.0f} ms): {jobs}")]


def examine_job(
    job: FleetJob, database: FleetDatabase, settings: Settings, region: str | None
) -> list[Finding]:
    """Its store and its queues."""
    found = _store(job, database, settings)
    if job.queue_url is None or job.dlq_url is None:
        return [*found, ok(f"{job.name}: queue", "none: the database hands out its tasks")]
    sqs = Sqs(region)
    found += _permissions(f"{job.name}: queue", sqs, job.queue_url)
    found += _permissions(f"{job.name}: dead letters", sqs, job.dlq_url)
    return found


def _store(job: FleetJob, database: FleetDatabase, settings: Settings) -> list[Finding]:
    check = f"{job.name}: results"
    where = store_address(job, database.folder)
    if where is None:
        return [fail(check, "it has no store", f"runner-fleet jobs update {job.name} --results …")]
    try:
        store = TaskStore(where, settings)
        try:
            notes = store.prepare()
        finally:
            store.close()
    except RunnerError as error:
        return [fail(check, str(error), "workers of this machine could not store results")]
    return [ok(check, f"{where} can be written to"), *(warn(check, note) for note in notes)]


def _permissions(check: str, sqs: Sqs, url: str) -> Sequence[Finding]:
    tried = {each.action: each for each in try_permissions(sqs, url)}
    unknown = [each for each in tried.values() if each.state is PermissionState.UNKNOWN]
    if len(unknown) == len(tried):
        return [fail(check, unknown[0].says, "a region, credentials or a network is missing")]
    denied = [name for name in NEEDED if tried[name].state is PermissionState.DENIED]
    found = []
    if denied:
        told = ", ".join(f"sqs:{name}" for name in denied)
        found.append(fail(check, f"denied: {told}", f"allow them for {url}"))
    else:
        found.append(ok(check, f"all {len(NEEDED)} permissions that workers need are there"))
    found += [warn(check, f"sqs:{each.action}: {each.says}") for each in unknown]
    for name, purpose in BEYOND.items():
        if (state := tried[name].state) is not PermissionState.UNKNOWN:
            found.append(ok(check, f"sqs:{name} is {state.value}: it {purpose}"))
    return found
