"""What could come next on a command line, as the verbs' own parsers say.

Owns nothing but the reading of a line that is not finished. Which flags there are, whether they
take values and which, is asked of argparse's actions, so that it can't differ from what is taken.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module

from runner.errors import RunnerError

ALIASES = {"runner-launch": "launch", "runner-status": "status"}
LONGEST = 3.0
"""Seconds that somebody has to tell ids: then the shell gets none, and the user goes on typing."""

MOST = 500
"""Ids: nobody reads more, and a queue may have 100,000 jobs."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One word, and what it means; ``:files`` and ``:folders`` leave it to the shell."""

    value: str
    what: str = ""


FILES, FOLDERS = Completion(":files"), Completion(":folders")


@dataclass(slots=True)
class _Line:
    """The words of a verb that are finished, as its parser understands them."""

    flags: dict[str, str | None] = field(default_factory=dict)
    """Those that were given, by ``dest``, with the last value."""
    positionals: int = 0
    open: argparse.Action | None = None
    """The flag whose value is the next word."""


def candidates(words: Sequence[str], *, splits: bool = False) -> list[Completion]:
    """What the last of ``words`` could become; the first is the command.

    ``splits``: the shell has made three words of ``--flag=value``, as bash does, and gets only the
    last of them.
    """
    if splits:
        words = _joined(words)
    command, *given = words if len(words) > 1 else [*words, ""]
    if (alias := ALIASES.get(command.rpartition("/")[2])) is not None:
        given = [alias, *given]
    *done, last = given
    verbs = _verbs()
    if not done:
        found: Iterable[Completion] = (
            *(Completion(verb, what) for verb, what in verbs.items()),
            *(Completion(flag) for flag in ("--help", "--version") if last.startswith("-")),
        )
    elif done[0] in verbs:
        found = _of_verb(done[0], done[1:], last)
    else:
        found = ()
    whole = [each for each in found if each in (FILES, FOLDERS) or each.value.startswith(last)]
    if splits and last.startswith("--") and "=" in last:
        cut = len(last.partition("=")[0]) + 1
        whole = [each if each.value[0] == ":" else Completion(each.value[cut:]) for each in whole]
    return whole


def _verbs() -> dict[str, str]:
    from runner.cli.main import VERBS

    return VERBS


def _joined(words: Sequence[str]) -> list[str]:
    """``--flag``, ``=``, ``value`` as one word again."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1].startswith("--") and (word == "=" or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _of_verb(verb: str, done: Sequence[str], last: str) -> Iterator[Completion]:
    from runner.cli.main import Parser

    parser = Parser(prog=f"runner {verb}")
    import_module(f"runner.cli.verbs.{verb.replace('-', '_')}").configure(parser)
    actions = parser._option_string_actions
    line = _read(parser, done)
    name, equals, _ = last.partition("=")
    if line.open is not None:
        yield from _values(line.open, line)
    elif equals and name in actions:
        for found in _values(actions[name], line):
            whole = found in (FILES, FOLDERS)
            yield found if whole else Completion(f"{name}={found.value}", found.what)
    elif last.startswith("-"):
        yield from _flags(parser, line)
    else:
        yield from _positional(parser, line)


def _read(parser: argparse.ArgumentParser, done: Sequence[str]) -> _Line:
    line, actions, only_words = _Line(), parser._option_string_actions, False
    for word in done:
        if line.open is not None:
            line.flags[line.open.dest] = word
            line.open = None
            continue
        name, equals, value = word.partition("=")
        action = None if only_words else actions.get(name)
        if word == "--":
            only_words = True
        elif action is None:
            line.positionals += only_words or not word.startswith("-")
        else:
            line.flags[action.dest] = value if equals else None
            line.open = action if action.nargs != 0 and not equals else None
    return line


def _flags(parser: argparse.ArgumentParser, line: _Line) -> Iterator[Completion]:
    for action in parser._actions:
        again = action.dest not in line.flags or isinstance(action, argparse._AppendAction)
        if again and action.option_strings and action.help != argparse.SUPPRESS:
            yield Completion(action.option_strings[-1], _sentence(action))


def _positional(parser: argparse.ArgumentParser, line: _Line) -> Iterator[Completion]:
    takers = [action for action in parser._actions if not action.option_strings]
    if line.positionals < len(takers):
        yield from _values(takers[line.positionals], line)
    elif takers and takers[-1].nargs in ("*", "+"):
        yield from _values(takers[-1], line)


def _sentence(action: argparse.Action) -> str:
    return " ".join((action.help or "").replace("%%", "%").split())


def _values(action: argparse.Action, line: _Line) -> Iterator[Completion]:
    """By the names that the verbs give to what they take."""
    shape = str(action.metavar or "")
    if action.choices is not None:
        yield from (Completion(str(choice)) for choice in action.choices)
    elif action.dest in ("job", "jobs"):
        yield from _ids("jobs", line)
    elif action.dest == "queue":
        yield from _ids("queues", line)
    elif "DIR" in shape:
        yield FOLDERS
    elif "FILE" in shape or ".json" in shape:
        yield FILES


def _ids(kind: str, line: _Line) -> Iterator[Completion]:
    """Of whoever works on queues here, or of the state folder."""
    import signal

    from runner.cli import options
    from runner.cli.connect import note
    from runner.targets.here.connection import LocalConnection

    given = argparse.Namespace(**line.flags)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    with suppress(RunnerError, OSError):
        there = LocalConnection(options.settings(given), options.queue(given), note)
        try:
            if kind == "queues":
                queues = there.query("queues")["queues"]
                found = [
                    (each.get("kept_as") or each["queue_id"], each.get("status", "unreadable"))
                    for each in queues
                ]
            else:
                told = there.query("status", limit=MOST)
                found = [(each["job_id"], each["status"]) for each in told["jobs"]]
        finally:
            there.close()
        yield from (Completion(name, status) for name, status in found[:MOST])
