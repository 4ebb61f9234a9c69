"""``run --simulate``: what would happen, without running a command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.show.columns import Column, Cut, table
from runner.cli.show.text import counted
from runner.errors import ExitCode, RunnerError, UsageError
from runner.model.messages import did_you_mean, quoted

if TYPE_CHECKING:
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

MEANINGLESS = ("results", "fresh", "retry_failed", "update", "rerun_changed", "kms_key",
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
        help="with --simulate: let each attempt of this job fail; may be repeated",
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
    ids = [job.job_id for job in document.jobs]
    for name in names:
        if name not in ids:
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
    jobs = sorted(
        zip(document.jobs, found.jobs, strict=True),
        key=lambda each: each[1].first_start or float("inf"),
    )
    from runner.cli.show.job_rows import duration

    rows = [(job.job_id, *_row(state, found.began)) for job, state in jobs]
    status, seconds = found.queue.status.value, duration(found.seconds)
    why = f" ({found.queue.reason})" if found.queue.reason else ""
    told = f"it would end as {status}{why} after {seconds}; nothing was run"
    return [*table(COLUMNS, rows, width), told]


def _row(state: JobState, began: float) -> tuple[str, ...]:
    from runner.cli.show.job_rows import duration

    def after(wall: float | None) -> str:
        return "-" if wall is None else duration(max(0.0, wall - began))

    why = state.reason or state.error_message or ""
    return (
        state.status.value,
        str(state.attempt),
        after(state.first_start),
        after(state.completed_at if state.first_start is not None else None),
        why,
    )
