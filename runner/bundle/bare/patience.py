"""How long each kind of refusal is believed to pass, and what doesn't.

A machine comes up before its network does, its role before its rights are known everywhere. Each
kind has its own time: what one has cost isn't taken from another's.
"""

import time
from typing import Any, Callable, Dict

from .telling import say

PATIENCE = {
    # The metadata service is there before cloud-init is, the role's credentials soon after.
    "metadata": 240.0,
    "credentials": 240.0,
    # The network, its names, and services that don't answer, or answer 5xx.
    "names": 240.0,
    "away": 240.0,
    "broken off": 240.0,
    # A new role's rights take their time to spread (IAM User Guide, "Eventual consistency").
    "denied": 30.0,
    "stale keys": 30.0,
    # What was learned makes the next try another one.
    "clock": 30.0,
    "region": 30.0,
    "damaged": 0.3,
    # A mirror, or the package manager's lock.
    "packages": 120.0,
}
"""Seconds for which a kind of refusal is tried again; the first try isn't counted."""

LONGEST_PAUSE = 10.0
"""Seconds."""


class Failed(Exception):
    """Why the machine can't be made ready; for people."""


class Missing(Failed):
    """There is no such object."""


class Over(Exception):
    """Another machine has done what this one was launched for."""


class Again(Exception):
    """Not now; it is worth other tries, as long as its kind has patience left."""

    def __init__(self, kind: str, why: str) -> None:
        Exception.__init__(self, why)
        self.kind = kind


def patiently(what: str, act: Callable[[], Any]) -> Any:
    """Try until it is done, or one kind of refusal has lasted too long in all. Raises Failed."""
    spent: Dict[str, float] = {}
    pauses: Dict[str, float] = {}
    said = ""
    while True:
        began = time.monotonic()
        try:
            return act()
        except Again as error:
            kind, why = error.kind, str(error)
        except Failed as error:
            raise Failed(f"{what}: {error}")
        if kind in spent:
            spent[kind] += time.monotonic() - began
        if spent.setdefault(kind, 0.0) >= PATIENCE[kind]:
            raise Failed(f"{what}: {why}")
        if why != said:
            said = why
            say(f"{what}: {why}; it is tried again")
        pause = pauses.get(kind, 0.25)
        time.sleep(pause)
        spent[kind] += pause
        pauses[kind] = min(2 * pause, LONGEST_PAUSE)
