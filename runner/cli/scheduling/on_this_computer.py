"""`schedule create --here`: a systemd user timer, printed; nothing is made."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from runner.cli import options
from runner.cli.scheduling.creation import name_of, timing
from runner.cli.show.text import clean
from runner.errors import ExitCode, UsageError
from runner.model.recurrence.firing_times import next_firings, zone_of
from runner.targets.ec2.launch.launch_options import FLAGS
from runner.targets.here.systemd_timer import timer_units

_OF_A_LAUNCH = (*FLAGS, "region", "workdir", "include", "bundle", "wait", "dry_run")


def print_timer(arguments: argparse.Namespace) -> int:
    """Raises UsageError."""
    for name in _OF_A_LAUNCH:
        if getattr(arguments, name, None):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag}: is about a machine on EC2; --here runs the queue here")
    if arguments.overlap == "allow":
        raise UsageError(
            "--overlap allow: is not for --here: systemd starts nothing while what it started runs"
        )
    when, zone = timing(arguments)
    document = Path(arguments.batch_queue).resolve()
    queue = options.read(arguments, document)
    name = name_of(arguments, queue)
    command = [*_runner(), "run", str(document), "--fresh"]
    for given in arguments.sets or ():
        command += ["--set", given]
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    made = timer_units(name, when, zone, command, os.getcwd(), path)
    if arguments.json:
        told = {"name": made.name, "service": made.service, "timer": made.timer}
        print(json.dumps({**told, "script": made.script}))
        return ExitCode.DONE
    print(made.script, end="")
    now = time.time()
    from runner.cli.scheduling.schedule_text import time_lines

    for line in time_lines(next_firings(when, zone_of(zone), now, 1, now), zone):
        _say(f"it fires first at {line}")
    _say("nothing was made: a shell that is given this makes it ( … --here | sh)")
    _say("while you are not logged in it fires after: loginctl enable-linger")
    return ExitCode.DONE


def _runner() -> list[str]:
    """How this runner is called, by an absolute path."""
    own = shutil.which(sys.argv[0])
    if own is not None and os.path.basename(own) == "runner":
        return [os.path.abspath(own)]
    return [sys.executable, "-m", "runner"]


def _say(line: str) -> None:
    print(f"runner schedule create: {clean(line)}", file=sys.stderr)
