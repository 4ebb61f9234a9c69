"""Whom queues may tell: the rights that `setup` gave, and the programs of a machine's settings."""

from __future__ import annotations

import os
import stat

from runner.aws.stacks import Stacks
from runner.errors import RunnerError
from runner.model.notify import EXEC
from runner.model.settings import Settings
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok
from runner.targets.ec2.account.setup import PERMISSIONS_STACK, home_of_role

CHECK = "notices"


def check_rights(region: str) -> list[Finding]:
    """The topics and buses that machines may tell, where we may see that. Webhooks need none."""
    try:
        made = Stacks(home_of_role() or region).find(PERMISSIONS_STACK)
    except RunnerError:  # an administrator's to see, and no fault of who launches
        return []
    if made is None:
        return []
    named = made.parameters.get("NoticeArns", "")
    if not named:
        says = "machines may tell no SNS topic and no event bus; webhooks need no right"
        return [ok(CHECK, f"{says} (`runner setup --notify ARN`)")]
    return [ok(CHECK, f"machines may tell {named.replace(',', ', ')}")]


def check_targets(settings: Settings) -> list[Finding]:
    """The targets of a machine's settings. Nothing is sent."""
    if not settings.notify:
        return []
    found = [
        fail(CHECK, f"{target.to}: {fault}", "mend it, or `notify` in the settings")
        for target in settings.notify
        if target.to.startswith(EXEC) and (fault := _fault(target.to.removeprefix(EXEC)))
    ]
    labels = ", ".join(target.label for target in settings.notify)
    return found or [ok(CHECK, f"every queue tells {labels} (`runner notify --test` tries them)")]


def _fault(path: str) -> str | None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return str(error.strerror)
    if not stat.S_ISREG(mode):
        return "is no file"
    return None if mode & 0o111 else "can't be run: nobody may (chmod +x)"
