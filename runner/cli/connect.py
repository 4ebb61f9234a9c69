"""From a verb's flags to a connection: what was asked for, and where notes are printed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from runner.cli import options
from runner.cli.show.text import clean
from runner.targets import registry
from runner.targets.port import QueueConnection
from runner.targets.request import TargetRequest

T = TypeVar("T")


@contextmanager
def connection(arguments: argparse.Namespace, word: str | None = None) -> Iterator[QueueConnection]:
    """Connect as the flags say, without starting anything.

    ``word``: the verb's first argument, where that may be a queue or a machine.
    """
    there = registry.connect(request(arguments, word))
    try:
        yield there
    finally:
        there.close()


def ask(
    arguments: argparse.Namespace, word: str | None, question: Callable[[QueueConnection], T]
) -> T:
    """The answer of the connection that the flags and the word mean."""
    return registry.ask(request(arguments, word), question)


def request(arguments: argparse.Namespace, word: str | None) -> TargetRequest:
    """What the flags say. Raises UsageError for what can't be a queue's name."""
    given = ("on", "region", "bucket", "state_dir", "log_dir")
    return TargetRequest(
        settings=lambda: options.settings(arguments),
        say=note,
        word=word,
        queue=options.queue(arguments),
        target=getattr(arguments, "kind", None),
        **{name: getattr(arguments, name, None) for name in given},
    )


def note(line: str) -> None:
    """Print a line for people."""
    print(f"runner: {clean(line)}", file=sys.stderr)
