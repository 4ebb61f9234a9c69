"""``run --simulate``: what would happen, without running a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.show.columns import Column, Cut, table
from runner.cli.show.text import counted
from runner.errors import ExitCode, RunnerError, UsageError
from runner.model.messages import did_you_mean, quoted
from runner.model.units import in_units

if TYPE_CHECKING:
    from runner.core.arrays import ArrayState
    from runner.core.states import JobState
    from runner.model.document import QueueSpec
    from runner.model.settings import Settings
    from runner.service.simulation import Simulated

COLUMNS = (
    Column("JOB ID", Cut.MIDDLE, soft=24, least=12),
    Column("STATUS"),
    Column("ATTEMPT", leave_out=2),
    Column("STARTS"),
    Column("ENDS", leave_out=1),
    Column("REASON", Cut.WRAP, soft=30, least=16, leave_out=3),
)

MEANINGLESS = ("results", "fresh", "reuse", "retry_failed", "update", "rerun_changed", "kms_key",
               "storage_class")  # fmt: skip
"""What concerns a run that leaves something behind."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of ``run`` that are about it."""
    group = parser.add_argument_group("instead of running")
    group.add_argument(
        "--simulate",
        action="store_true",
        help="show what would happen: the order, retries, timeouts, and when it would end; each"
        " job takes as long as in the run that is known here, else its whole timeout",
    )
    group.add_argument(
        "--fail",
        metavar="JOB",
        action="append",
        default=[],
        help="with --simulate: let each attempt of this job, or of this element of an array"
        " (JOB[17]), fail; may be repeated",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=int,
        help="with --simulate: let chance decide how much of its time each attempt takes, and that"
        " one in ten fails; the same for the same N",
    )
    group.add_argument(
        "--durations",
        metavar="FILE",
        help="with --simulate: a queue-state.json that tells how long jobs take",
    )


def check_flags(arguments: argparse.Namespace) -> None:
    """Raise UsageError for what doesn't go together."""
    if arguments.simulate:
        for name in MEANINGLESS:
            if getattr(arguments, name, None):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"--simulate runs and stores nothing: {flag} has no meaning there")
        return
    given = {"--fail": arguments.fail, "--durations": arguments.durations}
    for flag, value in {**given, "--seed": arguments.seed is not None}.items():
        if value:
            raise UsageError(f"{flag} has a meaning only with --simulate")


def execute(arguments: argparse.Namespace, document: QueueSpec, settings: Settings) -> int:
    """Show it. The exit code tells only that it could be shown."""
    from runner.service.simulation import Assumptions, simulate

    _check_jobs(arguments.fail, document)
    known = _known(arguments, document, settings)
    found = simulate(document, Assumptions(known, frozenset(arguments.fail), arguments.seed))
    if arguments.json:
        sys.stdout.buffer.write(found.state)
        return ExitCode.DONE
    for line in _lines(found, document, _width()):
        print(line)
    unknown = sum(job.job_id not in known for job in document.jobs)
    if unknown:
        told = "each is taken to need its whole timeout" if arguments.seed is None else (
            "chance decides how much of its timeout each attempt takes"
        )  # fmt: skip
        print(f"runner run: no run is known of {counted(unknown, 'job')}: {told}", file=sys.stderr)
    return ExitCode.DONE


def _width() -> int | None:
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _check_jobs(names: list[str], document: QueueSpec) -> None:
    ids = {job.job_id for job in document.jobs}
    units = {unit.job_id for unit in in_units(document).jobs} if names else ids
    for name in names:
        if name not in ids and name not in units:
            hint = did_you_mean(name, ids)
            raise UsageError(f"--fail: the document has no job {quoted(name)}{hint}")


def _known(
    arguments: argparse.Namespace, document: QueueSpec, settings: Settings
) -> dict[str, float]:
    """How long jobs took, as far as a former run tells."""
    from runner.core.state_file import parse_state
    from runner.service.queue_repository import QueueRepository
    from runner.service.simulation import durations_of

    if arguments.durations is not None:
        path = Path(arguments.durations)
        try:
            return durations_of(parse_state(path.read_bytes(), str(path)))
        except OSError as error:
            raise UsageError(f"--durations: {path}: {error.strerror}") from None
        except RunnerError as error:
            raise UsageError(f"--durations: {error}") from None
    repository = QueueRepository(settings.state_dir, settings.log_dir)
    if document.queue_id is None or not repository.exists(document.queue_id):
        return {}
    path = repository.queue_paths(document.queue_id).projection
    try:
        return durations_of(parse_state(path.read_bytes(), str(path)))
    except (OSError, RunnerError) as error:
        print(f"runner run: the run that is here tells no durations: {error}", file=sys.stderr)
        return {}


def _lines(found: Simulated, document: QueueSpec, width: int | None) -> list[str]:
    jobs = sorted(_jobs(found, document), key=lambda job: job.started or float("inf"))
    from runner.cli.show.job_rows import duration

    rows = [_row(job, found.began) for job in jobs]
    status, seconds = found.queue.status.value, duration(found.seconds)
    why = f" ({found.queue.reason})" if found.queue.reason else ""
    told = f"it would end as {status}{why} after {seconds}; nothing was run"
    return [*table(COLUMNS, rows, width), told]


@dataclass(frozen=True, slots=True)
class _Job:
    """What became of a job, or of an array as a whole."""

    job_id: str
    status: str
    attempt: int
    started: float | None
    ended: float | None
    why: str


def _jobs(found: Simulated, document: QueueSpec) -> Iterator[_Job]:
    rows = found.arrays.rows if found.arrays else range(len(found.jobs))
    for job, number in zip(document.jobs, rows, strict=True):
        array = found.arrays.at(number) if found.arrays else None
        if array is None:
            yield _of_unit(job.job_id, found.jobs[number])
        else:
            yield _of_array(array, found.jobs)


def _of_unit(job_id: str, state: JobState) -> _Job:
    why = state.reason or state.error_message or ""
    ended = state.completed_at if state.first_start is not None else None
    return _Job(job_id, state.status.value, state.attempt, state.first_start, ended, why)


def _of_array(array: ArrayState, jobs: list[JobState]) -> _Job:
    from runner.cli.show.job_rows import why
    from runner.store.array_view import array_view

    told = why(array_view(array, jobs))
    ends = array.started_at, array.completed_at
    return _Job(array.job_id, array.status.value, array.attempt, *ends, told)


def _row(job: _Job, began: float) -> tuple[str, ...]:
    from runner.cli.show.job_rows import duration

    def after(wall: float | None) -> str:
        return "-" if wall is None else duration(max(0.0, wall - began))

    return (
        job.job_id,
        job.status,
        str(job.attempt),
        after(job.started),
        after(job.ended),
        job.why,
    )
