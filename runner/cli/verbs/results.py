"""Fetch a queue's results and logs into a folder. The same command continues an interrupted one."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli import options
from runner.cli.connect import ask
from runner.cli.show.text import clean, counted
from runner.errors import ExitCode, NotFoundError, UsageError
from runner.model.job_globs import is_glob, matching
from runner.model.messages import did_you_mean, quoted

if TYPE_CHECKING:
    from runner.results.download.output_folder import OutputFolder
    from runner.results.download.queue_download import DownloadReport
    from runner.results.store import ResultStore
    from runner.results.stored_queue import StoredJob, StoredQueue


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "where",
        nargs="?",
        metavar="QUEUE_ID|INSTANCE|s3://BUCKET/PREFIX|FOLDER",
        help="a queue of this machine (default: the current one) or on EC2, an instance on EC2, "
        "or where results are stored",
    )
    options.add_queue(parser)
    parser.add_argument(
        "--output",
        metavar="DIR",
        default="results",
        help="fetch into this folder (default: results)",
    )
    parser.add_argument(
        "--job",
        metavar="ID",
        action="append",
        default=[],
        help="only this job, this element of an array (ID[17]), or the jobs that a pattern matches "
        "(align.*); may be repeated",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--logs-only", action="store_true", help="only logs")
    which.add_argument("--no-logs", action="store_true", help="only result files")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="fetch nothing; compare the folder with what is stored",
    )
    options.add_json(parser)
    options.add_where(parser.add_argument_group("on EC2"))
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    if not arguments.output:
        raise UsageError("--output is empty")
    store, queue = _find(arguments)
    try:
        return _fetch(arguments, store, queue)
    finally:
        store.close()


def _fetch(arguments: argparse.Namespace, store: ResultStore, queue: StoredQueue) -> int:
    from runner.cli.show.progress import progress_bar
    from runner.results.download.download_plan import LogPart
    from runner.results.download.output_folder import OutputFolder
    from runner.results.download.queue_download import fetch, put_queue

    jobs = _chosen(queue, arguments.job)
    output = OutputFolder(Path(arguments.output), store.local_folder)
    part = (
        LogPart.LOGS
        if arguments.logs_only
        else LogPart.RESULTS
        if arguments.no_logs
        else LogPart.ALL
    )
    _warn_of_another_run(output, queue)
    try:
        with progress_bar() as progress:
            verify = arguments.verify
            report = fetch(store, queue, output, jobs, part, verify=verify, progress=progress)
            if not verify:
                put_queue(store, queue, output, report)
    except KeyboardInterrupt:
        output.clean_up()
        # Threads may be in the middle of a large file, and an ordinary end would wait for them.
        os._exit(ExitCode.CTRL_C)
    _tell(arguments, report, queue, output)
    return ExitCode.RESULTS_INCOMPLETE if report.problems else ExitCode.DONE


def _tell(
    arguments: argparse.Namespace, report: DownloadReport, queue: StoredQueue, output: OutputFolder
) -> None:
    for line in [*report.notes, *report.problems]:
        _say(line)
    if arguments.json:
        view = {
            "output": os.fsdecode(output.root),
            "queue_id": queue.queue_id,
            "run_id": queue.run_id,
            "files": report.files,
            "bytes": report.bytes,
            "fetched": report.fetched,
            "present": report.present,
            "problems": report.problems,
            "notes": report.notes,
        }
        print(json.dumps(view))
        return
    rest = "as they were stored" if arguments.verify else f"({report.present:,} already there)"
    files, size = counted(report.files, "file"), counted(report.bytes, "byte")
    print(f"{files}, {size} in {clean(arguments.output)} {rest}")


def _say(line: str) -> None:
    print(f"runner results: {clean(line)}", file=sys.stderr)


def _warn_of_another_run(output: OutputFolder, queue: StoredQueue) -> None:
    from runner.results.layout import Layout
    from runner.results.runs import run_named

    try:
        state = output.read(Layout.state_key)
    except OSError:
        return
    other = run_named(state) if state is not None else None
    if other not in (None, queue.run_id):
        _say(f"{output.told} has files of another run too ({other}): they stay")


def _chosen(queue: StoredQueue, names: list[str]) -> list[StoredJob]:
    known = [*queue.jobs, *queue.arrays]
    meant: list[str] = []
    for name in names:
        found = matching(name, known)
        if not found and is_glob(name):
            raise UsageError(f"--job: no job in '{queue.queue_id}' matches {quoted(name)}")
        if not found:
            hint = did_you_mean(name, known)
            raise UsageError(f"--job: there is no job {quoted(name)} in '{queue.queue_id}'{hint}")
        meant += found
    return queue.named(meant or queue.jobs)


# -- where the results are ---------------------------------------------------------------------


def _find(arguments: argparse.Namespace) -> tuple[ResultStore, StoredQueue]:
    """The store, and the queue in it. Raises NotFoundError with what can be done."""
    from runner.results.layout import Layout
    from runner.results.stored_queue import read_queue
    from runner.results.stores import open_store

    options.settings(arguments)
    where, run_id = arguments.where, None
    if where is not None and arguments.queue is not None:
        raise UsageError("give a queue, or where its results are: not both")
    if where is None or not _is_store(where):
        for flag in ("region", "bucket"):
            if where is None and getattr(arguments, flag) is not None:
                raise UsageError(f"--{flag} is about a queue on EC2: say which")
        found = ask(arguments, where, lambda there: there.results())
        where, run_id = found.store, found.run_id
    store = open_store(where)
    try:
        queue = read_queue(store, Layout())
        if run_id in (None, queue.run_id):
            return store, queue
    except BaseException:
        store.close()
        raise
    store.close()
    return _set_aside(where, str(run_id), queue)


def _is_store(where: str) -> bool:
    from runner.results.layout import Layout
    from runner.results.stores import is_s3

    return is_s3(where) or "/" in where or os.path.isfile(os.path.join(where, Layout.state_key))


def _set_aside(where: str, run_id: str, other: StoredQueue) -> tuple[ResultStore, StoredQueue]:
    """What a later run in the same place has set aside."""
    from runner.results.layout import Layout
    from runner.results.runs import FORMER
    from runner.results.stored_queue import read_queue
    from runner.results.stores import open_store

    store = open_store(f"{where}/{FORMER}/{run_id}")
    try:
        return store, read_queue(store, Layout())
    except NotFoundError:
        store.close()
        raise NotFoundError(
            f"{where} has the results of another run now: queue '{other.queue_id}', {other.run_id}"
        ) from None
    except BaseException:
        store.close()
        raise
