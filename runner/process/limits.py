"""What a process was given by its caller: the limit of open files, the signals to ignore.

The limit is raised for the daemon and given back to its jobs as it was: programs that use select(2)
break when they inherit a high one.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterable

_given: int | None = None


def allow_descriptors(wanted: int) -> None:
    """Raise this process's own soft limit towards ``wanted``, as far as it may."""
    global _given
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if _given is None:
        _given = soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def given_descriptors() -> int:
    """The soft limit that this process began with."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] if _given is None else _given


def heeded(signals: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those that our caller hasn't had ignored: nohup(1), ``trap '' HUP`` and a job of a shell
    script in the background mean it. A handler of ours would undo it."""
    return [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
