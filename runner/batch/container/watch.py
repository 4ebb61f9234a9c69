"""COMMAND as the agent sees it from the next container: whether it runs, and how it ended.

Owns the clock of its timeout and of what it leaves behind, and when main.sh is told to signal. It
reads what main.sh writes, and learns of main's death by a pipe that only main.sh holds open.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

from runner.batch.container.volume import CommandStatus, Volume, time_of
from runner.batch.records import BatchEnd, CommandUsage, EndKind, Writer
from runner.files import replace_file

LEFTOVER_WAIT = 1.0
LEFTOVER_GRACE = 2.0
"""Seconds that what COMMAND leaves behind gets before SIGTERM, and then before SIGKILL."""

STORE_TIME = 10.0
"""Seconds of those between a container's SIGTERM and SIGKILL that are kept for logs and more."""

NOT_COMING = 1.0
"""Seconds after which a container that has not begun, of a task that is being ended, never will."""

ASK_AGAIN_AFTER = 2.0
"""Seconds between two looks at the task's metadata, while COMMAND has not begun."""

TERM, KILL, GO_ON = "USR1", "USR2", "go"


class CommandWatch:
    """``timeout``, ``grace``, ``stop_seconds``: seconds; the last between Batch's SIGTERM and
    SIGKILL. ``look`` is called every little while until ``over``."""

    def __init__(
        self,
        volume: Volume,
        environment: Mapping[str, str],
        timeout: float,
        grace: float,
        stop_seconds: float,
    ) -> None:
        self._volume = volume
        self._metadata = environment.get("ECS_CONTAINER_METADATA_URI_V4")
        self._main = environment.get("RUNNER_MAIN_CONTAINER", "main")
        self._timeout = timeout
        self._grace = grace
        self._stop_grace = max(1.0, min(grace, stop_seconds - STORE_TIME))
        self._alive = os.open(volume.main / "alive", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._began: float | None = None
        self._kill_at: float | None = None
        self._ended_at: float | None = None
        self._told = 0
        self._ask_at = 0.0
        self._timed_out = volume.agent / "timed-out"
        self._gone = False

    def close(self) -> None:
        """Give back the pipe."""
        os.close(self._alive)

    @property
    def over(self) -> bool:
        """Whether nothing more comes from main."""
        return self._gone or self._volume.over

    def look(self, *, stopping: bool) -> None:
        """See what has become of COMMAND, and signal it where its time is over.

        ``stopping``: this container has been asked to end.
        """
        now = time.monotonic()
        volume = self._volume
        if volume.status() is not None or volume.unrunnable is not None:
            self._clear_up(now)
        elif (begun := volume.begun) is not None:
            if not (stopping or volume.stopped) and self._ran(begun) >= self._timeout:
                # The reason is there before the signal.
                if not self._timed_out.exists():
                    replace_file(self._timed_out, [b""])
            self._end_if_due(now, stopping=stopping or volume.stopped)
        elif stopping and self._kill_at is None:
            placing = (volume.main / "begun").exists()
            self._kill_at = now + (self._stop_grace if placing else NOT_COMING)
        elif stopping and self._kill_at is not None and now >= self._kill_at:
            self._gone = True  # it has never begun
        if not self._lives() and not volume.over:
            self._gone = self._gone or self._is_dead(now)

    def _ran(self, begun: float) -> float:
        """Seconds since COMMAND began; the host's clock may be set meanwhile."""
        now = time.monotonic()
        if self._began is None:
            self._began = now - max(0.0, time.time() - begun)
        return now - self._began

    def _end_if_due(self, now: float, *, stopping: bool) -> None:
        if not (stopping or self._timed_out.exists()):
            return
        if self._kill_at is None:
            if self._order(TERM):
                self._kill_at = now + (self._stop_grace if stopping else self._grace)
        elif now >= self._kill_at:
            self._order(KILL)
            self._kill_at = now + 1.0

    def _clear_up(self, now: float) -> None:
        """What COMMAND has left behind gets a moment, and is then ended."""
        self._ended_at = self._ended_at or now
        due = LEFTOVER_WAIT + (LEFTOVER_GRACE if self._told else 0) + 0.5 * max(0, self._told - 1)
        if now - self._ended_at >= due:
            self._order((TERM, KILL, GO_ON)[min(self._told, 2)])
            self._told += 1

    def _order(self, word: str) -> bool:
        """Have main.sh do it; False where it doesn't listen yet, or any more."""
        try:
            fd = os.open(self._volume.main / "orders", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.write(fd, f"{word}\n".encode())
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def _lives(self) -> bool:
        """Whether main.sh holds its pipe."""
        try:
            os.read(self._alive, 1)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                return True
            raise
        return False

    def _is_dead(self, now: float) -> bool:
        """Whether main, which holds no pipe, never will again."""
        if (self._volume.main / "begun").exists():
            return not self._lives()  # it may have come since
        if now < self._ask_at:
            return False
        self._ask_at = now + ASK_AGAIN_AFTER
        return self._metadata is not None and _has_stopped(self._metadata, self._main)

    # -- how it ended -------------------------------------------------------------------------

    def end(self, token: str, *, stopping: bool) -> BatchEnd | None:
        """How COMMAND ended, once that is known."""
        volume = self._volume
        status, begun = volume.status(), volume.begun
        stopped = stopping or volume.stopped
        if status is None and volume.unrunnable is None and not self._gone:
            return None
        kind, message = EndKind.KILLED, None
        code = named = None
        if status is not None:
            code, named = _read(status)
            kind = EndKind.EXIT if named is None else EndKind.SIGNAL
        elif (why := volume.unrunnable) is not None:
            kind, message = EndKind.NOT_RUNNABLE, why
        elif begun is None:
            message = "its container did not start"
        else:
            message = "its container was killed; only what it left in the volume is stored"
        # An end before the reason for one stands.
        ended = None if status is None else status.at
        if _was_before(volume.stopped_at, ended) or (stopped and status is None):
            kind = EndKind.STOPPED
        elif _was_before(time_of(self._timed_out), ended):
            kind = EndKind.TIMED_OUT
        at = status.at if status is not None else time.time()
        return BatchEnd(
            Writer.CONTAINER,
            token,
            kind,
            at,
            code,
            named,
            message,
            started_at=begun,
            duration=None if begun is None else round(max(0.0, at - begun), 6),
            usage=_usage(volume.figures()),
        )


def _was_before(moment: float | None, ended: float | None) -> bool:
    return moment is not None and (ended is None or moment <= ended)


def _read(status: CommandStatus) -> tuple[int | None, str | None]:
    """An exit code, or a signal's name."""
    if not status.signalled or status.code <= 128:
        return status.code, None
    number = status.code - 128
    try:
        return None, signal.Signals(number).name
    except ValueError:
        return None, f"SIGRTMIN{number - signal.SIGRTMIN:+}"


def _usage(figures: Mapping[str, int]) -> CommandUsage | None:
    if "memory" not in figures:
        return None
    seconds = figures.get("cpu_usec", 0) / 1e6 or figures.get("cpu_nsec", 0) / 1e9
    return CommandUsage(round(seconds, 6), figures["memory"], figures.get("oom_kill", 0))


def _has_stopped(metadata: str, name: str) -> bool:
    """Whether the task's metadata says so of a container (ECS task metadata endpoint 4)."""
    try:
        with urllib.request.urlopen(f"{metadata}/task", timeout=3) as answer:
            told: Any = json.loads(answer.read(1 << 20))
        containers = told["Containers"]
        return any(
            each.get("Name") == name and each.get("KnownStatus") == "STOPPED" for each in containers
        )
    except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError):
        return False
