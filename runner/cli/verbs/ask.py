"""Answer one request of a remote program, over SSM, with one line of limited length.

The request is one of the control socket's, in base64. If no daemon answers it, the state folder is
read. Errors are part of the answer: the exit code is 0 all the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from runner.cli import options
from runner.cli.connect import note
from runner.cli.show.job_rows import shown_seconds
from runner.control import ssm_codec
from runner.core.run_mode import RESUME, parse_run_mode
from runner.errors import ExitCode, RunnerError, UsageError
from runner.model.messages import did_you_mean, quoted
from runner.service import request_fields as given
from runner.targets.here.connection import LocalConnection
from runner.targets.request import checked_queue
from runner.timestamps import rfc3339

LOOKING = ("ping", "queues", "status", "job", "logs", "wait")
"""What may be asked for with ``--look-only``."""

HOLD = 20.0
"""Seconds that a request is held at most: SSM's agent has five hands for all that is asked."""

ROWS = 400
"""Rows that are asked for at once, until the answer is full."""

TABLE = (
    "job_id", "status", "attempt", "exit_code", "signal", "results_uploaded", "logs_uploaded",
    "error_message", "reason", "result_error", "stale_results", "next_attempt_at", "pid",
)  # fmt: skip
"""What a table of jobs shows, besides times."""

Answer = dict[str, Any]
Fields = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("request", metavar="REQUEST", help="base64 of the request")
    parser.add_argument("--look-only", action="store_true", help="answer only what changes nothing")
    parser.add_argument(
        "--limit",
        type=int,
        default=ssm_codec.LIMIT,
        metavar="N",
        help=f"characters of the answer, at most (default: {ssm_codec.LIMIT})",
    )
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    if arguments.limit < ssm_codec.LEAST:
        raise UsageError(f"--limit is {ssm_codec.LEAST} at least")
    try:
        word = _answer(arguments)
    except RunnerError as error:
        word = ssm_codec.fit(_told(error), arguments.limit)
    print(word)
    return ExitCode.DONE


def _told(error: RunnerError) -> Answer:
    told = {"message": str(error), "exit_code": int(error.exit_code)}
    return {"ok": False, "error": told}


def _answer(arguments: argparse.Namespace) -> str:
    request = ssm_codec.unpack_request(arguments.request)
    name = request.pop("request")
    request.pop("v", None)
    _check(name, look_only=arguments.look_only)
    queue = checked_queue(request.pop("queue", None), "queue")
    there = LocalConnection(options.settings(arguments), queue, note)
    try:
        if name == "status" and request.get("limit") != 0:
            return _page(there, request, arguments.limit)
        ask = _ACTING.get(name) or _look(name)
        return ssm_codec.fit({"ok": True, **ask(there, request)}, arguments.limit)
    finally:
        there.close()


def _check(name: str, *, look_only: bool) -> None:
    if name in LOOKING:
        return
    if name not in _ACTING:
        known = [*LOOKING, *_ACTING]
        raise UsageError(f"unknown request {quoted(name)}{did_you_mean(name, known)}")
    if look_only:
        raise RunnerError(f"permission denied: '{name}' changes something, this may only look")


def _look(name: str) -> Callable[[LocalConnection, Fields], Answer]:
    def ask(there: LocalConnection, fields: Fields) -> Answer:
        for held in ("timeout", "follow"):
            if isinstance(fields.get(held), int | float):
                fields[held] = min(fields[held], HOLD)
        return {**there.query(name, **fields), "now": rfc3339(time.time())}

    return ask


def _act(name: str) -> Callable[[LocalConnection, Fields], Answer]:
    return lambda there, fields: there.act(name, **fields)


# -- a page of jobs ----------------------------------------------------------------------------


def _page(there: LocalConnection, fields: Fields, limit: int) -> str:
    """As many jobs as the answer takes, and where to go on (``after``)."""
    brief = given.flag(fields, "brief")
    wanted = given.number(fields, "limit", None)
    after, rows = given.number(fields, "after", 0), ROWS
    fields = {name: fields[name] for name in fields if name not in ("brief", "limit", "after")}
    head: Answer = {"ok": True, "now": rfc3339(time.time())}
    jobs: list[Answer] = []
    size = _Size(limit)
    while True:
        left = rows if wanted is None else min(rows, wanted - len(jobs))
        found = there.query("status", after=after, limit=left, **fields)
        more = [_brief(job) for job in found["jobs"]] if brief else found["jobs"]
        answer = {**head, **found, "jobs": jobs + more}
        over = "after" not in found or len(jobs) + len(more) == wanted
        if size.takes(answer, over=over):
            if over:
                return size.word or ssm_codec.pack(answer)
            jobs, after = answer["jobs"], found["after"]
        elif rows > 1:
            rows //= 2
        elif jobs:
            return ssm_codec.pack({**head, **found, "jobs": jobs, "after": after})
        else:
            # One job alone: its reason is a novel.
            return ssm_codec.fit(answer, limit)


class _Size:
    """Whether an answer that grows still fits. To pack it takes longer than to ask for more of it,
    so that is left out while it can't be full by far."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._of_a_row: float | None = None
        self.word: str | None = None

    def takes(self, answer: Answer, *, over: bool) -> bool:
        """Whether it fits; ``word`` is it, where it was packed."""
        rows = len(answer["jobs"])
        self.word = None
        if self._of_a_row and not over and rows * self._of_a_row < 0.6 * self._limit:
            return True
        word = ssm_codec.pack(answer)
        self._of_a_row = len(word) / max(1, rows)
        self.word = word
        return len(word) <= self._limit


def _brief(job: Answer) -> Answer:
    """Only what a table shows: a third of all."""
    row = {name: job[name] for name in TABLE if name in job}
    if "duration_seconds" in job:
        row["duration_seconds"] = shown_seconds(job["duration_seconds"])
    if job["status"] == "running":
        row["elapsed_seconds"] = shown_seconds(job.get("elapsed_seconds", 0.0))
        row["timeout"] = job["timeout"]
    return row


# -- what only a machine elsewhere is asked ----------------------------------------------------


def _keep(there: LocalConnection, fields: Fields) -> Answer:
    seconds = None if fields.get("seconds") is None else given.seconds(fields, "seconds", 0.0)
    return there.keep(seconds, release=given.flag(fields, "release"))


def _stop(there: LocalConnection, fields: Fields) -> Answer:
    return there.act("stop", detach=given.flag(fields, "detach") or None)


def _submit(there: LocalConnection, fields: Fields) -> Answer:
    """A document that lies in S3: it is fetched with this machine's own role."""
    from runner.targets.ec2.launch.submitted_document import fetch

    text = fetch(given.word(fields, "s3"), given.word(fields, "sha256"))
    return there.submit(text, parse_run_mode(fields.get("again", RESUME)).word)


_ON_QUEUES = ("cancel", "retry", "release", "pause", "unpause", "upload", "close")
_ACTING: dict[str, Callable[[LocalConnection, Fields], Answer]] = {
    **{name: _act(name) for name in _ON_QUEUES},
    "submit": _submit,
    "keep": _keep,
    "stop": _stop,
}
