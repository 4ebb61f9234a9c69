"""What could come next on a command line, as the verbs' own parsers say.

argcomplete reads the line and talks to the shell. Owned here is what it can't know: which of our
parsers is meant, and where the ids of queues and jobs come from. A shell's script starts the
command that is completed with ``_ARGCOMPLETE`` in its environment.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TextIO

from argcomplete.completers import DirectoriesCompleter, FilesCompleter, SuppressCompleter
from argcomplete.finders import ExclusiveCompletionFinder

from runner.errors import RunnerError

LONGEST = 3.0
"""Seconds that a queue's worker has to tell ids: then the shell gets none, and nobody waits."""

MOST = 500
"""Ids: nobody reads more, and a queue may have 100,000 jobs."""


def complete(
    verbs: Mapping[str, str],
    parser_of: Callable[[str, str], argparse.ArgumentParser],
    only: str | None = None,
    *,
    out: TextIO | None = None,
    leave: Callable[[int], object] = os._exit,
) -> None:
    """Tell the shell, and end. ``only``: the verb that the command stands for, as runner-status."""
    if only is not None:
        parser = _finished(parser_of(only, f"runner {only}"))
    else:
        parser = _of_all(verbs, parser_of)
    # No flag twice, and flags only after a `-`.
    ExclusiveCompletionFinder()(
        parser,
        always_complete_options=False,
        default_completer=SuppressCompleter(),
        output_stream=out,
        exit_method=leave,
    )


def _of_all(
    verbs: Mapping[str, str], parser_of: Callable[[str, str], argparse.ArgumentParser]
) -> argparse.ArgumentParser:
    """A parser of every verb, of which only those on the line are made whole: that takes time."""
    words = os.environ["COMP_LINE"].split()
    parser = argparse.ArgumentParser(prog="runner", allow_abbrev=False)
    parser.add_argument("--version", "-V", action="store_true", help="print the version")
    known = parser.add_subparsers()
    for verb, what in verbs.items():
        whole = [_finished(parser_of(verb, f"runner {verb}"))] if verb in words else []
        known.add_parser(verb, help=what, parents=whole, add_help=not whole, allow_abbrev=False)
    return parser


def _finished(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """With what completes each value, and nothing required: the line isn't finished, either."""
    for action in parser._actions:
        action.required = False
        if action.nargs != 0 and action.choices is None:
            action.completer = _values(action)  # type: ignore[attr-defined]
    return parser


def _values(action: argparse.Action) -> Any:
    """By the names that the verbs give to what they take."""
    shape = str(action.metavar or "")
    if action.dest in ("job", "jobs"):
        return partial(_ids, "jobs")
    if action.dest == "queue":
        return partial(_ids, "queues")
    if "DIR" in shape:
        return DirectoriesCompleter()
    return FilesCompleter() if "FILE" in shape or ".json" in shape else None


def _ids(kind: str, parsed_args: argparse.Namespace, **_: object) -> Mapping[str, str]:
    """With their status, of whoever works on queues here, or of the state folder."""
    import signal

    from runner.cli import options
    from runner.cli.connect import note
    from runner.targets.here.connection import LocalConnection

    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    with suppress(RunnerError, OSError):
        there = LocalConnection(options.settings(parsed_args), options.queue(parsed_args), note)
        try:
            if kind == "queues":
                found = {
                    each.get("kept_as") or each["queue_id"]: each.get("status", "unreadable")
                    for each in there.query("queues")["queues"]
                }
            else:
                jobs = there.query("status", limit=MOST)["jobs"]
                found = {each["job_id"]: each["status"] for each in jobs}
        finally:
            there.close()
        return dict(list(found.items())[:MOST])
    return {}
