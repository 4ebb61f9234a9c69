"""The front door of ``runner-fleet``: imports what a command needs, and turns errors into exit
codes."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
from importlib import import_module
from typing import NoReturn

from runner import __version__
from runner.errors import ExitCode, RunnerError
from runner.model.printable import clean

TRACEBACK_VARIABLE = "RUNNER_TRACEBACK"

COMMANDS = {
    "job_commands": ("jobs",),
    "queue_commands": ("queue",),
    "worker_commands": ("worker", "workers", "migrate"),
    "task_commands": ("status", "logs", "tasks"),
    "machine_commands": ("up", "scale", "drain"),
    "report_command": ("report",),
}
"""Which module of this folder has which commands, in the order of ``--help``."""

COLLECT_EVERY = 10_000
"""See ``runner.cli.main``."""


class FleetParser(argparse.ArgumentParser):
    """Takes no abbreviated flags, and ends wrong usage with our exit code."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        told = clean(message)
        self.exit(ExitCode.USAGE, f"{self.prog}: {told}; see {self.prog} --help\n")


def main() -> NoReturn:
    """The command. Ends at once: a thread may hang in a call to a network that is away."""
    gc.set_threshold(COLLECT_EVERY)
    code = run_command(sys.argv[1:], os.path.basename(sys.argv[0]) or "runner-fleet")
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)


def run_command(argv: list[str], prog: str) -> int:
    """Run one command line; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            arguments = parser(prog, argv[0] if argv else None).parse_args(argv)
            code = int(arguments.execute(arguments))
        except RunnerError as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            for line in str(error).split("\n"):
                print(f"{prog}: {clean(line)}", file=sys.stderr)
            code = int(error.exit_code)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = ExitCode.CTRL_C
    except BrokenPipeError:
        # The reader has gone: what was asked for is done.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = ExitCode.DONE
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        told = clean(f"{type(error).__name__}: {error}")
        print(f"{prog}: internal error: {told}", file=sys.stderr)
        print(f"{prog}: with {TRACEBACK_VARIABLE}=1 it says where", file=sys.stderr)
        code = ExitCode.ERROR
    return code


def parser(prog: str = "runner-fleet", command: str | None = None) -> FleetParser:
    """The command line, as far as this command needs it; all of it for one that is none."""
    made = FleetParser(
        prog=prog,
        description="Many workers take the tasks of a job from one task queue, each task once.",
    )
    made.add_argument("--version", "-V", action="version", version=f"runner {__version__}")
    nouns = made.add_subparsers(metavar="COMMAND", required=True)
    if command in ("--version", "-V"):
        return made
    only = [module for module, commands in COMMANDS.items() if command in commands]
    for module in only or COMMANDS:
        import_module(f"runner.fleet.cli.{module}").configure(nouns)
    return made
