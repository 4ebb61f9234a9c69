"""End the machine when it is time. A timer calls it once a minute."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from runner.cli import options
from runner.cli.show.text import clean
from runner.errors import ExitCode


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.host.machine_file import MachineFile
    from runner.service.lifetime_guard import end_if_due
    from runner.service.machine_view import limits_of
    from runner.store.paths import StatePaths

    try:
        settings = options.settings(arguments)
    except Exception as error:
        # Neither a mistake in them nor a library that is gone may let the machine live for ever.
        _say(f"the settings can't be read, those before hold: {error}")
        settings = None
    if settings is not None:
        state_dir, limits = settings.state_dir, limits_of(settings)
    else:
        state_dir = Path(arguments.state_dir or os.environ.get("RUNNER_STATE_DIR") or _DEFAULT)
        limits = None
    done = end_if_due(MachineFile(StatePaths(state_dir).machine), os.environ, _say, limits)
    return ExitCode.DONE if done else ExitCode.ERROR


_DEFAULT = "/var/lib/runner"


def _say(text: str) -> None:
    print(f"runner enforce-lifetime: {clean(text)}", file=sys.stderr, flush=True)
