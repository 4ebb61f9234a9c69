"""``logs --events``: what has happened to a job or a queue, here or out of its result store."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from runner.cli.connect import connection
from runner.cli.show.run_view import in_words
from runner.cli.show.text import clean
from runner.errors import ExitCode, UsageError

_ABOUT = ("wall", "job", "event")


def execute(arguments: argparse.Namespace, since: float | None) -> int:
    """Print them, oldest first; a part that can't be read is told, and ends with 105."""
    if arguments.follow:
        raise UsageError("--events shows what has happened until now: not with --follow")
    for flag in ("stdout", "stderr", "attempt", "bytes"):
        if getattr(arguments, flag):
            raise UsageError(f"--events is no output of a job: not with --{flag}")
    problems: tuple[str, ...] = ()
    if arguments.source is not None:
        events, problems = _stored(arguments)
    else:
        events = _here(arguments)
    if since is not None:
        events = [event for event in events if event["wall"] >= since]
    if arguments.lines is not None:
        events = events[-arguments.lines :] if arguments.lines else []
    if arguments.json:
        print(json.dumps({"events": events, "problems": problems}))
    else:
        _print(events)
    for problem in problems:
        print(f"runner logs: {clean(problem)}", file=sys.stderr)
    return ExitCode.RESULTS_INCOMPLETE if problems else ExitCode.DONE


def _here(arguments: argparse.Namespace) -> list[Mapping[str, Any]]:
    if arguments.job is None:
        raise UsageError("--events without a job needs --from: give the job, or where to look")
    with connection(arguments) as there:
        story: list[Mapping[str, Any]] = there.query("job", job=arguments.job)["story"]
        return story


def _stored(arguments: argparse.Namespace) -> tuple[list[Mapping[str, Any]], tuple[str, ...]]:
    from runner.results.layout import Layout
    from runner.results.stored_events import read_events
    from runner.results.stored_queue import read_queue
    from runner.results.stores import open_store

    if arguments.queue is not None:
        raise UsageError("--from says which queue: not with --queue")
    store = open_store(arguments.source)
    try:
        found = read_events(store, Layout(), read_queue(store, Layout()).run_id)
    finally:
        store.close()
    told = (
        {**event.detail, "wall": event.wall, "job": event.job, "event": event.event}
        for event in found.events
        if arguments.job in (None, event.job)
    )
    return [*told], found.problems


def _print(events: Iterable[Mapping[str, Any]]) -> None:
    from runner.timestamps import rfc3339

    for event in events:
        detail = {name: value for name, value in event.items() if name not in _ABOUT}
        print(rfc3339(event["wall"]), in_words(event["job"] or "queue", event["event"], detail))
