"""What the daemon does about EC2's announcements: jobs are told, and work ends in time.

Owns the file that RUNNER_SPOT_NOTICE names, and what follows from which announcement. The machine
is never powered off from here: EC2 would take that for the user's wish, and not start it again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import structlog

from runner.aws.platform import on_ec2
from runner.core import events as ev
from runner.files import replace_file
from runner.host import spot
from runner.host.ec2_notices import Notice, NoticeKind
from runner.host.metadata import InstanceMetadata
from runner.model.settings import Settings
from runner.service.session import Session
from runner.timestamps import rfc3339_seconds

FIRST_LOOK = 1.5
"""Seconds that new starts wait, at most, for the first look: a daemon may have been started within
the two minutes of a notice."""

log = structlog.get_logger()


class SpotWatch:
    """``leaving``: why no queue is taken up any more; it stays until the machine is back.

    ``first_look``, from ``start`` on: done when it is known whether there was a notice before, or
    has taken too long to know. Where nothing speaks of EC2 it is done at once.
    """

    first_look: asyncio.Future[None]

    def __init__(self, settings: Settings, sessions: Callable[[], Iterable[Session]]) -> None:
        self.leaving: str | None = None
        self._settings = settings
        self._sessions = sessions
        self._notice: Notice | None = None
        self._watcher: spot.SpotWatcher | None = None
        self._patience: asyncio.TimerHandle | None = None

    def start(self, environ: Mapping[str, str]) -> None:
        """Begin to watch, from the running loop."""
        loop = asyncio.get_running_loop()
        metadata, expected = InstanceMetadata.from_environment(environ), on_ec2(environ)
        self.first_look = loop.create_future()
        self._watcher = spot.SpotWatcher(
            metadata,
            loop,
            self.hear,
            expected=expected,
            looked=self._looked,
            every=spot.POLL_EVERY,
        )
        self._watcher.start()
        if metadata.disabled or not expected:
            self._looked()
        else:
            self._patience = loop.call_later(FIRST_LOOK, self._looked)

    def _looked(self) -> None:
        if self._patience is not None:
            self._patience.cancel()  # else it would wake the loop for nothing
        if not self.first_look.done():
            self.first_look.set_result(None)

    def stop(self) -> None:
        """Hear nothing more."""
        if self._watcher is not None:
            self._watcher.stop()

    def opened(self, session: Session) -> None:
        """A queue was taken up: its jobs are to find what was announced before."""
        if self._notice is not None:
            _show(self._notice, session.spot_notice)

    def hear(self, notice: Notice) -> None:
        """Act on one announcement."""
        left = notice.seconds_left(time.time())
        if notice.kind is NoticeKind.SPOT and left < -time.clock_gettime(time.CLOCK_BOOTTIME):
            # A machine that was stopped and started again may still be shown its former end.
            log.info("notice_ignored", notice=str(notice), why="it is from before this boot")
            return
        log.warning("notice", notice=str(notice), action=notice.action)
        match notice.kind:
            case NoticeKind.SPOT:
                self._let_jobs_know(notice)
                # What is hibernated goes on where it was.
                if notice.action != "hibernate":
                    self._leave(notice, left)
            case NoticeKind.REBALANCE:
                if self._notice is None or self._notice.kind is not NoticeKind.SPOT:
                    self._let_jobs_know(notice)
                if self._settings.rebalance == "drain":
                    self._leave(notice, None)
            case NoticeKind.MAINTENANCE:
                # Days ahead, and an orderly shutdown when it comes: for people to know.
                pass

    def _let_jobs_know(self, notice: Notice) -> None:
        self._notice = notice
        for session in self._sessions():
            _show(notice, session.spot_notice)

    def _leave(self, notice: Notice, left: float | None) -> None:
        """``left``: seconds; the queues count them on the boot's clock."""
        if left is not None or self.leaving is None:
            self.leaving = str(notice)
        why, lead = str(notice), self._settings.spot_lead
        for session in self._sessions():
            if session.elsewhere:
                session.detach()  # its jobs go on where they are
                continue
            session.tell(
                lambda now: ev.SpotNotice(now, why, None if left is None else now.wall + left, lead)
            )


def _show(notice: Notice, path: Path) -> None:
    """Put the file in its place, whole, for any user to read. That it can't be stops nothing."""
    text = json.dumps({"action": notice.action, "time": rfc3339_seconds(notice.time)}) + "\n"
    try:
        replace_file(path, [text.encode()], durable=False)
    except OSError as error:
        log.warning("notice_not_shown", path=str(path), error=str(error))
