"""What a check has found, and many checks at once within a bound.

Owns that a check which fails, hangs or breaks is a finding like any other.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from runner.errors import RunnerError
from runner.model.printable import clean

PATIENCE = 15.0
"""Seconds for all checks together."""


LONGEST = 400
"""Characters of what is found; AWS's own messages have fewer."""


class Grade(Enum):
    """``WARN``: it works without, or nobody can say. ``FAIL``: it won't work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, what that means, and what to do about it ("" if it is well)."""

    check: str
    grade: Grade
    says: str
    todo: str = ""


def ok(check: str, says: str) -> Finding:
    """It is well."""
    return Finding(check, Grade.OK, _brief(says))


def warn(check: str, says: str, todo: str = "") -> Finding:
    """It works without, or nobody can say."""
    return Finding(check, Grade.WARN, _brief(says), todo)


def fail(check: str, says: str, todo: str) -> Finding:
    """It won't work until something is done."""
    return Finding(check, Grade.FAIL, _brief(says), todo)


def _brief(says: str) -> str:
    """One line: what stands between us and AWS may answer with a whole page."""
    line = " ".join(says.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


Check = Callable[[], Sequence[Finding]]


def examine(checks: Mapping[str, Check], patience: float = PATIENCE) -> list[Finding]:
    """All findings, in the order of the checks, which are done at the same time.

    One that isn't done within ``patience`` seconds is a failure; its thread is left behind.
    """
    found: dict[str, list[Finding]] = {}
    threads = [
        # A daemon thread: nobody waits at the end for an address that doesn't answer.
        threading.Thread(target=_keep, args=(found, name, check), name=name, daemon=True)
        for name, check in checks.items()
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    slow = f"no answer within {max(patience, 0):.0f} s"
    todo = "look at network, proxy and firewall, then try again"
    return [each for name in checks for each in found.get(name, [fail(name, slow, todo)])]


def _keep(found: dict[str, list[Finding]], name: str, check: Check) -> None:
    try:
        found[name] = list(check())
    except RunnerError as error:
        found[name] = [fail(name, str(error), "mend that, then try again")]
    except Exception as error:
        # A bug in a check, or a machine stranger than we thought: the others are worth reading.
        what = f"could not be looked at: {type(error).__name__}: {error}"
        found[name] = [warn(name, what, "please report it")]


def describe(finding: Finding) -> dict[str, str]:
    """For programs."""
    told = {"check": finding.check, "grade": finding.grade.value, "says": finding.says}
    return told | ({"to_do": finding.todo} if finding.todo else {})


def format_findings(found: Sequence[Finding]) -> list[str]:
    """For people: a line each, what to do below it, and how many there are of each grade."""
    width = max(len(each.check) for each in found)
    lines = []
    for each in found:
        lines.append(f"{each.grade.value:<4}  {each.check:<{width}}  {clean(each.says)}")
        if each.todo:
            lines.append(f"      {'':<{width}}  → {clean(each.todo)}")
    counts = Counter(each.grade.value for each in found)
    return [*lines, ", ".join(f"{counts[name]} {name}" for name in counts)]
