"""Show what a job of AWS Batch printed: stdout and stderr as they came, from CloudWatch Logs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from runner.cli.streams import has_reader
from runner.cli.verbs.batch import job_options
from runner.errors import ExitCode, NotFoundError, UsageError

if TYPE_CHECKING:
    from runner.aws.log_events import LogEvent, LogEvents
    from runner.batch.job_detail import ContainerDetail, JobDetail
    from runner.batch.log_address import LogAddress

JOB_EVERY = 5.0
"""Seconds between two looks at a job that is followed."""

LINES_EVERY = 2.0
"""Seconds between two looks for more of its lines."""

AFTER_END = 6.0
"""Seconds for which lines may still come once a job has ended: the log driver sends them late."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="a job's id or ARN, an array's child ID:3")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="wait for it to start, and go on until it ends"
    )
    parser.add_argument(
        "-n", "--lines", "--tail", type=int, metavar="N", help="only the last N lines"
    )
    parser.add_argument(
        "--attempt", type=int, metavar="N", help="an earlier attempt (default: the newest)"
    )
    parser.add_argument(
        "--container",
        metavar="NAME",
        help="of a job of several containers (default: the essential)",
    )
    parser.add_argument("--timestamps", action="store_true", help="each line with its time, in UTC")
    job_options.add_where(parser)


def execute(arguments: argparse.Namespace) -> int:
    if arguments.lines is not None and arguments.lines < 0:
        raise UsageError("--lines can't be negative")
    if arguments.attempt is not None and arguments.attempt < 1:
        raise UsageError("--attempt counts from 1")
    if arguments.attempt is not None and arguments.follow:
        raise UsageError("an earlier attempt has ended: --attempt is not for --follow")
    arguments.ids = [arguments.id]
    shown = _Shown(arguments)
    return shown.follow() if arguments.follow else shown.print_once()


class _Shown:
    """The log of one job, as far as it has been printed."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._jobs = job_options.named_jobs(arguments)
        self._events: LogEvents | None = None
        self._address: LogAddress | None = None
        self._token: str | None = None
        self._told_of_queue = False

    def print_once(self) -> int:
        job = self._look()
        address = self._address_of(job)
        if address is None:
            raise NotFoundError(_without_log(job))
        if self._arguments.lines is not None:
            source = self._source(address)
            self._print(source.last(address.group, address.stream, self._arguments.lines))
        else:
            self._address = address
            self._more()
        return ExitCode.DONE

    def follow(self) -> int:
        said = ""
        while True:
            job = self._look()
            self._go_on(job)
            if job.ended:
                return self._finish(job)
            if self._address is None and job.status != said:
                said = job.status
                job_options.say("logs", f"{job.id} is {job.status}: waiting for it to start")
            until = time.monotonic() + JOB_EVERY
            while time.monotonic() < until:
                time.sleep(LINES_EVERY)  # reason: CloudWatch tells nobody of new lines
                self._more()
                if not has_reader(sys.stdout):
                    return ExitCode.DONE

    def _finish(self, job: JobDetail) -> int:
        """The driver sends the last lines seconds after the end."""
        if self._address is None:
            raise NotFoundError(_without_log(job))
        until = time.monotonic() + AFTER_END - _since_end(job)
        while time.monotonic() < until:
            time.sleep(min(LINES_EVERY, AFTER_END))  # reason: the same
            self._more()
        job_options.say("logs", f"{job.id} has {job.status}" + _code_of(job))
        return ExitCode.DONE

    def _go_on(self, job: JobDetail) -> None:
        address = self._address_of(job)
        if address is None:
            return
        if address != self._address:
            if self._address is not None:
                job_options.say("logs", f"attempt {len(job.attempts) + 1} begins")
                self._more()
            first, self._address, self._token = self._address is None, address, None
            if first and self._arguments.lines is not None:
                self._print(self._pass_over(address, self._arguments.lines))
        self._more()

    def _pass_over(self, address: LogAddress, count: int) -> list[LogEvent]:
        """All there is now has been seen then; the last lines of it."""
        kept: deque[LogEvent] = deque(maxlen=count)
        source = self._source(address)
        for events, self._token in source.forwards(address.group, address.stream):
            kept.extend(events)
        return list(kept)

    def _more(self) -> None:
        if self._address is None:
            return
        address = self._address
        pages = self._source(address).forwards(address.group, address.stream, self._token)
        for events, self._token in pages:
            self._print(events)

    def _look(self) -> JobDetail:
        from runner.batch.job_detail import read_job

        found, missing = self._jobs.look()
        if missing:
            told = f"AWS Batch knows no job {missing[0]} in {self._jobs.region}"
            raise NotFoundError(f"{told}; ended ones it forgets after seven days")
        job = read_job(found[self._jobs.ids[0]])
        if not self._told_of_queue:
            self._told_of_queue = True
            job_options.say_of_queue("logs", job)
        if job.is_array:
            raise UsageError(f"{job.id} is an array: name one of its children, such as {job.id}:0")
        return job

    def _address_of(self, job: JobDetail) -> LogAddress | None:
        from runner.batch.log_address import log_address

        container = _container(job, self._arguments.attempt, self._arguments.container)
        return log_address(job, container, self._jobs.region) if container is not None else None

    def _source(self, address: LogAddress) -> LogEvents:
        from runner.aws.log_events import LogEvents

        if self._events is None:
            self._events = LogEvents(address.region)
        return self._events

    def _print(self, events: list[LogEvent]) -> None:
        for event in events:
            if self._arguments.json:
                print(json.dumps({"at_ms": event.at, "message": event.message}))
            elif self._arguments.timestamps:
                print(f"{_time(event.at)}  {event.message}")
            else:
                print(event.message)
        sys.stdout.flush()


def _container(job: JobDetail, attempt: int | None, name: str | None) -> ContainerDetail | None:
    """The one whose log is wanted; None: it is not known. Raises UsageError, NotFoundError."""
    from dataclasses import replace

    ends = job.ends
    known = {each.name: each for each in ends}
    if name is not None and name not in known:
        raise UsageError(f"{job.id} has no container {name}: it has {', '.join(known) or 'none'}")
    if attempt is not None and attempt <= len(job.attempts):
        of_attempt = {each.name: each for each in job.attempts[attempt - 1].containers}
        ends = tuple(
            replace(each, log_stream=of_attempt[each.name].log_stream)
            for each in ends
            if each.name in of_attempt
        )
    elif attempt is not None and not (attempt == len(job.attempts) + 1 and not job.ended):
        raise NotFoundError(f"{job.id} has no attempt {attempt}: it has had {len(job.attempts)}")
    chosen = [each for each in ends if name in (None, each.name)]
    chosen.sort(key=lambda each: (each.log_stream is None, not each.essential))
    return chosen[0] if chosen else None


def _without_log(job: JobDetail) -> str:
    if job.ended:
        return (
            f"{job.id} has no log in CloudWatch: it never ran, or writes elsewhere; "
            f"`runner batch explain {job.id}` says more"
        )
    return f"{job.id} has no log yet: it is {job.status}; --follow waits for it to start"


def _since_end(job: JobDetail) -> float:
    return max(0.0, time.time() - job.stopped) if job.stopped is not None else 0.0


def _code_of(job: JobDetail) -> str:
    codes = [each.exit_code for each in job.ends if each.essential and each.exit_code is not None]
    return f" with exit code {codes[0]}" if codes else ""


def _time(at: int) -> str:
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(at / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
