"""The front door: finds the verb, imports only its file, and turns errors into exit codes."""

from __future__ import annotations

import gc
import os
import sys
import threading
from contextlib import suppress
from importlib import import_module

from runner import __version__
from runner.cli import streams
from runner.cli.show.text import clean
from runner.errors import ExitCode, RunnerError, UsageError

# As typing's, which takes as long to import as all that `--version` needs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from runner.cli.parser import Parser

VERBS = {
    "run": "run a queue on this machine, in the foreground",
    "validate": "check a document and print the order of its jobs",
    "schema": "print the JSON Schema of the document",
    "launch": "launch an EC2 instance that runs a queue",
    "schedule": "launch a queue again and again, at set times",
    "resume": "resume a queue on another EC2 instance, or on AWS Batch",
    "daemon": "run the service that works on submitted queues",
    "submit": "submit a queue to the daemon",
    "queues": "list the queues",
    "status": "show the state of a queue and its jobs",
    "explain": "say why jobs wait or have failed, and what to do",
    "logs": "show a job's output",
    "results": "fetch a queue's results and logs into a folder",
    "upload": "store results that an ended queue could not store",
    "wait": "wait for a queue to end",
    "cancel": "cancel a queue, or some of its jobs",
    "retry": "run failed, skipped and cancelled jobs again",
    "release": "let jobs start that the document holds",
    "pause": "start no new jobs",
    "unpause": "end a pause",
    "close": "have an open queue take no more jobs",
    "stop": "interrupt the running jobs and stop the service",
    "keep": "hold a machine that would end because its queues have ended",
    "coordinate": "drive a queue on AWS Batch (called in its coordinator's job)",
    "enforce-lifetime": "end the machine when it is time (called by a timer)",
    "ask": "answer one request of a remote program (used over SSM)",
    "shell": "open a shell on an EC2 instance",
    "ls": "list EC2 instances, and what they cost",
    "terminate": "terminate EC2 instances and their spot requests",
    "reap": "terminate EC2 instances that are past their lifetime",
    "prune": "remove queues that ended long ago",
    "notify": "show who is told when a queue ends, and try it out",
    "batch": "register, submit, watch and end single jobs of AWS Batch",
    "completion": "print a completion script for bash, zsh or fish",
    "setup": "make the role, policies and documents in an AWS account",
    "doctor": "check the AWS account before a launch, or this machine",
}

LINUX_ONLY = frozenset({"run", "daemon", "coordinate", "keep", "enforce-lifetime"})
"""The verbs of a machine that runs jobs. The others do on a laptop what they can do there."""

TRACEBACK_VARIABLE = "RUNNER_TRACEBACK"

COLLECT_EVERY = 10_000
"""New objects until garbage is looked for. What is imported stays: to look every 700, as Python
does, takes a tenth of the time of a start."""


def main() -> NoReturn:
    """The command ``runner``."""
    _run()


def status() -> NoReturn:
    """The command ``runner-status``: the same as ``runner status``."""
    _run("status")


def launch() -> NoReturn:
    """The command ``runner-launch``: the same as ``runner launch``."""
    _run("launch")


def batch_status() -> NoReturn:
    """The command ``runner-batch-status``, which is no verb."""
    _speak_utf8()
    streams.prepare()
    from runner.batch import monitor

    try:
        _exit(monitor.main())
    finally:
        streams.let_go()


def _run(verb: str | None = None) -> NoReturn:
    _speak_utf8()
    gc.set_threshold(COLLECT_EVERY)
    if {"_ARGCOMPLETE", "COMP_LINE"} <= os.environ.keys():
        from runner.cli.completion import complete

        complete(VERBS, parser_of, verb)
    if verb is None:
        _exit(run_command(sys.argv[1:]))
    _exit(run_command([verb, *sys.argv[1:]], prog=f"runner-{verb}"))


def _speak_utf8() -> None:
    """Begin again in UTF-8 mode where the locale has another encoding.

    Files, arguments and environment would be read in it, and not all of its bytes come back as they
    were (PEP 540). By a flag and not a variable: jobs would inherit that.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == streams.ENCODING:
        return
    if sys.executable:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _exit(code: int) -> NoReturn:
    """End now: a thread may hang in a call to a network that is away, for minutes."""
    if threading.active_count() > 1:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(code)
    # The interpreter looks for garbage once more: in all that was imported, for nothing.
    gc.freeze()
    sys.exit(code)


def run_command(argv: list[str], prog: str | None = None) -> int:
    """Run one command line; returns its exit code."""
    streams.prepare()
    try:
        return _run_verb(argv, prog or f"runner {argv[0]}" if argv else "runner")
    except KeyboardInterrupt:
        return ExitCode.CTRL_C
    except OSError as error:
        # Of our own output; what a verb does with files has been said already.
        with suppress(OSError):
            print(f"runner: {clean(_os_error(error))}", file=sys.stderr)
        return ExitCode.ERROR
    finally:
        streams.let_go()


def _run_verb(argv: list[str], prog: str) -> int:
    if argv[:1] == ["help"] and argv[1:] and argv[1] in VERBS:
        argv, prog = [argv[1], "--help"], f"runner {argv[1]}"
    if argv[:1] in (["--version"], ["-V"]):
        print(f"runner {__version__}")
        code: int = ExitCode.DONE
    elif not argv or argv[0] not in VERBS:
        code = _overview(argv)
    else:
        code = _execute(argv, prog)
    sys.stdout.flush()
    return code


def _execute(argv: list[str], prog: str) -> int:
    module, parser = _load(argv[0], prog)
    arguments = parser.parse_args(argv[1:])
    try:
        if argv[0] in LINUX_ONLY and sys.platform != "linux":
            raise UsageError(f"jobs run on Linux only, and this is {sys.platform}")
        return int(module.execute(arguments))
    except RunnerError as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        for line in str(error).split("\n"):
            print(f"{prog}: {clean(line)}", file=sys.stderr)
        return int(error.exit_code)
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        return _unexpected(prog, error)


def parser_of(verb: str, prog: str) -> Parser:
    """The parser of one verb's command line."""
    return _load(verb, prog)[1]


def _load(verb: str, prog: str) -> tuple[Any, Parser]:
    from runner.cli.parser import Parser

    module = import_module(f"runner.cli.verbs.{verb.replace('-', '_')}")
    parser = Parser(prog=prog, description=module.__doc__)
    module.configure(parser)
    return module, parser


def _unexpected(prog: str, error: Exception) -> int:
    if isinstance(error, OSError):
        print(f"{prog}: {clean(_os_error(error))}", file=sys.stderr)
    else:
        told = clean(f"{type(error).__name__}: {error}")
        print(f"{prog}: internal error: {told}", file=sys.stderr)
        print(f"{prog}: with {TRACEBACK_VARIABLE}=1 it says where", file=sys.stderr)
    return ExitCode.ERROR


def _os_error(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _overview(argv: list[str]) -> int:
    asked = argv[:1] in (["-h"], ["--help"], ["help"]) and len(argv) == 1
    if argv[:1] == ["help"]:
        argv = argv[1:]
    out = sys.stdout if asked else sys.stderr
    if argv and not asked:
        print(f"runner: {_unknown(argv[0])}", file=sys.stderr)
    print("usage: runner VERB [--help] …   |   runner help VERB   |   runner --version\n", file=out)
    width = max(map(len, VERBS)) + 2
    for verb, what in VERBS.items():
        print(f"  {verb:<{width}}{what}", file=out)
    return ExitCode.DONE if asked else ExitCode.USAGE


def _unknown(word: str) -> str:
    from difflib import get_close_matches

    if word.startswith("-"):
        return f"unknown flag {clean(word)}"
    near = get_close_matches(word, VERBS, n=1)
    return f"unknown verb '{clean(word)}'" + (f"; did you mean '{near[0]}'?" if near else "")
