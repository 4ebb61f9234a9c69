"""Run a queue on this machine, in the foreground. The same command resumes it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli import batch_flags, on_batch, options
from runner.cli.show import simulation
from runner.errors import EndedElsewhereError, UsageError

if TYPE_CHECKING:
    from runner.model.document import QueueSpec


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_document(parser)
    parser.add_argument(
        "--results",
        metavar="DIR|s3://BUCKET/PREFIX",
        help="store logs and result files there, not where the document says",
    )
    part = parser.add_argument_group("a part of the queue")
    part.add_argument(
        "--only",
        metavar="JOB",
        action="append",
        help="start only this job, or the jobs that a pattern matches (align.*); may be repeated",
    )
    part.add_argument(
        "--until",
        metavar="JOB",
        action="append",
        help="the same, and all jobs that they depend on",
    )
    options.add_again(parser)
    options.add_json(parser)
    options.add_storing(parser)
    options.add_folders(parser)
    simulation.add_flags(parser)
    batch_flags.add_flags(parser)


def execute(arguments: argparse.Namespace) -> int:
    simulation.check_flags(arguments)
    settings = options.settings(arguments)
    document = options.read(arguments, options.document(arguments))
    from runner.service.runs_here import check_runs_here, notes

    batch_flags.check_flags(arguments)
    if arguments.target is None:
        check_runs_here(document)
    if arguments.simulate:
        for flag in ("only", "until"):
            if getattr(arguments, flag):
                raise UsageError(f"--{flag}: not with --simulate, which goes through all jobs")
        return simulation.execute(arguments, document, settings)
    again = options.again(arguments)
    part = _part(arguments, document)
    results = _results(arguments.results)
    from runner.cli.show.run_report import report
    from runner.cli.show.run_view import watcher_for
    from runner.service.environment import callers, given
    from runner.service.foreground import RunRequest, run
    from runner.service.queue_repository import QueueRepository
    from runner.service.session import RunContext

    place = RunContext(callers(given(os.environ)), _working_folder())
    batch = on_batch.batch_run(arguments, settings) if arguments.target is not None else None
    wanted = RunRequest(document, again, place, results, batch, part)
    repository = QueueRepository(settings.state_dir, settings.log_dir)
    watcher = watcher_for(json_output=arguments.json)
    try:
        for note in notes(document) if batch is None else batch.notes(document):
            watcher.say(note)
        ended = run(repository, settings, wanted, watcher)
    except EndedElsewhereError as error:
        if arguments.json:
            sys.stdout.buffer.write(error.state)
        raise
    finally:
        watcher.finish()
    if arguments.json:
        # As it is on the disk, byte by byte.
        sys.stdout.flush()
        sys.stdout.buffer.write(ended.projection.read_bytes())
    report(ended, settings, arguments)
    return int(ended.exit_code)


def _part(arguments: argparse.Namespace, document: QueueSpec) -> frozenset[str] | None:
    """The jobs that are to start; None: all. Raises UsageError for a job that isn't there."""
    if arguments.only is None and arguments.until is None:
        return None
    from runner.model.graph import Graph
    from runner.model.job_globs import chosen
    from runner.model.messages import did_you_mean, quoted

    names = [job.job_id for job in document.jobs]
    part: set[str] = set()
    for flag, words in (("only", arguments.only), ("until", arguments.until)):
        found, unknown = chosen(words or (), names)
        if unknown is not None:
            near = did_you_mean(unknown, names)
            raise UsageError(f"--{flag}: there is no job {quoted(unknown)} in the document{near}")
        part.update(found)
        if flag == "until":
            graph = Graph(document.jobs)
            before = graph.ancestors(graph.index[name] for name in found)
            part.update(names[at] for at in before if at < len(names))
    return frozenset(part)


def _results(where: str | None) -> str | None:
    """The store that was asked for. Raises UsageError for what can't be one."""
    if where is None:
        return None
    if not where:
        raise UsageError("--results is empty")
    from runner.results.stores import check_folder_word, is_s3, parse_s3

    if is_s3(where):
        parse_s3(where)
        return where.removesuffix("/")
    check_folder_word(where)
    return str(Path(where).absolute())


def _working_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError("the folder this was called from does not exist any more") from None
