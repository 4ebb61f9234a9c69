"""How a service stops: it detaches from its jobs, or interrupts them and sees their logs stored.

Owns which of the two it is. SIGTERM detaches. When the machine goes down, jobs are interrupted:
they would not outlive it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence

import structlog

from runner.core import events as ev
from runner.host.shutdown import GRACE, machine_goes_down
from runner.service.service_changes import ServiceChanges
from runner.service.session import Session

log = structlog.get_logger()


class ServiceStop:
    """``stopping``: no queue is taken up any more; ``ending_jobs``: running jobs are ended too."""

    def __init__(self, sessions: Callable[[], Sequence[Session]], changes: ServiceChanges) -> None:
        self.stopping = False
        self.ending_jobs = False
        self._sessions = sessions
        self._changes = changes
        self._leaving: asyncio.Task[None] | None = None

    def on_signal(self, number: signal.Signals) -> None:
        """Stop: detach, or end the jobs in order where the machine goes down."""
        self.stopping = True
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave_or_end(number))

    async def _leave_or_end(self, number: signal.Signals) -> None:
        """Jobs outlive the service, but not the machine: there they get an orderly end."""
        if await asyncio.to_thread(machine_goes_down):
            log.info("machine_goes_down", hint="jobs are interrupted, and resumed after the boot")
            for session in self._sessions():
                if session.elsewhere:
                    session.detach()  # its jobs don't go down
            self.end_jobs("the machine was shut down", GRACE)
            return
        log.info(
            "detaching",
            signal=number.name,
            hint="jobs go on, and the next start adopts them; `runner stop` ends them",
        )
        self.detach()

    def detach(self) -> None:
        """Leave every queue; its jobs go on, and the next start adopts them."""
        self.stopping = True
        self.ending_jobs = False
        self._changes.notifier.stopping()
        self._changes.wake.set()
        for session in self._sessions():
            session.detach()

    def end_jobs(self, why: str, grace: float | None = None) -> None:
        """Interrupt what runs, see its logs and the state stored, and go."""
        sessions = self._sessions()
        if not sessions:
            self.detach()
            return
        self.stopping = True
        self.ending_jobs = True
        self._changes.notifier.stopping(slowly=True)
        for session in sessions:
            session.tell(lambda now: ev.InterruptRequested(now, why, grace))
        self._changes.wake.set()
