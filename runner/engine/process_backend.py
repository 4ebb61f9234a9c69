"""The attempts of one session: started, signalled, found again, and what they tell as events.

Owns the shims and their record file; knows the scheduler's records but never changes them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from runner.core import events as ev
from runner.core.actions import StartAttempt
from runner.core.attempts import start_number
from runner.core.scheduler import Scheduler
from runner.engine.backend import AttemptFiles, StoreOwnership
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.engine.file_sync import sync_for
from runner.engine.fingerprints import Fingerprints
from runner.engine.local_files import LocalFiles
from runner.engine.secret_fetches import Delayed, Fetched, Ready, SecretRefused
from runner.engine.signals import end_background, signal_attempt
from runner.engine.start_preparation import AGAIN_AFTER, StartPreparation
from runner.engine.strays import Stray, end_stray, strays
from runner.process.adoption import FoundAttempt, Survivors, examine
from runner.process.identity import Process, boot_id
from runner.process.shim_records import Exit, ShimRecordFile, Work
from runner.process.spawner import Request, Spawner

if TYPE_CHECKING:
    from runner.results.fingerprint.examination import Subject

STRAY_GRACE = 10.0
"""Seconds at most between SIGTERM and SIGKILL for an attempt that the state knows nothing of."""

END_AGAIN_AFTER = 1.0

ENDERS = 64
"""Threads that end trees: none waits for another's grace, or for a disk that syncs slowly."""

SYNCERS = 8
"""Threads that sync file systems: of their own, so that a slow disk holds up nothing else."""

DURABLE_AFTER = 1.0
"""Seconds an attempt has to have run for its files to be synced before it is called completed."""

_DONE = ev.Exited(0)


class ProcessBackend:
    """See SpawnerListener for what its shims call; ``post`` takes the events that come of it.

    ``short_of_space`` tells whether the disk is, at an attempt's end.
    """

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        post: Callable[[ev.Event], None],
        short_of_space: Callable[[], bool],
    ) -> None:
        self.all_found = False
        self._context = context
        self._scheduler = scheduler
        self.boot_id = boot_id()
        self._post = post
        self._short_of_space = short_of_space
        self._loop = asyncio.get_running_loop()
        self._shim_records = ShimRecordFile.open(str(context.paths.shim_records))
        base = {**context.environment, **scheduler.document.env}
        self._spawner = Spawner(
            self._shim_records, self, base, context.user, context.jobs_unit, context.forkers
        )
        self._survivors = Survivors(self._shim_records, self._spawner, self)
        self._fingerprints = Fingerprints(context, scheduler, post)
        self._preparation = StartPreparation(context, scheduler, post, self._on_prepared)
        self._enders = ThreadPoolExecutor(ENDERS, thread_name_prefix="ender")
        self._syncers = ThreadPoolExecutor(SYNCERS, thread_name_prefix="syncer")
        self._tokens: dict[str, int] = {}
        self._surviving: set[str] = set()
        self._may_tell = False
        self._closed = False

    def files(self, ownership: StoreOwnership | None) -> AttemptFiles:
        """See AttemptBackend."""
        post, prints = self._post, self._fingerprints
        return LocalFiles(self._context, self._scheduler, post, ownership, prints)

    def warm_up(self) -> None:
        """Have a shim ready before the first job needs it."""
        self._spawner.warm_up()

    def start(self, action: StartAttempt) -> None:
        """Hand an attempt to a shim, once it is made ready."""
        self._tokens[action.token] = action.job
        self._preparation.begin(action)

    def _on_prepared(self, action: StartAttempt, found: Fetched) -> None:
        match found:
            case Ready(values) if not values or self._scheduler.may_start:
                self._hand_over(action, values)
            case Ready():
                # Paused, or the machine is about to go: it had not begun, and doesn't now.
                self._void(action.token, None, 0.0)
            case Delayed(reason, seconds):
                self._void(action.token, reason, seconds)
            case SecretRefused(message):
                self._refuse(action, message)

    def _refuse(self, action: StartAttempt, message: str) -> None:
        """The attempt ends before it has begun, with logs that say nothing."""
        logs, job_id = self._context.logs, self._scheduler.document.jobs[action.job].job_id
        try:
            logs.rotate(job_id, action.previous)
            logs.leave_empty(job_id)
        except OSError as error:
            self._could_not_start(action, error)
            return
        moment = now()
        self.ended(action.token, Exit("unrunnable", message, moment.mono, moment.wall), None, False)

    def _could_not_start(self, action: StartAttempt, error: OSError) -> None:
        self._void(action.token, f"could not be started: {error.strerror or error}", AGAIN_AFTER)

    def _hand_over(self, action: StartAttempt, secrets: Mapping[str, str]) -> None:
        """One that the system refuses is void for a while."""
        document = self._scheduler.document
        job = document.jobs[action.job]
        logs = self._context.logs
        cwd = self._context.working_directory(document, job)
        try:
            logs.rotate(job.job_id, action.previous)
            self._spawner.start(
                Request(
                    token=action.token,
                    slot=action.slot,
                    command=job.command,
                    cwd=cwd,
                    environment=self._context.variables(job, action, cwd, secrets),
                    stdout=logs.newest(job.job_id, "stdout"),
                    stderr=logs.newest(job.job_id, "stderr"),
                    keep_background=job.keep_background,
                    work=Work(action.job, action.attempt),
                    shell=document.shell(job),
                    make_cwd=document.makes_folder(job),
                )
            )
        except OSError as error:
            self._could_not_start(action, error)

    def signal(self, job: int, token: str, slot: int, kill: bool) -> None:
        """SIGTERM or SIGKILL its whole tree."""
        self._tokens[token] = job
        if self._preparation.call_off(token):
            self.voided(token, None)
            return
        shim = self._shim_of(token)
        if shim is None and not self._spawner.knows(token):
            return  # it has ended by itself, and that is about to be told
        work = self._loop.run_in_executor(
            self._enders,
            signal_attempt,
            self._shim_records,
            slot,
            token,
            shim,
            self._context.group(token),
            kill,
        )

        def done(future: asyncio.Future[bool]) -> None:
            if not self._closed and not future.cancelled() and future.result():
                self.voided(token, None)

        work.add_done_callback(done)

    def _shim_of(self, token: str) -> Process | None:
        return self._spawner.hold(token) or self._survivors.shim_of(token)

    def end_background(self, job: int, token: str) -> None:
        """The end of its shim tells that it is done; one that is dead has nobody to say so."""
        self._tokens[token] = job
        shim = self._shim_of(token)
        if shim is not None:
            mark, group = self._shim_records.mark, self._context.group(token)
            self._loop.run_in_executor(self._enders, end_background, shim, mark, group)
        elif not self._spawner.knows(token):
            self.background_ended(token)

    # -- what the attempts tell (SpawnerListener) --------------------------------------------

    def started(self, token: str, pid: int | None, since: float, adopted: bool) -> None:
        """See SpawnerListener."""
        job = self._tokens[token]
        self._post(ev.AttemptStarted(now(), job, token, pid, since, adopted))

    def ended(self, token: str, end: Exit | None, since: float | None, background: bool) -> None:
        """See SpawnerListener. What ran for a while is synced before it counts as completed."""
        job = self._tokens[token]
        outcome = _outcome(end)
        duration = None
        if end is not None and since is not None:
            duration = max(0.0, end.mono - since)
        event = ev.AttemptEnded(
            now=now(),
            job=job,
            token=token,
            outcome=outcome,
            ended_at=end.wall if end else None,
            duration=duration,
            draw=random.random(),
            background=background,
            usage=ev.Usage(*end.usage) if end is not None and end.usage is not None else None,
            short_of_space=outcome != _DONE and self._short_of_space(),
        )
        synced = outcome == _DONE and duration is not None and duration >= DURABLE_AFTER
        inputs = outcome == _DONE and bool(self._scheduler.document.jobs[job].inputs)
        if not (synced or inputs):
            self._report(token, event)
            return
        subject = self._fingerprints.subject(job) if inputs else None
        work = self._loop.run_in_executor(self._syncers, self._before_end, job, subject, synced)

        def done(_: asyncio.Future[None]) -> None:
            if not self._closed:
                self._report(token, event)

        work.add_done_callback(done)

    def _before_end(self, job: int, subject: Subject | None, sync: bool) -> None:
        """What is done before a job is called completed. In a thread."""
        document = self._scheduler.document
        described = document.jobs[job]
        if subject is not None:
            self._fingerprints.seal(job, self._scheduler.jobs[job].attempt, subject)
        if sync:
            folder = self._context.working_directory(document, described)
            paths = [result.path for result in described.kept_paths]
            sync_for(folder, paths, self._context.rights)

    def voided(self, token: str, reason: str | None) -> None:
        """See SpawnerListener."""
        self._void(token, reason, AGAIN_AFTER if reason else 0.0)

    def _void(self, token: str, reason: str | None, delay: float) -> None:
        job = self._tokens.get(token)
        # None: it was told before. Its shim and each signal may find that it hadn't begun.
        if job is not None:
            self._report(token, ev.AttemptVoided(now(), job, token, reason, delay))

    def background_ended(self, token: str) -> None:
        """See SpawnerListener."""
        self._report(token, ev.BackgroundEnded(now(), self._tokens[token], token))

    def _report(self, token: str, event: ev.Event) -> None:
        if not (isinstance(event, ev.AttemptEnded) and event.background):
            self._tokens.pop(token, None)
        self._post(event)
        if token in self._surviving:
            self._surviving.discard(token)
            self._tell_if_all_found()

    # -- survivors of the last session -------------------------------------------------------

    def find_survivors(self) -> None:
        """Account for every attempt of the session before, before anything new may start."""
        scheduler = self._scheduler
        known = set()
        for index in sorted(scheduler.live | scheduler.background):
            state = scheduler.jobs[index]
            live = state.live
            token = live.token if live else state.token
            slot = live.slot if live else state.slot
            assert token is not None and slot is not None
            self._tokens[token] = index
            known.add(token)
            self._find(index, token, slot, background=live is None)
        self._end_strays(known)

    def newest_start(self) -> int:
        """The highest number of a start of this run that the record of attempts holds."""
        run_id = self._scheduler.queue.run_id
        return max(
            (start_number(run_id, slot.token) for _, slot in self._shim_records.all()), default=0
        )

    def _end_strays(self, known: Set[str]) -> None:
        """End what the record of attempts holds and the state knows nothing of, before any start.

        The database may be older than its jobs: a log that was lost, a copy that was restored.
        """
        for stray in strays(self._shim_records, self.boot_id, known):
            self._surviving.add(stray.slot.token)
            self._end_stray(stray)

    def _end_stray(self, stray: Stray) -> None:
        if self._closed:
            return
        shim_records, user = self._shim_records, self._context.user
        group = self._context.group(stray.slot.token)
        grace = min(self._scheduler.document.term_grace, STRAY_GRACE)
        work = self._loop.run_in_executor(
            self._enders, end_stray, shim_records, stray, user, group, grace
        )
        work.add_done_callback(partial(self._on_stray_ended, stray))

    def _on_stray_ended(self, stray: Stray, work: asyncio.Future[bool]) -> None:
        if self._closed or work.cancelled():
            return
        if work.exception() is not None:
            # The system is short of something. Nothing starts before it is seen to be gone.
            self._loop.call_later(END_AGAIN_AFTER, self._end_stray, stray)
            return
        command = stray.slot.command
        if work.result():
            pid = command.pid if command else None
            self._post(ev.StrayEnded(now(), stray.slot.token, pid))
        self._surviving.discard(stray.slot.token)
        self._tell_if_all_found()

    def _find(self, index: int, token: str, slot: int, *, background: bool) -> None:
        keep = self._scheduler.document.jobs[index].keep_background
        found, state = examine(
            self._shim_records,
            slot,
            token,
            self.boot_id,
            self._context.user,
            self._context.group(token),
        )
        if found is FoundAttempt.ALIVE:
            self._survivors.adopt(token, slot, state, keep_background=keep, background=background)
            return
        self._surviving.add(token)
        live = self._scheduler.jobs[index].live
        if found is FoundAttempt.VOID and live is not None and live.since is None:
            self._void(token, None, 0.0)
        else:
            # Also when the file has lost it: it is known here that it was claimed.
            self._spawner.reap(token, slot, background=background)

    def survivors_may_be_told(self) -> None:
        """From now on SurvivorsTold may be posted: what must come before it has been."""
        self._may_tell = True
        self._tell_if_all_found()

    def _tell_if_all_found(self) -> None:
        if self._may_tell and not self._surviving:
            self._may_tell = False
            self.all_found = True
            self._post(ev.SurvivorsTold(now()))

    def ended_already(self, moment: ev.Now) -> Iterator[ev.CommandEnded]:
        """Commands that have ended before this moment, though their trees still go.

        An end that came before a stop was decided stands: look, before deciding.
        """
        for index in list(self._scheduler.live):
            live = self._scheduler.jobs[index].live
            if live is None or live.over:
                continue
            slot = self._shim_records.read(live.slot)
            if slot.token == live.token and slot.exit is not None:
                yield ev.CommandEnded(moment, index, live.token)

    def stop(self) -> None:
        """Let go: what runs goes on."""
        self._closed = True
        self._preparation.stop()
        self._survivors.close()
        self._spawner.close()
        self._enders.shutdown(wait=False, cancel_futures=True)
        self._syncers.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait for what is being ended, and close the slots. Blocks; after ``stop``."""
        # They use the slots' descriptor, and its number may be another file's in a moment.
        self._preparation.join()
        self._enders.shutdown(wait=True)
        self._shim_records.close()


def _outcome(end: Exit | None) -> ev.Outcome:
    if end is None:
        return ev.Lost(machine=False)
    match end.kind:
        case "exit":
            return ev.Exited(int(end.value))
        case "signal":
            return ev.Signalled(end.value)
        case _:
            return ev.NotRunnable(end.value)
