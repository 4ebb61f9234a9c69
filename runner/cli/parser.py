"""The parser of a verb's command line. Wrong usage ends with the exit code that is ours for it."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from runner.cli.show.text import clean
from runner.errors import ExitCode

_UNKNOWN_FLAGS = "unrecognized arguments: "
"""How argparse begins to say it."""


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviated flags and ends wrong usage with our exit code."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        near = self._nearest(message)
        hint = f"; did you mean {near}?" if near else ""
        self.exit(ExitCode.USAGE, f"{self.prog}: {clean(message)}{hint}; see {self.prog} --help\n")

    def _nearest(self, message: str) -> str | None:
        """The flag that an unknown one was to be."""
        if not message.startswith(_UNKNOWN_FLAGS):
            return None
        from difflib import get_close_matches

        words = message.removeprefix(_UNKNOWN_FLAGS).split()
        flags = (word.partition("=")[0] for word in words if word.startswith("-"))
        known = list(self._option_string_actions)
        found = (near for flag in flags for near in get_close_matches(flag, known, n=1))
        return next(found, None)
