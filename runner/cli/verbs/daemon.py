"""Run the service: work on submitted queues one after another, and answer on a socket."""

from __future__ import annotations

import argparse

from runner.cli import options
from runner.errors import ExitCode


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_storing(parser)
    options.add_folders(parser)
    parser.add_argument("--run-dir", metavar="DIR", help="the folder of the sockets")


def execute(arguments: argparse.Namespace) -> int:
    import asyncio
    import faulthandler

    from runner.cli.daemon_log import log_events
    from runner.cli.on_batch import commands_of
    from runner.service.daemon import Daemon
    from runner.service.job_user import check_folders, job_user

    settings = options.settings(arguments, run_dir=arguments.run_dir)
    user = job_user(settings)
    check_folders(settings, user)
    outlet = log_events()
    # The watchdog's SIGABRT: where a loop hung is written down (functions and lines, no values).
    faulthandler.enable()

    async def serve() -> None:
        await Daemon(settings, user, commands_of).run()

    try:
        asyncio.run(serve())
    finally:
        outlet.finish()
    return ExitCode.DONE
