"""Who asks: credentials, the account, and whether the clock is AWS's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling, part_of
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok, warn

SKEW_REFUSED = 300.0
"""Seconds from which AWS refuses a signature (IAM User Guide, "Signature Version 4")."""

SKEW_NOTED = 60.0

_CHECK = "credentials"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who AWS says we are."""

    account: str
    arn: str

    @property
    def partition(self) -> str:
        """``aws``, ``aws-cn``, ``aws-us-gov``."""
        return self.arn.split(":")[1]


def learn_who(region: str, callers: list[Caller]) -> list[Finding]:
    """What was found; who asks is added to ``callers``, if AWS says it."""
    caller, found = who(region)
    if caller is not None:
        callers.append(caller)
    return found


def who(region: str) -> tuple[Caller | None, list[Finding]]:
    """Who asks, None if AWS doesn't say; and what was found on the way."""
    try:
        with calling(lambda error: error):
            client = make_client("sts", region, connect=4, read=5, attempts=2)
            answer: dict[str, Any] = client.get_caller_identity()
        account, arn = (part_of(answer, "GetCallerIdentity", name) for name in ("Account", "Arn"))
    except AwsError as error:
        return None, [_refused(error), *_clock(_headers(error.__cause__))]
    caller = Caller(str(account), str(arn))
    says = f"{caller.arn}, account {caller.account}"
    root = caller.arn.endswith(":root")
    todo = "make an IAM user or role for this: root's keys can't be limited"
    first = warn(_CHECK, f"{says}: the account's root", todo) if root else ok(_CHECK, says)
    return caller, [first, *_clock(answer["ResponseMetadata"].get("HTTPHeaders", {}))]


def _refused(error: AwsError) -> Finding:
    match error.kind:
        case ErrorKind.NO_CREDENTIALS:
            todo = "`aws configure`, `aws sso login`, or AWS_PROFILE"
        case ErrorKind.EXPIRED:
            todo = "`aws sso login`, or new keys"
        case ErrorKind.DENIED:
            todo = "other keys: AWS doesn't know these, or the clock is wrong"
        case ErrorKind.INVALID:
            todo = "mend ~/.aws/config or the variables AWS_…"
        case _:
            todo = "look at network and proxy; then try again"
    return fail(_CHECK, str(error), todo)


def _headers(error: BaseException | None) -> dict[str, str]:
    response = getattr(error, "response", None) or {}
    headers: dict[str, str] = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def _clock(headers: dict[str, str]) -> list[Finding]:
    try:
        skew = time.time() - parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        return []
    words = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} AWS's"
    todo = "set the clock (timedatectl set-ntp true; on macOS: sntp -sS time.apple.com)"
    if abs(skew) >= SKEW_REFUSED:
        return [fail("clock", f"{words}: AWS refuses what is signed so", todo)]
    if abs(skew) >= SKEW_NOTED:
        return [warn("clock", f"{words}; from 5 minutes on AWS refuses all", todo)]
    return [ok("clock", "as AWS's")]
