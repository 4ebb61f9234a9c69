"""``runner daemon``: the service that works on submitted queues and answers on its sockets.

Owns the lock of the state folder, the service loop, and how the service starts. Its queues are the
Supervisor's, each in a session of its own; DaemonHost answers requests; ServiceStop ends it.
"""

from __future__ import annotations

import asyncio
import grp
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import structlog

from runner.aws.platform import on_ec2
from runner.control.protocol import Peer
from runner.control.server import Server
from runner.core.scheduler import StoryEntry
from runner.engine.backoff import backoff
from runner.errors import RunnerError
from runner.host import jobs_unit
from runner.host.metadata import InstanceMetadata
from runner.host.notify import Notifier
from runner.model.settings import Settings
from runner.process.limits import allow_descriptors, heeded
from runner.service import request_table
from runner.service.batch_queues import BatchQueues, MakeCommands
from runner.service.candidates import Candidates, error_text
from runner.service.daemon_host import DaemonHost
from runner.service.environment import logins
from runner.service.job_user import JobUser
from runner.service.machine_end import MachineEnd, all_ended
from runner.service.notices.late import LateNotices
from runner.service.queue_repository import QueueRepository
from runner.service.retention import prune
from runner.service.service_changes import ServiceChanges
from runner.service.service_stop import ServiceStop
from runner.service.session import RunContext, Session
from runner.service.spot_watch import SpotWatch
from runner.service.state_files import write_stale
from runner.service.status_text import TROUBLE, progress
from runner.service.supervisor import SessionListener, Supervisor
from runner.store.locks import Lock
from runner.store.paths import prepare_folders

MAX_DESCRIPTORS = 8192
SWITCH_EVERY = 0.001
"""Seconds for which one thread may compute while another wants to."""

BLOCKING_CALLS = 32
"""Calls that block at once: what one queue's disk or bucket keeps waiting keeps no other's."""

PRUNE_EVERY = 24 * 3600.0
LOOK_AROUND = 10.0
"""Seconds between two looks at whether all work is done, if the machine is to end then."""

REST_AT_MOST = 600.0
"""Seconds for which kept queues that have all ended are not looked at, while nobody locks one."""

LOOK_AGAIN = 5.0
"""Seconds after which the queues are looked for again, where that couldn't be done."""

READY_WITHIN = 10.0
"""Seconds, once it is known what there is to do: a result store that doesn't answer must not look
like a daemon that doesn't start."""

log = structlog.get_logger()


class Daemon(SessionListener):
    """The service of one state folder: its loop, signals and sockets. Made in the running loop.

    ``commands``: what the containers of queues on AWS Batch run, None: it takes no such queues;
    ``every``: seconds between two looks at a job there.
    """

    def __init__(
        self,
        settings: Settings,
        user: JobUser,
        commands: MakeCommands | None = None,
        every: float | None = None,
    ) -> None:
        repository = QueueRepository(settings.state_dir, settings.log_dir)
        self._repository = repository
        self._settings = settings
        self._user = user
        context = RunContext(logins(os.environ, user.account), None, user.rights)
        self._notices = LateNotices(repository, settings, context)
        self._context = replace(context, courier=self._notices.courier)
        self._notifier = Notifier(self._progress)
        self._changes = ServiceChanges(self._notifier)
        self._candidates = Candidates(repository, settings)
        batch = BatchQueues(settings, commands, lambda said: log.warning("batch", note=said), every)
        self._supervisor = Supervisor(
            repository, settings, self._candidates, lambda: self._context, batch, self
        )
        self._stop = ServiceStop(lambda: self._supervisor.sessions, self._changes)
        self._spot = SpotWatch(settings, lambda: self._supervisor.sessions)
        self._end = MachineEnd(settings)
        self.host = DaemonHost(
            repository, settings, lambda: self._context, batch, self._candidates,
            self._supervisor, self._spot, self._end, self._stop, self._changes,
        )  # fmt: skip
        self._notices.note_in(self.host)
        self._prune_at = 0.0
        self._instance: str | None = None
        if on_ec2(os.environ):
            # Elsewhere nobody else comes up with the same disk or document.
            self._context = replace(
                self._context, heartbeat=settings.heartbeat, instance=lambda: self._instance
            )

    async def run(self) -> None:
        """Serve until told to stop. Raises LockedError if there is a daemon here already."""
        # Threads that compute (a large document, a queue's steps) leave each other alone soon.
        sys.setswitchinterval(SWITCH_EVERY)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(BLOCKING_CALLS))
        # A thousand clients need a thousand; jobs get back the limit we began with.
        allow_descriptors(MAX_DESCRIPTORS)
        if self._user.rights is not None:
            # What jobs are to see (logs, the spot notice) they can read.
            os.umask(0o022)
        prepare_folders(self._repository.paths)
        lock = Lock(
            self._repository.paths.daemon_lock, f"{self._repository.paths.root}", "runner daemon"
        )
        self._context = replace(self._context, jobs_unit=_jobs_unit())
        servers = [
            self._server("runner.sock", 0o660, may_act=True),
            self._server("runner-ro.sock", 0o666, may_act=False),
        ]
        loop = asyncio.get_running_loop()
        for number in heeded((signal.SIGTERM, signal.SIGINT)):
            loop.add_signal_handler(number, self._stop.on_signal, number)
        if heeded((signal.SIGHUP,)):
            loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        try:
            for server in servers:
                await server.start(_group())
            self._say_started()
            self._spot.start(os.environ)
            await asyncio.to_thread(self._begin_life, None)
            aside = [asyncio.create_task(self._name_life()), self.host.close_idle_queues()]
            try:
                await self._serve()
            finally:
                for task in aside:
                    task.cancel()
                await asyncio.wait(aside)
        finally:
            self._spot.stop()
            self._notices.close()
            for server in servers:
                await server.close()
            lock.release()
            self.host.throttle.close()
            self._notifier.close()
            log.info("daemon_stopped")

    def _say_started(self) -> None:
        root, name = str(self._repository.paths.root), self._user.account.pw_name
        log.info("daemon_started", state_dir=root, pid=os.getpid(), job_user=name)
        rights, group = self._user.rights, _group()
        if rights is not None and group in rights.groups:
            log.warning("jobs_may_act", why=f"{name} is in the group 'runner': its jobs can submit")

    def _begin_life(self, instance: str | None) -> None:
        try:
            self._end.start(instance)
        except Exception as error:
            log.error("machine_end_unknown", error=error_text(error), exc_info=_bug(error))

    async def _name_life(self) -> None:
        """A copy of a disk is another machine. Living jobs don't wait for who can tell."""
        if not on_ec2(os.environ):
            return
        stop = threading.Event()
        try:
            metadata = InstanceMetadata.from_environment(os.environ)
            instance = await asyncio.to_thread(_ask_name, metadata, stop)
        finally:
            stop.set()
        if instance is None:
            return
        self._instance = instance
        await asyncio.to_thread(self._begin_life, instance)
        self._changes.wake.set()

    def _server(self, name: str, mode: int, *, may_act: bool) -> Server:
        path = self._settings.run_dir / name
        # Without a group of our own the socket has this user's, and that may hold strangers.
        uids = {0, os.geteuid()} if may_act and _group() is None else None
        return Server(self._answer, path, mode=mode, may_act=may_act, uids=uids)

    async def _answer(self, message: dict[str, Any], peer: Peer) -> dict[str, Any]:
        if message["request"] in request_table.TOLD:
            log.info("request", request=message["request"], uid=peer.uid, peer_pid=peer.pid)
        return await request_table.answer(self.host, message, peer)

    # -- working on queues -------------------------------------------------------------------

    async def _serve(self) -> None:
        """Keep queues attended until told to stop, and see every one of them left then."""
        await self._look_at_kept()
        self._notifier.ready_within(READY_WITHIN)
        pruning: asyncio.Task[None] | None = None
        while not self._stop.stopping:
            # Before anything is awaited: what wakes us meanwhile, an end above all, is seen below.
            self._changes.wake.clear()
            if time.monotonic() >= self._prune_at:
                self._prune_at = time.monotonic() + PRUNE_EVERY
                pruning = asyncio.create_task(self._prune())
            touched = self._repository.touched()
            wait = min(await self._take_up(), self._prune_at - time.monotonic())
            if self._supervisor.idle:
                self._notifier.ready()
            if not self._supervisor.idle or not self._end.watches:
                await self._changes.sleep(wait)
            elif await self._consider_end():
                await self._rest(touched, min(wait, REST_AT_MOST))
            else:
                await self._changes.sleep(min(wait, LOOK_AROUND))
        await self._supervisor.finish()
        if pruning is not None:
            await pruning

    async def _take_up(self) -> float:
        try:
            return await self._supervisor.take_up(self._spot.first_look)
        except Exception as error:
            # No list of queues, for now: those that are worked on are.
            log.error("queues_unknown", error=error_text(error), exc_info=_bug(error))
            return LOOK_AGAIN

    async def _look_at_kept(self) -> None:
        """What the last service left undone of queues that have ended."""
        try:
            for name in await asyncio.to_thread(write_stale, self._repository):
                log.info("queue_state_rewritten", queue=name)
            entries = await asyncio.to_thread(self._repository.entries)
            self._candidates.find_incomplete(entries)
            await asyncio.to_thread(self._notices.tell_again, entries)
        except Exception as error:
            log.error("kept_queues_unknown", error=error_text(error), exc_info=_bug(error))

    async def _consider_end(self) -> bool:
        """Plan the machine's end if all queues have ended; whether they have."""
        if self._stop.stopping or self.why_not() is not None or self._candidates.finishing:
            return False
        if self._notices.courier.waits(self._settings.notify_wait):
            return False
        try:
            entries = await asyncio.to_thread(self._repository.entries)
            ends = await asyncio.to_thread(all_ended, entries, self._repository)
            if self._supervisor.idle and not self._changes.wake.is_set():
                self._end.consider(ends)
                return ends is not None
        except Exception as error:
            log.error("machine_end_unknown", error=error_text(error), exc_info=_bug(error))
        return False

    async def _rest(self, touched: tuple[int, ...], seconds: float) -> None:
        """Look no more at hundreds of ended queues until one of them may have been taken up."""
        until = time.monotonic() + seconds
        while not self._changes.wake.is_set() and (left := until - time.monotonic()) > 0:
            await self._changes.sleep(min(left, LOOK_AROUND))
            if self._repository.touched() != touched:
                return

    async def _prune(self) -> None:
        """In a thread: a job may have left a million files."""
        try:
            for name in await asyncio.to_thread(
                prune, self._repository, self._settings.queue_retention
            ):
                log.info("queue_pruned", queue=name)
        except Exception as error:
            log.error("prune_failed", error=error_text(error), exc_info=_bug(error))

    # -- what the supervisor tells (SessionListener) -----------------------------------------

    def why_not(self) -> str | None:
        """See SessionListener."""
        if self._stop.stopping:
            return "the service ends"
        return self._spot.leaving or self._end.over

    def taking_up(self) -> None:
        """See SessionListener."""
        self._end.call_off()

    def opened(self, session: Session) -> None:
        """See SessionListener."""
        self._spot.opened(session)

    def begun(self) -> None:
        """See SessionListener."""
        self._notifier.ready()

    def story(self, session: Session, entries: list[StoryEntry]) -> None:
        """See SessionListener."""
        for entry in entries:
            job = None if entry.job is None else session.names[entry.job]
            fields = {"queue": session.name, "job": job, **(entry.detail or {})}
            say = log.warning if entry.event in TROUBLE else log.info
            say(entry.event, **{k: v for k, v in fields.items() if v is not None})

    def went_on(self, name: str, *, queue: bool) -> None:
        """See SessionListener."""
        self._notifier.changed()
        self._changes.tell_of(name)
        # A thousand who wait for the queue are not woken for each of its jobs.
        if queue:
            self._changes.tell()

    def left(self) -> None:
        """See SessionListener."""
        self._changes.wake.set()
        self._changes.tell()

    def _progress(self) -> str:
        sessions = self._supervisor.sessions
        if self._stop.stopping and not self._stop.ending_jobs:
            return "detached: jobs go on, and the next start adopts them"
        if sessions:
            text = "; ".join(progress(session) for session in sessions)
            return text + ("; ending its jobs" if self._stop.ending_jobs else "")
        waiting = self._candidates.troubles()
        if waiting:
            return "; ".join(f"{name} waits: {why}" for name, why in waiting.items())
        return "no queue to work on"

    def _on_reload(self) -> None:
        """SIGHUP. Settings are read once, so there is nothing to do, and that is said."""
        log.info("nothing_reloaded", hint="settings are read at the start; a restart ends no job")
        self._notifier.reloaded()


def _bug(error: Exception) -> Exception | None:
    """The error, if its words alone would not tell where it came from."""
    return None if isinstance(error, RunnerError | OSError) else error


def _group() -> int | None:
    """The id of the group ``runner``, for a daemon that may hand its socket to it."""
    if os.geteuid() != 0:
        return None
    try:
        return grp.getgrnam("runner").gr_gid
    except KeyError:
        return None


def _jobs_unit() -> str | None:
    """The folder of the unit that jobs live in, ready for them."""
    folder = jobs_unit.find()
    if folder is None:
        return None
    try:
        jobs_unit.prepare(folder)
    except OSError as error:
        log.warning("jobs_unit_unusable", path=str(folder), why=str(error))
        return None
    return str(folder)


def _ask_name(metadata: InstanceMetadata, stop: threading.Event) -> str | None:
    """The instance's id, once it is told. Blocks: while the service is away the loop sleeps."""
    tries = 0
    while (instance := metadata.instance_id()) is None and not metadata.disabled:
        tries += 1
        if stop.wait(backoff(tries)):
            break
    return instance
