"""What ``run`` says when it is over: which jobs failed and what they said last, where the results
are, and what to do next."""

from __future__ import annotations

import argparse
import base64
import shlex
import sys
import time
from collections.abc import Iterator
from typing import Any

from runner.cli.connect import note
from runner.cli.show.columns import shortened
from runner.cli.show.run_view import stamp
from runner.cli.show.text import clean, counted
from runner.cli.streams import discard
from runner.core.states import QUEUE_ENDED, QueueStatus
from runner.errors import ExitCode, RunnerError
from runner.model.settings import Settings
from runner.service.foreground import RunOutcome
from runner.targets.here.connection import LocalConnection

JOBS = 3
"""Failed jobs that are shown; of more it is said how many."""

LINES = 5
"""Last lines of a failed job's output."""

_LONGEST = 300
"""Characters of a line."""

_TAIL = 16 * 1024


def report(ended: RunOutcome, settings: Settings, arguments: argparse.Namespace) -> None:
    """Say it on stderr, for people; where the results are is the last of the plain lines."""
    try:
        if ended.started and ended.results and not sys.stdout.isatty() and not arguments.json:
            print(f"{stamp(time.time())} results are in {clean(ended.results)}", flush=True)
        for line in _lines(ended, settings, arguments):
            print(f"runner run: {line}", file=sys.stderr)
    except OSError:
        # The disk is full that they go to: the exit code is the queue's all the same.
        discard(sys.stdout)
        discard(sys.stderr)


def _lines(ended: RunOutcome, settings: Settings, arguments: argparse.Namespace) -> Iterator[str]:
    folders = _folders(arguments)
    if ended.status is QueueStatus.FAILED:
        try:
            yield from _failures(ended.queue_id, settings, folders)
        except RunnerError as error:
            yield f"why jobs failed can't be shown: {clean(str(error))}"
    if ended.started and ended.results is not None and sys.stdout.isatty():
        yield f"results are in {clean(ended.results)}"
    if ended.exit_code in (ExitCode.INTERRUPTED, ExitCode.CTRL_C):
        yield f"{ended.queue_id} is interrupted; to resume it, give the same command"
    if ended.before in QUEUE_ENDED and not ended.started:
        yield f"{ended.queue_id} had ended before ({ended.before.value}): nothing was started"
        retry = "" if ended.status is QueueStatus.COMPLETED else "--retry-failed runs what failed; "
        yield f"{retry}--fresh runs all of it again (the former run is kept)"
        yield "for a run each time (from cron, say) leave queue_id out, or give each its own"


def _folders(arguments: argparse.Namespace) -> list[str]:
    """The flags with which another command finds the same queue."""
    given = []
    for name in ("state_dir", "log_dir", "config"):
        if value := getattr(arguments, name, None):
            given += [f"--{name.replace('_', '-')}", value]
    return given


def _failures(queue_id: str, settings: Settings, folders: list[str]) -> Iterator[str]:
    there = LocalConnection(settings, queue_id, note)
    try:
        answer = there.query("status", status=["failed"], limit=JOBS)
        for job in answer["jobs"]:
            yield from _failure(there, job, folders)
    finally:
        there.close()
    if (rest := answer["queue"]["counts"]["failed"] - len(answer["jobs"])) > 0:
        more = shlex.join(["runner", "status", "--failed", *folders])
        yield f"{counted(rest, 'more job')} failed: {clean(more)}"


def _failure(there: LocalConnection, job: dict[str, Any], folders: list[str]) -> Iterator[str]:
    why = clean(job.get("error_message") or job.get("reason") or "failed")
    name = job["job_id"]
    if not job["attempt"]:
        yield f"job '{name}' failed: {why}"
        return
    stream, lines = _last_words(there, name)
    yield f"job '{name}' failed: {why}" + (f"; the end of its {stream}:" if lines else "")
    for line in lines:
        yield "    " + shortened(clean(line.rstrip("\r")), _LONGEST)
    more = shlex.join(["runner", "logs", name, *folders])
    yield f"all of it: {clean(more)}" if lines else f"it has written nothing ({clean(more)})"


def _last_words(there: LocalConnection, job_id: str) -> tuple[str, list[str]]:
    """The last lines of what it has told: of stderr, or, where that is empty, of stdout."""
    for stream in ("stderr", "stdout"):
        try:
            answer = there.query("logs", job=job_id, offsets={stream: -_TAIL}, lines=LINES)
        except RunnerError:
            continue
        text = base64.b64decode(answer["streams"][stream]["data"]).decode("utf-8", "replace")
        if lines := text.rstrip("\n").split("\n") if text.strip() else []:
            return stream, lines[-LINES:]
    return "stderr", []
