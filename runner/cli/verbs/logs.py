"""Show a job's output: stdout, then stderr. Into a pipe, each goes to its own descriptor."""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from typing import Any

from runner.cli import options
from runner.cli.connect import connection
from runner.cli.show.log_output import LogOutput
from runner.cli.show.wait_loop import AGAIN
from runner.cli.streams import has_reader
from runner.cli.verbs.status import fetch
from runner.errors import ExitCode, NotFoundError, UsageError
from runner.model.elements import element_name
from runner.model.job_globs import is_glob, matching
from runner.model.messages import quoted
from runner.targets.port import HOLD_SECONDS, QueueConnection

EVERY = 0.25
"""Seconds between two looks at files that are followed: nothing tells when they grow."""

STREAMS = ("stdout", "stderr")

Answer = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "job", metavar="JOB", nargs="?", help="the job; or a pattern of several (align.*, x[*])"
    )
    options.add_queue(parser)
    parser.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="wait for the job to start, and follow its attempts until it has ended; of several "
        "jobs one after the other",
    )
    parser.add_argument(
        "--events",
        action="store_true",
        help="show what happened to the job, not its output; with --from, JOB may be left out",
    )
    parser.add_argument("--stdout", action="store_true", help="only standard output")
    parser.add_argument("--stderr", action="store_true", help="only standard error")
    parser.add_argument(
        "--attempt", type=int, metavar="N", help="an earlier attempt (default: the newest)"
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "-n", "--lines", "--tail", type=int, metavar="N", help="only the last N lines of each"
    )
    part.add_argument("--bytes", type=int, metavar="N", help="only the last N bytes of each")
    parser.add_argument(
        "--since",
        metavar="T",
        help="only what is newer than 10m or 2026-01-22T14:05:30Z, by the times that lines "
        "begin with; a log without such times is shown if it was written to since",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="s3://BUCKET/PREFIX|FOLDER",
        help="the log as it is stored there",
    )
    options.add_json(parser)
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    _check(arguments)
    since = options.moment(arguments.since, "--since")
    if arguments.events:
        from runner.cli.show.events import execute as show_events

        return show_events(arguments, since)
    if arguments.source is not None:
        from runner.cli.show.stored_logs import execute as show_stored

        if arguments.on is not None:
            raise UsageError("give --from, or --on: not both")
        return show_stored(arguments, streams(arguments), since)
    with connection(arguments) as there:
        if is_glob(arguments.job):
            return _show_each(there, arguments, since)
        logs = _Logs(there, arguments, since)
        if arguments.json:
            return logs.print_json()
        return logs.follow() if arguments.follow else logs.show()


def _show_each(there: QueueConnection, arguments: argparse.Namespace, since: float | None) -> int:
    """The logs of all jobs that the pattern matches, one after the other; of an array those of its
    elements. Those that have not started are passed over, or waited for by ``--follow``."""
    rows = fetch(there, None)
    some = [row for row in rows["jobs"] if arguments.follow or row.get("attempt")]
    begun, code = 0, int(ExitCode.DONE)
    for name in _meant(arguments.job, some):
        logs = _Logs(there, argparse.Namespace(**{**vars(arguments), "job": name}), since)
        logs.heading = None if arguments.json else f"==> {name} <=="
        try:
            ended = (
                logs.print_json()
                if arguments.json
                else logs.follow()
                if arguments.follow
                else logs.show()
            )
        except NotFoundError:
            continue
        begun, code = begun + 1, code or ended
        if not has_reader(sys.stdout):
            break
    if not begun:
        which = f"in '{rows['queue']['queue_id']}' that has started"
        raise NotFoundError(f"no job {which} matches {quoted(arguments.job)}")
    return code


def _meant(pattern: str, rows: list[Answer]) -> list[str]:
    """The jobs, and elements of arrays, that a pattern matches, in order."""
    found: list[str] = []
    for row in rows:
        job_id, array = row["job_id"], row.get("array")
        if array is None:
            found += matching(pattern, [job_id])
            continue
        elements = [element_name(job_id, index) for index in range(array["size"])]
        found += elements if matching(pattern, [job_id]) else matching(pattern, elements)
    return found


def _check(arguments: argparse.Namespace) -> None:
    if arguments.job is None and not arguments.events:
        raise UsageError("give the job whose output is wanted")
    if arguments.attempt is not None and arguments.attempt < 1:
        raise UsageError("--attempt counts from 1")
    if arguments.lines is not None and arguments.lines < 0:
        raise UsageError("--lines can't be negative")
    if arguments.bytes is not None and arguments.bytes < 1:
        raise UsageError("--bytes needs at least one byte")
    if arguments.json and arguments.follow:
        raise UsageError("--json shows a log as it is now: not with --follow")


def streams(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Those that were asked for: both, if none was."""
    chosen = tuple(name for name in STREAMS if getattr(arguments, name))
    return chosen or STREAMS


class _Logs:
    """The logs of one job, as they are asked for."""

    def __init__(
        self, there: QueueConnection, arguments: argparse.Namespace, since: float | None
    ) -> None:
        self._there = there
        self._job = arguments.job
        self._asked = arguments.attempt
        self._streams = streams(arguments)
        self._limited = arguments.bytes is not None or arguments.lines is not None
        self._out = LogOutput("runner logs", self._streams)
        first = -arguments.bytes if arguments.bytes else 0
        if not arguments.bytes and there.traits.log_tail is not None:
            first = -there.traits.log_tail
        self._first = first
        self.heading: str | None = None
        self._part = {"lines": arguments.lines, "since": since}

    def print_json(self) -> int:
        """A piece of each as data; ``text`` is the first one's."""
        answer = self._look(self._asked, dict.fromkeys(self._streams, self._first), **self._part)
        pieces = {name: _for_json(answer["streams"][name]) for name in self._streams}
        about = {key: answer[key] for key in ("job", "attempt", "running", "status")}
        print(json.dumps({**about, **pieces[self._streams[0]], **pieces}))
        return ExitCode.DONE

    def show(self) -> int:
        """One after the other, as far as they go now."""
        attempt, first = self._asked, True
        for name in self._streams:
            answer = self._look(attempt, {name: self._first}, **self._part)
            # The attempt that was the newest at first: a retry must not mix into it.
            attempt, piece = answer["attempt"], answer["streams"][name]
            if first:
                self._begin()
                first = False
            self._tell_what_is_left_out(name, piece)
            end = piece["size"]
            while self._put(name, attempt, piece) < end:
                piece = self._look(attempt, {name: piece["offset"]})["streams"][name]
        self._out.tell_if_nothing(f"attempt {attempt} of {self._job} has written nothing")
        return ExitCode.DONE

    def follow(self) -> int:
        """Both as they come, attempt after attempt, until the job has ended."""
        self._there.wait_through_boot(self._out.tell)
        return _Following(self).run()

    def _look(self, attempt: int | None, offsets: dict[str, int], **more: Any) -> Answer:
        there = self._there
        return there.query("logs", job=self._job, attempt=attempt, offsets=offsets, **more)

    def _put(self, name: str, attempt: int, piece: Answer) -> int:
        self._out.put(name, attempt, base64.b64decode(piece["data"]))
        return int(piece["offset"])

    def _begin(self) -> None:
        if self.heading is not None:
            print(self.heading, flush=True)
        for line in self._there.diagnosis[:1]:
            self._out.tell(f"{line}: this is from S3")

    def _tell_what_is_left_out(self, name: str, piece: Answer) -> None:
        """What is left out of a long log elsewhere, where the user gave no limit."""
        left_out = piece["offset"] - len(base64.b64decode(piece["data"]))
        if left_out and not self._limited and self._there.traits.log_tail is not None:
            more = "--bytes N shows more, `runner results --logs-only` fetches all"
            self._out.tell(f"the first {left_out:,} bytes of {name} are left out: {more}")


class _Following:
    """How far a log has been followed."""

    def __init__(self, logs: _Logs) -> None:
        self._logs = logs
        self._there = logs._there
        self._out = logs._out
        self._attempt: int | None = logs._asked
        self._offsets = dict.fromkeys(logs._streams, logs._first)
        self._part: Answer = logs._part
        self._begun = False
        self._seen = False
        self._missing: float | None = None
        self._said_waiting = False

    def run(self) -> int:
        """The exit code at its end. Raises NotFoundError for a job that never started."""
        held: float | None = None
        while True:
            answer = self._logs._look(
                self._attempt, self._offsets, follow=held, to_come=True, **self._part
            )
            # Only what comes now is waited for: how it stands is to be seen at once.
            held = HOLD_SECONDS if self._there.holds_requests else None
            more = self._take(answer)
            if not has_reader(sys.stdout):
                return ExitCode.DONE
            if more:
                continue
            if not answer["running"]:
                if (code := self._judge(answer)) is not None:
                    return code
                continue
            self._seen, self._missing = True, None
            if not self._there.holds_requests:
                time.sleep(EVERY)  # reason: following files; they tell nobody when they grow
                self._there.reconnect()

    def _take(self, answer: Answer) -> bool:
        """Write what has come; whether there is more already."""
        attempt = answer["attempt"]
        if not 0 < attempt <= answer["newest"]:
            return False
        if not self._begun:
            self._logs._begin()
            for name, piece in answer["streams"].items():
                self._logs._tell_what_is_left_out(name, piece)
        self._begun = True
        # The attempt that is followed: the next one must not mix into it.
        self._attempt, self._part = attempt, {}
        for name, piece in answer["streams"].items():
            # A store may be behind what its machine has told: that would be told twice.
            if piece["offset"] >= self._offsets[name]:
                self._offsets[name] = self._logs._put(name, attempt, piece)
        return any(piece["offset"] < piece["size"] for piece in answer["streams"].values())

    def _judge(self, answer: Answer) -> int | None:
        """Nothing more comes of this attempt: the exit code, or None where another may follow."""
        attempt, newest = answer["attempt"], answer["newest"]
        if answer["attended"]:
            self._seen, self._missing = True, None
        if attempt and (self._logs._asked == attempt <= newest):
            return ExitCode.DONE
        if 0 < attempt <= newest and (newest > attempt or not answer["ended"]):
            self._go_on(answer)
            return None
        if answer["ended"]:
            if not self._begun:
                raise NotFoundError(_not_started(answer))
            return ExitCode.DONE
        return self._wait(answer)

    def _go_on(self, answer: Answer) -> None:
        attempt = answer["attempt"]
        self._attempt = attempt + 1
        self._offsets = dict.fromkeys(self._offsets, 0)
        if answer["attended"] or answer["newest"] > attempt:
            known = answer.get("why") and answer["newest"] == attempt
            why = f" ({answer['why']})" if known else ""
            self._out.note(f"attempt {attempt} has ended{why}: going on with the next")

    def _wait(self, answer: Answer) -> int | None:
        """For an attempt that is to come, as long as a process works on the queue."""
        # By its number: when it is over soon the newest would be another.
        self._attempt = answer["attempt"] or 1
        if answer["attended"]:
            if not self._begun and not self._said_waiting:
                self._said_waiting = True
                self._out.note(f"{answer['job']} is {answer['status']}: waiting for it to start")
        elif not self._seen:
            return self._give_up(answer)
        elif self._missing is None:
            self._missing = time.monotonic()
            seconds = self._there.traits.returns_within
            self._out.note(f"no process works on the queue any more; waiting {seconds:.0f}s")
        elif time.monotonic() - self._missing > self._there.traits.returns_within:
            return self._give_up(answer)
        if not self._there.holds_requests or not answer["attended"]:
            time.sleep(AGAIN)  # reason: for another process to start, which tells nobody
            self._there.reconnect()
        return None

    def _give_up(self, answer: Answer) -> int:
        if not self._begun:
            raise NotFoundError(_not_started(answer))
        self._out.note(f"{answer['job']} is {answer['status']}, and no process works on its queue")
        return ExitCode.NOT_FINISHED


def _not_started(answer: Answer) -> str:
    why = f" ({answer['why']})" if answer.get("why") else ""
    if answer["attempt"] > 1:
        newest = answer["newest"]
        return f"job '{answer['job']}' has no attempt {answer['attempt']}: the newest is {newest}"
    return f"job '{answer['job']}' has not started: it is {answer['status']}{why}"


def _for_json(piece: Answer) -> Answer:
    return {
        "size": piece["size"],
        "truncated": piece["offset"] < piece["size"],
        "text": base64.b64decode(piece["data"]).decode("utf-8", "replace"),
    }
