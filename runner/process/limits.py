"""The limit of open files: raised for the daemon, given back to its jobs as it was.

Programs that use select(2) break when they inherit a high one, so a job gets what we were given.
"""

from __future__ import annotations

import resource

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
