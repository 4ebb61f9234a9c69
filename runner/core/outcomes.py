"""How an attempt ended, and what is known of it besides. A moment, too: every end has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Now(NamedTuple):
    """A moment: ``wall`` is seconds since the epoch, ``mono`` the boot's monotonic seconds."""

    wall: float
    mono: float


@dataclass(frozen=True, slots=True)
class Exited:
    """The command ended by itself with this exit code."""

    code: int


@dataclass(frozen=True, slots=True)
class Signalled:
    """The command was ended by this signal (``SIGKILL``)."""

    signal: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody can say how it ended; ``machine`` when the machine went away with it.

    ``announced``: the place says that it took it away, so the job is not the cause; ``why``: in its
    words.
    """

    machine: bool
    announced: bool = False
    why: str | None = None


@dataclass(frozen=True, slots=True)
class NotRunnable:
    """The command could not be run, and trying again would not help."""

    message: str


Outcome = Exited | Signalled | Lost | NotRunnable


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt took: processor seconds, bytes of memory at its peak, and how many of its
    processes the kernel killed for want of memory."""

    cpu_seconds: float
    max_rss: int
    oom_kills: int = 0
