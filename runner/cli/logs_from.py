"""``logs --from``: a job's output out of a result store, wherever it ran."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from typing import TYPE_CHECKING

from runner.cli.text import clean
from runner.errors import ExitCode, NotFoundError, UsageError
from runner.model.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from runner.results.layout import Stream

_CHUNK = 1 << 20
_JSON_PIECE = 256 * 1024
"""Bytes of a log in JSON at most, as from a daemon."""


def execute(arguments: argparse.Namespace) -> int:
    """Print it; a log that isn't whole is printed as far as it goes, and ends with 105."""
    if arguments.follow:
        raise UsageError("--from shows a log as it is stored now: not with --follow")
    if arguments.queue is not None:
        raise UsageError("--from says which queue: not with --queue")
    from runner.results.layout import Layout
    from runner.results.stored import read_queue
    from runner.results.stored_log import get_log
    from runner.results.stores import open_store

    store = open_store(arguments.source)
    try:
        queue = read_queue(store, Layout())
        job = queue.jobs.get(arguments.job)
        if job is None:
            hint = did_you_mean(arguments.job, queue.jobs)
            what = f"there is no job {quoted(arguments.job)} in '{queue.queue_id}'{hint}"
            raise NotFoundError(what)
        folder = _scratch()
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            stream: Stream = "stderr" if arguments.stderr else "stdout"
            fd = file.fileno()
            log = get_log(store, queue, job, arguments.attempt, stream, fd, folder)
            begin = max(0, log.size - arguments.tail) if arguments.tail else 0
            if arguments.json:
                data = os.pread(fd, _JSON_PIECE, begin)
                view = {"job": job.job_id, "attempt": log.attempt, "size": log.size}
                rest = {"running": log.running, "truncated": begin + len(data) < log.size}
                print(json.dumps({**view, **rest, "text": data.decode("utf-8", "replace")}))
            else:
                _copy_out(fd, begin)
    finally:
        store.close()
    if log.problem:
        print(f"runner logs: {clean(log.problem)}", file=sys.stderr)
        return ExitCode.RESULTS_INCOMPLETE
    return ExitCode.DONE


def _scratch() -> str:
    """A folder on a disk: /tmp is memory on many machines, and a log may be larger than that."""
    if "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK):
        return "/var/tmp"
    return tempfile.gettempdir()


def _copy_out(fd: int, at: int) -> None:
    while data := os.pread(fd, _CHUNK, at):
        sys.stdout.buffer.write(data)
        at += len(data)
    sys.stdout.buffer.flush()
