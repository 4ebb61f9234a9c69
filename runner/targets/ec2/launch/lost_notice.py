"""`launch --notify-if-lost`: schedules that tell of the machine if it dies without a word.

Owns that they are there once, whichever machine the queue is launched on next.
"""

from __future__ import annotations

from collections.abc import Callable

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.aws.scheduler import Schedule, Schedules, at
from runner.core.lost_notices import GROUP, MARGIN, ROLE, lost_calls, schedule_name
from runner.model.document import QueueSpec
from runner.targets.ec2.launch.local_launches import Launch


def place(queue: QueueSpec, launch: Launch, region: str, say: Callable[[str], None]) -> list[str]:
    """Have what can be told of it told after the end of its lifetime; the schedules' names.

    Those of an earlier machine of the queue are put off. What can't be placed is said: the machine
    runs, and tells itself of all but its own death.
    """
    when = launch.expires + MARGIN
    calls = lost_calls(queue, launch.store, launch.launch, when)
    placed: list[str] = []
    try:
        with calling(lambda error: error):
            caller = make_client("sts", region).get_caller_identity()
        partition = str(caller["Arn"]).split(":")[1]
        role = f"arn:{partition}:iam::{caller['Account']}:role/{ROLE}"
        schedules = Schedules(region)
        for number, call in enumerate(calls):
            schedule = Schedule(
                schedule_name(launch.store, number),
                at(when),
                call.target,
                role,
                call.input,
                group=GROUP,
                description=f"runner: queue {queue.queue_id} was lost with its machine"[:512],
                delete_after=True,
            )
            try:
                schedules.create(schedule, f"{launch.launch}-{number}")
            except AwsError as error:
                if error.code != "ConflictException":
                    raise
                schedules.update(schedule)
            placed.append(schedule.name)
    except AwsError as error:
        say(f"--notify-if-lost: nobody will be told if the machine dies: {error}")
        if error.kind in (ErrorKind.DENIED, ErrorKind.INVALID, ErrorKind.MISSING):
            say("`runner setup --notify ARN` makes the role and gives the rights")
    return placed
