"""How rude the server is: everything here is what the service's documentation allows it to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rudeness:
    """Probabilities, each of one message or call; all 0 is a service on its best day.

    ``doubled``: a message is given to somebody else too, though it is in flight. ``shuffled``: a
    receive takes what is there in any order. ``short``: a receive answers fewer than there are, or
    nothing where it doesn't wait. ``undead``: a deleted message is delivered once more. ``stale``:
    an old handle is refused (its visibility) and deletes nothing, without a word; else it works.
    ``purged``: what is sent within a minute of a purge is purged too. ``entry``: an entry of a
    batch fails, under HTTP 200. ``kept``: such an entry was done all the same. ``lost``: a call is
    done, and its answer lost. ``refused``: a call meets a 503.
    """

    doubled: float = 0.0
    shuffled: bool = False
    short: float = 0.0
    undead: float = 0.0
    stale: float = 1.0
    purged: float = 0.0
    entry: float = 0.0
    kept: float = 0.0
    lost: float = 0.0
    refused: float = 0.0


CALM = Rudeness()

RUDE = Rudeness(
    doubled=0.05,
    shuffled=True,
    short=0.2,
    undead=0.05,
    stale=0.5,
    purged=0.5,
    entry=0.05,
    kept=0.3,
    lost=0.02,
    refused=0.02,
)
