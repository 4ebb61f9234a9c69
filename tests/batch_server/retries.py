"""Whether a failed attempt is followed by another: evaluateOnExit. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

RULE_PATTERN = re.compile(r"[A-Za-z0-9.:\s]*\*?")
EXIT_PATTERN = re.compile(r"[0-9]*\*?")
LONGEST_PATTERN = 512


def matches(pattern: str, text: str) -> bool:
    """A pattern is a whole text, or its beginning where it ends in an asterisk."""
    if pattern.endswith("*"):
        return text.lower().startswith(pattern[:-1].lower())
    return text.lower() == pattern.lower()


def again(
    rules: Sequence[Mapping[str, str]], exit_code: int | None, reason: str | None, status: str
) -> bool:
    """The first rule whose every condition holds decides; without one there is another attempt."""
    found = {
        "onExitCode": "" if exit_code is None else str(exit_code),
        "onReason": reason or "",
        "onStatusReason": status,
    }
    for rule in rules:
        if all(matches(rule[key], text) for key, text in found.items() if key in rule):
            return rule["action"].upper() == "RETRY"
    return True
