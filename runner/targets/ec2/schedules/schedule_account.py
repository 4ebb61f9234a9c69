"""What a schedule needs of the account: role, group and dead-letter queue, which `runner setup
--schedules` makes. Blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.aws.scheduler import DEAD_LETTERS, GROUP, ROLE, Schedules
from runner.targets.ec2.schedules.dead_letters import DeadLetters


@dataclass(frozen=True, slots=True)
class ScheduleAccount:
    """ARNs of one account and region. ``missing``: what isn't there, for people; ``notes``: what
    could not be looked at."""

    role: str
    dead_letters: str
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    LOOKED_AT: ClassVar[int] = 3


def look_at_account(region: str) -> ScheduleAccount:
    """Raises AwsError where nobody says whose account it is."""
    with calling(lambda error: error):
        caller = make_client("sts", region, own_session=True).get_caller_identity()
    account, partition = str(caller["Account"]), str(caller["Arn"]).split(":")[1]
    missing: list[str] = []
    notes: list[str] = []
    for what, there in (
        (f"the role {ROLE}", _has_role),
        (f"the schedule group {GROUP} in {region}", Schedules(region).has_group),
        (f"the queue {DEAD_LETTERS} in {region}", DeadLetters(region).exists),
    ):
        try:
            if not there():
                missing.append(what)
        except AwsError as error:
            if error.kind in (ErrorKind.NO_CREDENTIALS, ErrorKind.EXPIRED):
                raise
            notes.append(f"whether there is {what} can't be seen: {error}")
    return ScheduleAccount(
        f"arn:{partition}:iam::{account}:role/{ROLE}",
        f"arn:{partition}:sqs:{region}:{account}:{DEAD_LETTERS}",
        tuple(missing),
        tuple(notes),
    )


def _has_role() -> bool:
    try:
        with calling(lambda error: error):
            make_client("iam", "us-east-1", own_session=True).get_role(RoleName=ROLE)
    except AwsError as error:
        if error.kind is ErrorKind.MISSING or error.code == "NoSuchEntity":
            return False
        raise
    return True
