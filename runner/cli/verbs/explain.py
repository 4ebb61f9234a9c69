"""Say why jobs have not begun, have failed or were skipped, and what to do next.

Without jobs it goes through all that neither run nor have gone well."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.cli import options
from runner.cli.connect import connection
from runner.cli.show.text import clean, format_counts, headline
from runner.core.explain import PlannedJob, Reason, Situation, of_job, of_queue
from runner.errors import ExitCode, NotFoundError, RunnerError
from runner.model.elements import split_name
from runner.model.job_globs import chosen
from runner.model.messages import did_you_mean, quoted
from runner.targets.port import QueueConnection

OF_CHANGES = ("changed", "unchanged")
"""Reasons of jobs that have gone well: told of those that were named."""

SHOWN = 50
"""Jobs that are shown to people where none were named."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "jobs", metavar="JOB", nargs="*", help="these jobs, by id or pattern (align.*)"
    )
    options.add_queue(parser)
    options.add_json(parser)
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    with connection(arguments) as there:
        now, place = _situation(there, arguments)
        rows = _rows(there, now, arguments.jobs)
        found = {row["job_id"]: of_job(now, row) for row in rows}
        for name, reason in _elsewhere(there, now, place, rows).items():
            found[name].append(reason)
    about = of_queue(now)
    if not arguments.jobs:
        found = {
            name: [r for r in told if r.code not in OF_CHANGES] for name, told in found.items()
        }
        rows = [row for row in rows if found[row["job_id"]]]
    if arguments.json:
        print(json.dumps(_view(now, about, rows, found)))
        return ExitCode.DONE
    for line in _lines(now, about, rows, found, named=bool(arguments.jobs)):
        print(clean(line))
    return ExitCode.DONE


def _situation(
    there: QueueConnection, arguments: argparse.Namespace
) -> tuple[Situation, Mapping[str, Any]]:
    from runner.cli.verbs.status import fetch

    answer = fetch(there, None)
    pages: list[list[str]] = []
    parents: dict[str, str] = {}
    plan: Mapping[str, Any] = {"after": 0, "most": None}
    try:
        while (after := plan.get("after")) is not None:
            plan = there.query("plan", after=after, limit=2_000)
            pages += plan["plan"]
            parents |= plan.get("parents", {})
    except RunnerError as error:
        # A role that only looks may not read documents: their jobs' env is in them.
        print(f"runner explain: what waits for what can't be told: {error}", file=sys.stderr)
    jobs = {
        name: PlannedJob(name, tuple(before), run_if, parents.get(name))
        for name, run_if, *before in pages
    }
    word = f"--on {arguments.on}" if arguments.on else f"--queue {answer['queue']['queue_id']}"
    return Situation(answer["queue"], answer["jobs"], jobs, plan["most"], word), plan


def _rows(there: QueueConnection, now: Situation, names: Sequence[str]) -> Sequence[Any]:
    """The jobs that were asked about. Raises NotFoundError."""
    if not names:
        return now.jobs
    ids = [row["job_id"] for row in now.jobs]
    elements = [name for name in names if name not in now.by_id and split_name(name)[1] is not None]
    plain, unknown = chosen([name for name in names if name not in elements], ids)
    if unknown is not None:
        hint = did_you_mean(unknown, ids)
        raise NotFoundError(f"there is no job {quoted(unknown)} in '{now.queue['queue_id']}'{hint}")
    wanted = set(plain)
    found = [row for row in now.jobs if row["job_id"] in wanted]
    return [*found, *(there.query("job", job=name)["job"] for name in elements)]


def _elsewhere(
    there: QueueConnection, now: Situation, plan: Mapping[str, Any], rows: Sequence[Any]
) -> dict[str, Reason]:
    """What AWS Batch says of the jobs that were submitted to it and don't run yet."""
    names = [row["job_id"] for row in rows if row["status"] == "running"]
    if not plan.get("batch") or not names:
        return {}
    from runner.aws.batch import Batch
    from runner.batch.queue_reasons import reasons

    place, told = plan["batch"], set[str]()
    queues = sorted({place["job_queue"], *plan["job_queues"]})
    batch = Batch(place["region"])
    try:
        found = reasons(batch, queues, now.queue["run_id"], names, place["region"], told.add)
    except RunnerError as error:
        told.add(str(error))
        found = {}
    for why in sorted(told):
        print(f"runner explain: not looked at on AWS Batch: {clean(why)}", file=sys.stderr)
    return {
        name: Reason(
            f"batch.{why.code}",
            f"on AWS Batch (job {job_id}): {why.cause}"
            + "".join(f"; AWS: {said}" for said in why.evidence),
            why.next_steps,
        )
        for name, (job_id, why) in found.items()
    }


def _view(
    now: Situation, about: Sequence[Reason], rows: Sequence[Any], found: Mapping[str, list[Reason]]
) -> dict[str, Any]:
    jobs = [
        {
            "job_id": row["job_id"],
            "status": row["status"],
            "reasons": [reason.view() for reason in found[row["job_id"]]],
        }
        for row in rows
    ]
    kept = {name: now.queue[name] for name in ("queue_id", "status")}
    return {**kept, "reasons": [reason.view() for reason in about], "jobs": jobs}


def _lines(
    now: Situation,
    about: Sequence[Reason],
    rows: Sequence[Any],
    found: Mapping[str, list[Reason]],
    *,
    named: bool,
) -> Iterator[str]:
    yield f"{headline(dict(now.queue))} ({format_counts(now.queue['counts'])})"
    yield from _told(about, "  ")
    most = len(rows) if named else SHOWN
    for row in rows[:most]:
        reasons = found[row["job_id"]]
        yield f"{row['job_id']} is {row['status']}" + ("" if reasons else _well(row))
        yield from _told(reasons, "  ")
    if len(rows) > most:
        yield f"… and {len(rows) - most:,} more: name jobs, or --json"
    if not rows and not about:
        yield "nothing waits, and nothing has failed"


def _well(row: Mapping[str, Any]) -> str:
    if row["status"] == "pending":
        return ": it is about to start"
    return "" if row["status"] != "running" else f" since {row.get('started_at', 'just now')}"


def _told(reasons: Sequence[Reason], indent: str) -> Iterator[str]:
    for reason in reasons:
        until = f" (until {reason.until})" if reason.until else ""
        yield f"{indent}{reason.text}{until} [{reason.code}]"
        for step in reason.steps:
            yield f"{indent}→ {step}"
