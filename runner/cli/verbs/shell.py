"""Open a shell on an EC2 instance with SSM's Session Manager: no key, no open port."""

from __future__ import annotations

import argparse
import os
import shutil
from typing import NoReturn

from runner.cli import options
from runner.cli.connect import note
from runner.errors import RunnerError

PLUGIN = "session-manager-plugin"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="INSTANCE|QUEUE", help="the machine, or its queue")
    options.add_where(parser)


def execute(arguments: argparse.Namespace) -> NoReturn:
    from runner.targets.ec2.connection import Ec2Connection
    from runner.targets.ec2.observe.machine_lookup import Target

    target = Target(arguments.target, region=arguments.region, bucket=arguments.bucket)
    found = Ec2Connection(target, None, note).check_running()
    machine = str(found.instance_id)
    command = ["aws", "ssm", "start-session", "--target", machine, "--region", found.region]
    missing = [name for name in ("aws", PLUGIN) if shutil.which(name) is None]
    if missing:
        raise RunnerError(_how(missing, " ".join(command)))
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise RunnerError(f"{command[0]}: {error.strerror}") from None


def _how(missing: list[str], command: str) -> str:
    where = {
        "aws": "the AWS CLI: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
        PLUGIN: "Session Manager's plugin: https://docs.aws.amazon.com/systems-manager/latest/"
        "userguide/session-manager-working-with-install-plugin.html",
    }
    lines = [f"{name} isn't installed; it is part of {where[name]}" for name in missing]
    return "\n".join([*lines, f"then: {command}", "without it: runner logs JOB -f --on INSTANCE"])
