"""``logs --from``: a job's output out of a result store, wherever it ran."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from runner.cli.show.log_output import LogOutput
from runner.cli.show.text import clean
from runner.errors import ExitCode, NotFoundError, UsageError
from runner.model.elements import which_element
from runner.model.job_globs import is_glob, matching
from runner.model.messages import did_you_mean, quoted

if TYPE_CHECKING:
    from runner.results.download.log_range import Range
    from runner.results.download.stored_log import StoredLog
    from runner.results.layout import Stream
    from runner.results.store import ResultStore
    from runner.results.stored_queue import StoredJob, StoredQueue

_CHUNK = 1 << 20
_JSON_PIECE = 256 * 1024
"""Bytes of a log in JSON at most, as from a daemon."""


def execute(arguments: argparse.Namespace, streams: Sequence[str], since: float | None) -> int:
    """Print them; a log that isn't whole is printed as far as it goes, and ends with 105."""
    if arguments.follow:
        raise UsageError("--from shows a log as it is stored now: not with --follow")
    if arguments.queue is not None:
        raise UsageError("--from says which queue: not with --queue")
    from runner.results.download.log_range import Range
    from runner.results.layout import Layout
    from runner.results.stored_queue import read_queue
    from runner.results.stores import open_store

    store = open_store(arguments.source)
    part = Range(arguments.lines, arguments.bytes, since)
    try:
        queue = read_queue(store, Layout())
        if is_glob(arguments.job):
            return _show_each(store, queue, part, arguments, streams)
        job = queue.jobs.get(arguments.job)
        if (elements := queue.arrays.get(arguments.job)) is not None:
            raise UsageError(which_element(arguments.job, len(elements)))
        if job is None:
            hint = did_you_mean(arguments.job, queue.jobs)
            what = f"there is no job {quoted(arguments.job)} in '{queue.queue_id}'{hint}"
            raise NotFoundError(what)
        shown = _Stored(store, queue, job, part, arguments)
        return shown.print_json(streams) if arguments.json else shown.show(streams)
    finally:
        store.close()


def _show_each(
    store: ResultStore,
    queue: StoredQueue,
    part: Range,
    arguments: argparse.Namespace,
    streams: Sequence[str],
) -> int:
    """The logs of all jobs and elements that the pattern matches, one after the other; those of an
    array whose name it matches."""
    names = matching(arguments.job, [*queue.jobs, *queue.arrays])
    code, begun = int(ExitCode.DONE), 0
    for job in queue.named(names):
        if not job.attempt:
            continue
        shown = _Stored(store, queue, job, part, arguments)
        if not arguments.json:
            print(f"==> {job.job_id} <==", flush=True)
        try:
            code = (shown.print_json(streams) if arguments.json else shown.show(streams)) or code
        except NotFoundError as error:
            print(f"runner logs: {clean(str(error))}", file=sys.stderr)
            code = ExitCode.RESULTS_INCOMPLETE
        begun += 1
    if not begun:
        which = f"in '{queue.queue_id}' that has started"
        raise NotFoundError(f"no job {which} matches {quoted(arguments.job)}")
    return code


class _Stored:
    """The stored logs of one job."""

    def __init__(
        self,
        store: ResultStore,
        queue: StoredQueue,
        job: StoredJob,
        part: Range,
        arguments: argparse.Namespace,
    ) -> None:
        self._store = store
        self._queue = queue
        self._job = job
        self._part = part
        self._attempt: int | None = arguments.attempt
        self._problems: list[str] = []

    def show(self, streams: Sequence[str]) -> int:
        """One after the other."""
        out = LogOutput("runner logs", streams)

        def put(name: str, log: StoredLog, fd: int, begin: int) -> None:
            while data := os.pread(fd, _CHUNK, begin):
                out.put(name, log.attempt, data)
                begin += len(data)

        self._each(streams, put)
        for problem in self._problems:
            out.tell(problem)
        return ExitCode.RESULTS_INCOMPLETE if self._problems else ExitCode.DONE

    def print_json(self, streams: Sequence[str]) -> int:
        """A piece of each as data; what is said of none is the first one's."""
        pieces: dict[str, dict[str, Any]] = {}
        about: dict[str, Any] = {}

        def put(name: str, log: StoredLog, fd: int, begin: int) -> None:
            data = os.pread(fd, _JSON_PIECE, begin)
            about.update(attempt=log.attempt, running=log.running)
            pieces[name] = {
                "size": log.size,
                "truncated": begin + len(data) < log.size,
                "text": data.decode("utf-8", "replace"),
            }

        self._each(streams, put)
        first = next(iter(pieces.values()))
        status = self._job.status.value
        view = {"job": self._job.job_id, **about, "status": status, **first, **pieces}
        print(json.dumps(view))
        for problem in self._problems:
            print(f"runner logs: {clean(problem)}", file=sys.stderr)
        return ExitCode.RESULTS_INCOMPLETE if self._problems else ExitCode.DONE

    def _each(
        self, streams: Sequence[str], put: Callable[[str, StoredLog, int, int], None]
    ) -> None:
        """Fetch them one by one. Raises NotFoundError if all are missing.

        One alone is a problem, but for a log that is still in parts: one that is empty has none.
        """
        from runner.results.download.stored_log import get_log

        missing, folder, whole, found = None, _scratch(), False, False
        for name in streams:
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                fd = file.fileno()
                stream: Stream = "stderr" if name == "stderr" else "stdout"
                try:
                    log = get_log(
                        self._store, self._queue, self._job, self._attempt, stream, fd, folder
                    )
                except NotFoundError as error:
                    missing = error
                    continue
                found, whole, self._attempt = True, log.written is not None, log.attempt
                put(name, log, fd, self._part.begin(fd, log.written))
            if log.problem:
                self._problems.append(log.problem)
        if missing is not None and not found:
            raise missing
        if missing is not None and whole:
            self._problems.append(str(missing))


def _scratch() -> str:
    """A folder on a disk: /tmp is memory on many machines, and a log may be larger than that."""
    if "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK):
        return "/var/tmp"
    return tempfile.gettempdir()
