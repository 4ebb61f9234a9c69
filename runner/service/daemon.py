"""``runner daemon``: has submitted queues worked on, in their order, and answers on its sockets.

Owns the lock of the state folder, and what starts, ends and asks the service. Its queues are the
Supervisor's, each in a session of its own. SIGTERM detaches: jobs go on, and the next start adopts
them; when the machine goes down it interrupts them instead.
"""

from __future__ import annotations

import asyncio
import grp
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import structlog

from runner.aws.platform import on_ec2
from runner.control.protocol import Peer
from runner.control.server import Server
from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.core.scheduler import StoryEntry
from runner.core.states import QueueStatus
from runner.engine.backoff import backoff
from runner.errors import ConflictError, EndedElsewhereError, ExitCode, RunnerError, UsageError
from runner.host import jobs_unit
from runner.host.metadata import InstanceMetadata
from runner.host.notify import Notifier
from runner.host.shutdown import GRACE, machine_goes_down
from runner.model.document import QueueSpec, parse_document
from runner.model.settings import Settings
from runner.process.limits import allow_descriptors, heeded
from runner.service import requests, supervisor
from runner.service.candidates import Candidates, error_text
from runner.service.environment import logins
from runner.service.garbage_collection import lastingly
from runner.service.job_user import JobUser
from runner.service.machine_end import MachineEnd, all_ended
from runner.service.offline import act_on_resting
from runner.service.queue_repository import QueueEntry, QueueRepository
from runner.service.read_throttle import ReadThrottle
from runner.service.session import RunContext, Session
from runner.service.spot_watch import SpotWatch
from runner.service.state_files import write_stale
from runner.service.status_text import TROUBLE, progress
from runner.service.submission import Submission
from runner.service.supervisor import Supervisor
from runner.service.views import StoredViews
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


class Daemon(requests.Host, supervisor.SessionListener):
    """The host of all submitted queues of one state folder. Made in the running loop."""

    def __init__(self, settings: Settings, user: JobUser) -> None:
        self.repository = QueueRepository(settings.state_dir, settings.log_dir)
        self.who = f"the daemon (pid {os.getpid()})"
        self.stored = StoredViews(self.repository.paths)
        self.throttle = ReadThrottle(lambda: bool(self._supervisor.sessions))
        self._settings = settings
        self._user = user
        self._context = RunContext(logins(os.environ, user.account), None, user.rights)
        self._wake = asyncio.Event()
        self._change: asyncio.Future[None] | None = None
        self._stopping = False
        self._leaving: asyncio.Task[None] | None = None
        self._ending_jobs = False
        self._notifier = Notifier(self._progress)
        self._candidates = Candidates(self.repository, settings)
        self._supervisor = Supervisor(
            self.repository, settings, self._candidates, lambda: self._context, self
        )
        self._spot = SpotWatch(settings, lambda: self._supervisor.sessions)
        self._end = MachineEnd(settings)
        self._intake = Submission(
            self.repository, settings, lambda: self._context, self.session_of, self._until_left
        )
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
        prepare_folders(self.repository.paths)
        lock = Lock(
            self.repository.paths.daemon_lock, f"{self.repository.paths.root}", "runner daemon"
        )
        self._context = replace(self._context, jobs_unit=_jobs_unit())
        servers = [
            self._server("runner.sock", 0o660, may_act=True),
            self._server("runner-ro.sock", 0o666, may_act=False),
        ]
        loop = asyncio.get_running_loop()
        for number in heeded((signal.SIGTERM, signal.SIGINT)):
            loop.add_signal_handler(number, self._on_signal, number)
        if heeded((signal.SIGHUP,)):
            loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        try:
            for server in servers:
                await server.start(_group())
            self._say_started()
            self._spot.start(os.environ)
            await asyncio.to_thread(self._begin_life, None)
            naming = asyncio.create_task(self._name_life())
            try:
                await self._serve()
            finally:
                naming.cancel()
                await asyncio.wait([naming])
        finally:
            self._spot.stop()
            for server in servers:
                await server.close()
            lock.release()
            self.throttle.close()
            self._notifier.close()
            log.info("daemon_stopped")

    def _say_started(self) -> None:
        root, name = str(self.repository.paths.root), self._user.account.pw_name
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
        metadata, tries = InstanceMetadata.from_environment(os.environ), 0
        while (instance := await asyncio.to_thread(metadata.instance_id)) is None:
            if metadata.disabled:
                return
            tries += 1
            await asyncio.sleep(backoff(tries))
        self._instance = instance
        await asyncio.to_thread(self._begin_life, instance)
        self._wake.set()

    def _server(self, name: str, mode: int, *, may_act: bool) -> Server:
        path = self._settings.run_dir / name
        # Without a group of our own the socket has this user's, and that may hold strangers.
        uids = {0, os.geteuid()} if may_act and _group() is None else None
        return Server(self._answer, path, mode=mode, may_act=may_act, uids=uids)

    async def _answer(self, message: dict[str, Any], peer: Peer) -> dict[str, Any]:
        if message["request"] in requests.ACTING:
            log.info("request", request=message["request"], uid=peer.uid, peer_pid=peer.pid)
        return await requests.answer(self, message, peer)

    # -- working on queues -------------------------------------------------------------------

    async def _serve(self) -> None:
        """Keep queues attended until told to stop, and see every one of them left then."""
        await self._look_at_kept()
        self._notifier.ready_within(READY_WITHIN)
        pruning: asyncio.Task[None] | None = None
        while not self._stopping:
            # Before anything is awaited: what wakes us meanwhile, an end above all, is seen below.
            self._wake.clear()
            if time.monotonic() >= self._prune_at:
                self._prune_at = time.monotonic() + PRUNE_EVERY
                pruning = asyncio.create_task(self._prune())
            touched = self.repository.touched()
            wait = min(await self._take_up(), self._prune_at - time.monotonic())
            if self._supervisor.idle:
                self._notifier.ready()
            if not self._supervisor.idle or not self._end.watches:
                await self._sleep(wait)
            elif await self._consider_end():
                await self._rest(touched, min(wait, REST_AT_MOST))
            else:
                await self._sleep(min(wait, LOOK_AROUND))
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
            for name in await asyncio.to_thread(write_stale, self.repository):
                log.info("queue_state_rewritten", queue=name)
            self._candidates.find_incomplete(await asyncio.to_thread(self.repository.entries))
        except Exception as error:
            log.error("kept_queues_unknown", error=error_text(error), exc_info=_bug(error))

    async def _consider_end(self) -> bool:
        """Plan the machine's end if all queues have ended; whether they have."""
        if self._stopping or self.why_not() is not None or self._candidates.finishing:
            return False
        try:
            entries = await asyncio.to_thread(self.repository.entries)
            ends = await asyncio.to_thread(all_ended, entries, self.repository)
            if self._supervisor.idle and not self._wake.is_set():
                self._end.consider(ends)
                return ends is not None
        except Exception as error:
            log.error("machine_end_unknown", error=error_text(error), exc_info=_bug(error))
        return False

    async def _rest(self, touched: tuple[int, ...], seconds: float) -> None:
        """Look no more at hundreds of ended queues until one of them may have been taken up."""
        until = time.monotonic() + seconds
        while not self._wake.is_set() and (left := until - time.monotonic()) > 0:
            await self._sleep(min(left, LOOK_AROUND))
            if self.repository.touched() != touched:
                return

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), max(0.0, seconds))
        except TimeoutError:
            pass

    async def _prune(self) -> None:
        """In a thread: a job may have left a million files."""
        try:
            for name in await asyncio.to_thread(
                self.repository.prune, self._settings.queue_retention
            ):
                log.info("queue_pruned", queue=name)
        except Exception as error:
            log.error("prune_failed", error=error_text(error), exc_info=_bug(error))

    # -- what the supervisor tells (Listener) ------------------------------------------------

    def why_not(self) -> str | None:
        """See Listener."""
        if self._stopping:
            return "the service ends"
        return self._spot.leaving or self._end.over

    def taking_up(self) -> None:
        """See Listener."""
        self._end.call_off()

    def opened(self, session: Session) -> None:
        """See Listener."""
        self._spot.opened(session)

    def begun(self) -> None:
        """See Listener."""
        self._notifier.ready()

    def story(self, session: Session, entries: list[StoryEntry]) -> None:
        """See Listener."""
        for entry in entries:
            job = None if entry.job is None else session.job_ids[entry.job]
            fields = {"queue": session.name, "job": job, **(entry.detail or {})}
            say = log.warning if entry.event in TROUBLE else log.info
            say(entry.event, **{k: v for k, v in fields.items() if v is not None})

    def went_on(self, *, queue: bool) -> None:
        """See Listener."""
        self._notifier.changed()
        # A thousand who wait for the queue are not woken for each of its jobs.
        if queue:
            self._tell_change()

    def left(self) -> None:
        """See Listener."""
        self._wake.set()
        self._tell_change()

    def _tell_change(self) -> None:
        self._notifier.changed()
        change, self._change = self._change, None
        if change is not None and not change.done():
            change.set_result(None)

    def _progress(self) -> str:
        sessions = self._supervisor.sessions
        if self._stopping and not self._ending_jobs:
            return "detached: jobs go on, and the next start adopts them"
        if sessions:
            text = "; ".join(progress(session) for session in sessions)
            return text + ("; ending its jobs" if self._ending_jobs else "")
        waiting = self._candidates.troubles()
        if waiting:
            return "; ".join(f"{name} waits: {why}" for name, why in waiting.items())
        return "no queue to work on"

    # -- stopping ----------------------------------------------------------------------------

    def _on_reload(self) -> None:
        """SIGHUP. Settings are read once, so there is nothing to do, and that is said."""
        log.info("nothing_reloaded", hint="settings are read at the start; a restart ends no job")
        self._notifier.reloaded()

    def _on_signal(self, number: signal.Signals) -> None:
        self._stopping = True
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave_or_end(number))

    async def _leave_or_end(self, number: signal.Signals) -> None:
        """Jobs outlive the service, but not the machine: there they get an orderly end."""
        if await asyncio.to_thread(machine_goes_down):
            log.info("machine_goes_down", hint="jobs are interrupted, and resumed after the boot")
            self._end_jobs("the machine was shut down", GRACE)
            return
        log.info(
            "detaching",
            signal=number.name,
            hint="jobs go on, and the next start adopts them; `runner stop` ends them",
        )
        self._leave()

    def _leave(self) -> None:
        self._stopping = True
        self._ending_jobs = False
        self._notifier.stopping()
        self._wake.set()
        for session in self._supervisor.sessions:
            session.detach()

    async def stop(self, *, interrupt: bool) -> None:
        """See Host."""
        if interrupt:
            self._end_jobs("interrupted by runner stop")
        else:
            self._leave()

    def _end_jobs(self, why: str, grace: float | None = None) -> None:
        """Interrupt what runs, see its logs and the state stored, and go."""
        sessions = self._supervisor.sessions
        if not sessions:
            self._leave()
            return
        self._stopping = True
        self._ending_jobs = True
        self._notifier.stopping(slowly=True)
        for session in sessions:
            session.tell(lambda now: ev.InterruptRequested(now, why, grace))
        self._wake.set()

    # -- requests (Host) ---------------------------------------------------------------------

    def session_of(self, name: str) -> Session | None:
        """See Host."""
        return self._supervisor.session_of(name)

    def pending_action(self, name: str, owner: str | None) -> Mapping[str, str]:
        """See Place. Called in the reader's thread: it only looks things up."""
        if (trouble := self._candidates.trouble(name)) is not None:
            # What is damaged waits for a person, and not in the line.
            queued = {} if trouble.until is None else {"queued": self.who}
            return {**queued, "blocked": trouble.why}
        if owner != "daemon":
            return {}
        if (why := self._spot.leaving or self._end.over) is not None:
            return {"blocked": why}
        behind = self._supervisor.behind
        if not behind or name in behind:
            return {"queued": self.who}
        one = "queue" if len(behind) == 1 else "one of the queues"
        names = ", ".join(f"'{each}'" for each in behind)
        broken = [f"'{each}'" for each in behind if not self._supervisor.attends(each)]
        more = f" (jobs of {', '.join(broken)} still run)" if broken else ""
        return {"queued": self.who, "blocked": f"waits for {one} {names} to end{more}"}

    def changed(self) -> asyncio.Future[None]:
        """See Host."""
        if self._change is None or self._change.done():
            self._change = asyncio.get_running_loop().create_future()
        return self._change

    async def submit(self, raw: bytes, again: RunMode) -> dict[str, Any]:
        """See Host."""
        # A large document takes seconds: not on the loop.
        given = await asyncio.to_thread(lastingly, parse_document, raw)
        try:
            async with self._intake.named(given, again) as document:
                return await self._accept(document, again, anonymous=given.queue_id is None)
        except EndedElsewhereError as error:
            # Not as an error: the outcome's code may be 0, and no error's is.
            return {
                "queue_id": given.queue_id,
                "created": False,
                "status": error.status,
                "elsewhere": str(error),
                "results_incomplete": error.exit_code is ExitCode.RESULTS_INCOMPLETE,
            }

    async def _accept(
        self, document: QueueSpec, again: RunMode, *, anonymous: bool
    ) -> dict[str, Any]:
        queue_id = str(document.queue_id)
        async with self._supervisor.handling(queue_id):
            # Before it is accepted: afterwards nobody may end the machine for want of work.
            self._end.call_off()
            created = again.fresh or not self.repository.exists(queue_id)
            await self._intake.accept(document, again, anonymous=anonymous)
        self._candidates.forgive(queue_id)
        self._wake.set()
        # It is accepted, whatever the disk gives of it in this moment.
        entry = await asyncio.to_thread(self.repository.find, queue_id)
        status = entry.queue.status if entry.queue is not None else QueueStatus.PENDING
        work = str(self.repository.queue_paths(queue_id).work)
        answer = {"queue_id": queue_id, "created": created, "status": status.value}
        return {**answer, "work_dir": document.working_directory or work}

    async def _until_left(self, name: str) -> None:
        while self.session_of(name) is not None:
            change = self.changed()
            if self.session_of(name) is not None:
                await change

    async def finish_uploads(self, entry: QueueEntry) -> None:
        """See Host."""
        if entry.meta.get("owner") != "daemon":
            raise ConflictError(
                f"queue '{entry.name}' was run in the foreground: the same command finishes it"
            )
        self._candidates.forgive(entry.name)
        self._candidates.finishing.add(entry.name)
        self._wake.set()
        while entry.name in self._candidates.finishing and not self._stopping:
            if (why := self.why_not()) is not None:
                raise ConflictError(f"nothing is taken up any more: {why}")
            if self._candidates.trouble(entry.name) is not None:
                break
            await self.changed()
        if (trouble := self._candidates.trouble(entry.name)) is not None:
            raise UsageError(trouble.why)

    async def act_on_resting(self, entry: QueueEntry, make: Callable[[ev.Now], ev.Event]) -> None:
        """See Host."""
        async with self._supervisor.handling(entry.name):
            session = self.session_of(entry.name)
            if session is None:
                self._end.call_off()
                # Of a large queue it takes seconds: on a loop of its own, beside those that run.
                acting = act_on_resting(self.repository, self._settings, entry, self._context, make)
                await asyncio.to_thread(lastingly, asyncio.run, acting)
        if session is not None:
            # It was taken up while we waited.
            await session.request(make)
            return
        self._wake.set()
        self._tell_change()


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
