"""What `runner schedule` needs: role, group and dead-letter queue, all of them or none."""

from __future__ import annotations

from runner.errors import RunnerError
from runner.targets.ec2 import names
from runner.targets.ec2.account.doctor.findings import Finding, ok, warn
from runner.targets.ec2.schedules.schedule_account import look_at_account

_CHECK = "schedules"
_SETUP = "`runner setup --schedules` makes it"


def check_schedules(region: str) -> list[Finding]:
    """An account needs none of them, and who makes no schedules may see none."""
    try:
        found = look_at_account(region)
    except RunnerError as error:
        return [warn(_CHECK, f"what they need can't be seen: {error}")]
    if len(found.missing) == found.LOOKED_AT:
        return [ok(_CHECK, f"not set up in {region}: `runner setup --schedules`, before the first")]
    if len(found.notes) == found.LOOKED_AT:
        who = f"people who make schedules have the policy {names.SCHEDULE_POLICY}"
        return [ok(_CHECK, f"not to be seen with your rights: {who}")]
    if len(found.missing) + len(found.notes) == found.LOOKED_AT:
        return [ok(_CHECK, f"nothing of them is to be seen with your rights in {region}")]
    if found.missing:
        return [warn(_CHECK, f"there is not {each}", _SETUP) for each in found.missing]
    if found.notes:
        return [warn(_CHECK, note) for note in found.notes]
    return [ok(_CHECK, f"role, group and dead-letter queue are there in {region}")]
