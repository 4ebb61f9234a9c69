"""``launch --instance-id``: the queue goes behind the ones of a machine that runs already."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runner.cli import options
from runner.cli.show.text import clean
from runner.cli.verbs import submit
from runner.errors import ExitCode, UsageError
from runner.model.document import dump_document
from runner.service.runs_here import check_runs_here

_MENDING = frozenset({"retry_failed", "update", "rerun_changed"})
_ALSO = _MENDING | {"batch_queue", "instance_id", "region", "json", "sets", "wait", "yes"}
"""What else may be said: the rest is about a machine that is yet to be launched."""


def launch_onto(arguments: argparse.Namespace) -> int:
    """Submit the document over SSM, without a boot. Raises UsageError, UnreachableError."""
    for name, value in vars(arguments).items():
        if name not in _ALSO and value not in (None, False):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is about a new machine: not with --instance-id")
    from runner.targets.ec2.connection import Ec2Connection
    from runner.targets.ec2.names import is_instance
    from runner.targets.ec2.observe.machine_lookup import Target

    if not is_instance(arguments.instance_id):
        raise UsageError(f"--instance-id: {clean(arguments.instance_id)} is no instance's id")
    document = options.read(arguments, Path(arguments.batch_queue))
    check_runs_here(document)
    text = dump_document(document)
    there = Ec2Connection(
        Target(arguments.instance_id, region=arguments.region, bucket=None),
        None,
        lambda line: print(f"runner launch: {clean(line)}", file=sys.stderr),
    )
    answer = there.submit(text, options.again(arguments).word)
    submit.tell(answer, json_wanted=arguments.json)
    if not arguments.wait:
        return ExitCode.DONE
    from runner.cli.verbs import wait

    words = argparse.Namespace(
        target=arguments.instance_id, queue=answer["queue_id"], on=None, bucket=None,
        region=arguments.region, timeout=None, json=False,
    )  # fmt: skip
    return wait.execute(words)
