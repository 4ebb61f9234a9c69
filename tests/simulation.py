"""The whole engine on a clock of its own: a queue, a store, a machine, and what happens to them.

One seed is one scenario: a document, how each attempt goes, when the store fails, when the process
is killed between two effects, when the machine is taken away, when the clock is set. Run again it
is the same to the last event.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core_invariants import check, check_verdict

from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.core.scheduler import Scheduler
from runner.core.states import QUEUE_ENDED, JobStatus, QueueStatus
from runner.engine.simulated_backend import DONE, AttemptPlan, SimulatedMachine, Tree
from runner.engine.virtual_time import VirtualLoop
from runner.errors import DiskError
from runner.model.document import ArraySpec, JobSpec, QueueSpec, RetrySpec
from runner.model.elements import INDEX
from runner.model.graph import Graph
from runner.model.queue import ResultSpec
from runner.model.settings import Settings
from runner.model.units import in_units
from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.store import Entry, Stored, StoreError, Versioned
from runner.results.upload.source_file import SourceFile
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext, Session
from runner.store.database import Database

EPOCH = 1_700_000_000.0
SESSIONS = 12
"""Sessions that something may happen to; the next one is left in peace."""

LONGEST = 300.0
"""Seconds after which a session is ended in which nothing may come to an end: it is paused, say."""

A_DAY = 86_400.0


class Crash(KeyboardInterrupt):
    """The process is gone: a loop lets nothing else through."""


@dataclass
class Fate:
    """What happens at effects: each is counted, before and after it is done."""

    random: random.Random
    crash_in: int | None = None
    store_fails: float = 0.0
    disk_fails: float = 0.0
    effects: Counter[str] = field(default_factory=Counter)

    def effect(self, name: str) -> None:
        """An effect is about to come about, or has."""
        self.effects[name] += 1
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                raise Crash(name)

    @contextlib.contextmanager
    def around(self, name: str, failing: float, error: type[Exception]) -> Iterator[None]:
        """One effect. It may fail before, or after it was done: then nobody is told that it was."""
        self.effect(f"before {name}")
        if self.random.random() < failing:
            raise error(f"{name}: not done")
        yield
        self.effect(f"after {name}")
        if self.random.random() < failing:
            raise error(f"{name}: no answer")


class FickleStore(FolderStore):
    """A store elsewhere, as far as the engine can tell."""

    def __init__(self, root: Path, fate: Fate) -> None:
        super().__init__(root)
        self._fate = fate

    @property
    def local_folder(self) -> str | None:  # type: ignore[override]
        return None

    def _call(self, name: str) -> contextlib.AbstractContextManager[None]:
        return self._fate.around(name, self._fate.store_fails, StoreError)

    def put_file(
        self, key: str, source: SourceFile, *, durable: bool = False, link: bool = False
    ) -> Stored:
        with self._call("put_file"):
            return super().put_file(key, source, durable=durable)

    def put_bytes(self, key: str, data: bytes, *, durable: bool = False) -> None:
        with self._call("put_bytes"):
            super().put_bytes(key, data, durable=durable)

    def get_versioned(self, key: str) -> Versioned | None:
        with self._call("get"):
            return super().get_versioned(key)

    def get_file(self, key: str, target: int, size: int | None = None) -> bool:
        with self._call("get_file"):
            return super().get_file(key, target, size)

    def list(self, prefix: str) -> Iterator[Entry]:
        with self._call("list"):
            found = list(super().list(prefix))
        return iter(found)

    def delete(self, key: str) -> None:
        with self._call("delete"):
            super().delete(key)


class Scenario:
    """One seed's. Raises AssertionError, with what happened, where a promise is broken."""

    always_stores = False
    epoch_is_told = True

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.told: list[str] = []
        self.fate = Fate(self.random)
        self.repository = QueueRepository(folder / "state", folder / "logs")
        self.work = folder / "work"
        self.work.mkdir()
        self.settings = Settings(
            state_dir=self.repository.paths.root,
            log_dir=self.repository.log_dir,
            run_dir=folder,
            config_file=None,
            disk_reserve=0,
            upload_wait=20.0,
            upload_timeout=120.0,
        )
        self.queue = self._document()
        self.units: Sequence[JobSpec] = in_units(self.queue).jobs
        self.added = 0
        stores = self.random.random() < 0.7 or self.always_stores
        self.store = FickleStore(folder / "store", self.fate) if stores else None
        self.failing: dict[int, int] = {}
        self.ends: Counter[int] = Counter()
        self.ran: Counter[tuple[int, int]] = Counter()
        self.wrote: dict[int, str] = {}
        self.mono, self.epoch = 100.0, EPOCH
        self.machine = SimulatedMachine(
            self._plan, lambda: self.random.uniform(0, 0.05), self._claimed, self._ended
        )
        self.heartbeat = 30.0 if stores and self.random.random() < 0.5 else None

    # -- what there is -----------------------------------------------------------------------

    @property
    def jobs(self) -> Sequence[JobSpec]:
        """The units as the newest session has them: an array's elements are jobs, too, and what
        was added."""
        return self.units

    def _named(self, name: str) -> list[int]:
        """The units that a dependency's name means."""
        names = [unit.job_id for unit in self.units]
        return [at for at, each in enumerate(names) if name in (each, each.partition("[")[0])]

    def _out(self, unit: int) -> Path:
        return self.work / self.units[unit].result_paths[0].path

    def _document(self) -> QueueSpec:
        draw, jobs = self.random, []
        self.fans: dict[str, list[dict[str, Any]]] = {}
        sizes: dict[str, int] = {}
        for number in range(draw.randint(1, 6)):
            earlier = [f"j{n}" for n in range(number) if draw.random() < 0.4]
            run_if = draw.choice(("success",) * 6 + ("failure", "always")) if earlier else "success"
            retry = RetrySpec(draw.randint(1, 3), "fixed", base_delay=5.0)
            array = self._array(earlier, sizes)
            name = f"out{number}" if array is None else f"out{number}.{INDEX}"
            results = (ResultSpec(name),) if draw.random() < 0.5 else ()
            expands = None
            if array is None and draw.random() < 0.3:
                expands = f"fan{number}.json"
                self.fans[expands] = self._fan(number)
            jobs.append(
                JobSpec(
                    f"j{number}",
                    "true",
                    timeout=draw.choice((20.0, 600.0)),
                    depends_on=tuple(earlier),
                    run_if=run_if,
                    retry=retry if draw.random() < 0.5 else None,
                    result_paths=results,
                    array=array,
                    expands=expands,
                )
            )
            if array is not None:
                sizes[f"j{number}"] = array.size
        return QueueSpec(
            "q",
            "a queue",
            tuple(jobs),
            on_failure=draw.choice(("stop", "continue")),
            global_timeout=draw.choice((100.0, A_DAY)),
            max_parallel_jobs=draw.randint(1, 3),
            term_grace=5.0,
        )

    def _fan(self, number: int) -> list[dict[str, Any]]:
        """What a job leaves, as in its file; the same each time."""
        draw, jobs = self.random, []
        for part in range(draw.randint(0, 3)):
            job: dict[str, Any] = {"job_id": f"p{part}", "command": "true", "timeout": "20s"}
            job["depends_on"] = [f"p{n}" for n in range(part) if draw.random() < 0.4]
            if draw.random() < 0.5:
                job["result_paths"] = [f"out{number}.p{part}"]
            if draw.random() < 0.2:
                job["allow_failure"] = True
            jobs.append(job)
        return jobs

    def _array(self, earlier: list[str], sizes: dict[str, int]) -> ArraySpec | None:
        draw = self.random
        if draw.random() < 0.7:
            return None
        size = draw.randint(1, 4)
        alike = tuple(name for name in earlier if sizes.get(name) == size)
        elementwise = alike if draw.random() < 0.7 else ()
        return ArraySpec(size, draw.choice((None, None, 1, 2)), draw.random() < 0.2, elementwise)

    def _plan(self, job: int, attempt: int) -> AttemptPlan:
        failing = self.failing.setdefault(job, self.random.choice((0, 0, 0, 1, 2, 9)))
        fails = self.ends[job] < failing
        seconds = self.random.choice((0.01, 1.0, 10.0, 30.0))
        grace = self.random.choice((0.0, 1.0, 60.0))
        return AttemptPlan(seconds, ev.Exited(1) if fails else DONE, grace)

    def _claimed(self, tree: Tree) -> None:
        self.say(f"j{tree.job} attempt {tree.attempt} runs")
        self.ran[tree.job, tree.attempt] += 1
        self.wrote.pop(tree.job, None)
        assert self.ran[tree.job, tree.attempt] == 1, "one attempt has run twice"
        now = asyncio.get_running_loop().time()
        others = [t for t in self.machine.trees.values() if t is not tree and t.job == tree.job]
        assert not any(t.claimed is not None and t.ends > now for t in others), "two at once"
        # Without a store nothing is known of what there was before a boot.
        for name in self.jobs[tree.job].depends_on if self.store else ():
            for index in self._named(name):
                if self._has_to_be_there(tree.job, index):
                    assert self._out(index).exists(), f"it runs without what {name} wrote"

    def _has_to_be_there(self, job: int, before: int) -> bool:
        """Whether a job may rely on what another has written. A stopped queue makes nothing again
        for those that run after a failure, but what they have made themselves."""
        stopped = self.queue.on_failure == "stop" and self.jobs[job].run_if != "success"
        made_again = not stopped or self.jobs[before].run_if != "success"
        return bool(self.jobs[before].result_paths) and before in self.wrote and made_again

    def _ended(self, tree: Tree) -> None:
        self.say(f"j{tree.job} attempt {tree.attempt} ended {tree.outcome}")
        if isinstance(tree.outcome, ev.Exited):
            self.ends[tree.job] += 1
        if tree.outcome == DONE:
            self.wrote[tree.job] = f"{tree.job}/{tree.attempt}"
            if self.jobs[tree.job].result_paths:
                self._out(tree.job).write_text(self.wrote[tree.job])
            if (fan := self.jobs[tree.job].expands) is not None:
                (self.work / fan).write_text(json.dumps({"jobs": self.fans[fan]}))

    def say(self, what: str) -> None:
        """Note it for whoever has to find out why."""
        try:
            at = f"{asyncio.get_running_loop().time():10.3f}"
        except RuntimeError:
            at = f"{self.mono:10.3f}"
        self.told.append(f"{at} {what}")

    # -- what happens ------------------------------------------------------------------------

    def play(self) -> None:
        """From the first start to an end that nothing more can follow."""
        self.repository.create(self.queue, "run", anonymous=False, again=RunMode())
        for _ in range(SESSIONS):
            status = self._session(peace=False)
            self._between()
            if status in QUEUE_ENDED and self.random.random() < 0.8:
                break
        # Whoever stored nothing, or not the last of it, is taken up again for that.
        assert self._session(peace=True) in QUEUE_ENDED
        self._check_end()

    def _draw(self, peace: bool) -> None:
        draw, fate = self.random, self.fate
        fate.crash_in = None if peace or draw.random() < 0.3 else draw.randint(1, 120)
        fate.store_fails = 0.0 if peace else draw.choice((0.0, 0.0, 0.1, 0.5, 1.0))
        fate.disk_fails = 0.0 if peace else draw.choice((0.0, 0.0, 0.0, 0.2))
        self.say(f"crash in {fate.crash_in}, store {fate.store_fails}, disk {fate.disk_fails}")

    def _between(self) -> None:
        """Time passes; the machine may go, and the clock be set."""
        self.mono += self.random.choice((0.0, 0.5, 5.0, 100.0))
        if self.random.random() < 0.2:
            self.say("the machine boots")
            self.epoch += self.mono + self.random.uniform(10, 1000)
            self.mono = self.random.uniform(5, 50)
            self.machine.reboot()
            for job in list(self.wrote):
                if self.random.random() < 0.3:
                    self.say(f"what j{job} wrote was not on the disk")
                    if self.jobs[job].result_paths:
                        self._out(job).unlink(missing_ok=True)
        if self.random.random() < 0.1:
            self.epoch += self.random.choice((-A_DAY, -1.0, 1.0, 400 * A_DAY))

    def _session(self, peace: bool) -> QueueStatus | None:
        """One process's life; None if it was killed."""
        self._draw(peace)
        latency = (0.0, 0.001, 0.2) if peace else (0.0, 0.001, 0.2, 5.0)
        loop = VirtualLoop(self.epoch, self.mono, lambda: self.random.choice(latency))
        asyncio.set_event_loop(loop)
        try:
            status = loop.run_until_complete(self._live(loop, peace))
            self.say(f"it ends: {status.value}")
            return status
        except Crash as crash:
            self.say(f"killed at {crash}")
            return None
        finally:
            self.mono = loop.time()
            self._discard(asyncio.all_tasks(loop))
            asyncio.set_event_loop(None)
            loop.close()

    def _discard(self, tasks: set[asyncio.Task[Any]]) -> None:
        """Nothing of a killed process does anything any more, whenever its objects are freed."""
        self.fate.crash_in = 0
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            assert coroutine is not None
            with contextlib.suppress(BaseException):
                coroutine.close()

    async def _live(self, loop: VirtualLoop, peace: bool) -> QueueStatus:
        session = self._open()
        self._watch(session)
        try:
            if peace:
                status = await session.run(lambda now: ev.PauseRequested(now, False))
            else:
                for _ in range(self.random.choice((0, 0, 0, 1, 2))):
                    loop.call_later(self.random.uniform(0, 60), self._ask, session)
                loop.call_later(LONGEST, session.engine.detach)
                status = await session.run()
            check(session.scheduler)
            return status
        finally:
            with contextlib.suppress(Exception):
                session.close()

    def _open(self) -> Session:
        place = RunContext(
            {}, str(self.work), backend=self.machine.backend, results=self.store,
            heartbeat=self.heartbeat,
        )  # fmt: skip
        return Session(self.repository, self.settings, "q", place, self._observe, self.queue)

    def _watch(self, session: Session) -> None:
        """Count the effects on this machine: a commit, and a start."""
        database, backend, fate = session.database, session.engine.backend, self.fate
        self.units = session.scheduler.document.jobs
        commit, start = database.commit, backend.start

        def committing(*arguments: Any) -> None:
            fate.effect("before commit")
            if fate.random.random() < fate.disk_fails:
                raise DiskError("no room")
            commit(*arguments)
            fate.effect("after commit")

        def starting(*arguments: Any) -> None:
            fate.effect("before start")
            start(*arguments)
            fate.effect("after start")

        database.commit = committing  # type: ignore[method-assign]
        backend.start = starting  # type: ignore[method-assign]

    def _observe(self, entries: list[Any]) -> None:
        for entry in entries:
            self.say(f"told: {entry.job} {entry.event} {entry.detail or ''}")

    def _ask(self, session: Session) -> None:
        engine = session.engine
        wanted: Callable[[ev.Now], ev.Event] = self.random.choice(
            (
                lambda now: ev.CancelRequested(now, (self.random.randrange(len(self.jobs)),)),
                lambda now: ev.PauseRequested(now, True),
                lambda now: ev.PauseRequested(now, False),
                lambda now: ev.InterruptRequested(now, "asked to"),
                ev.RetryRequested,
                lambda now: ev.JobsAdded(now, (self._another(),)),
            )
        )
        event = wanted(engine.now())
        self.say(f"asked: {event}")
        engine.post(event)

    def _another(self) -> JobSpec:
        self.added += 1
        after = tuple(job.job_id for job in self.queue.jobs if self.random.random() < 0.2)
        return JobSpec(f"added{self.added}", "true", 20.0, depends_on=after)

    # -- what must hold ----------------------------------------------------------------------

    def _check_end(self) -> None:
        database = Database(self.repository.queue_paths("q").database)
        try:
            document, loaded = database.read_document(), database.load()
        finally:
            database.close()
        core = Scheduler(document, Graph(document.jobs), loaded.queue, loaded.jobs)
        self.units = core.document.jobs
        assert loaded.queue.status in QUEUE_ENDED, loaded.queue.status
        check(core)
        check_verdict(core)
        for index, state in enumerate(core.jobs):
            if state.status is JobStatus.COMPLETED:
                assert self.ran[index, state.attempt] == 1, f"j{index} completed and never ran"
                self._check_family(core, index)
        if self.store is not None and not loaded.queue.incomplete:
            self._check_store(core)

    def _check_family(self, core: Scheduler, index: int) -> None:
        job = core.document.jobs[index]
        if job.expands is not None:
            left = [f"{job.job_id}.{part['job_id']}" for part in self.fans[job.expands]]
            added = [name for name, parent in core.document.added.items() if parent == job.job_id]
            assert added == left, f"{job.job_id} has left {left}, and the queue has {added}"

    def _check_store(self, states: Scheduler) -> None:
        assert self.store is not None
        layout = Layout()
        projection = self.repository.queue_paths("q").projection.read_bytes()
        stored = json.loads(FolderStore.get_bytes(self.store, layout.state_key) or b"{}")
        signed = {name: stored.pop(name) for name in ("epoch", "holder", "claim")}
        assert signed["epoch"] == states.queue.epoch or not self.epoch_is_told
        assert stored == json.loads(projection), "the stored state is not the last"
        for index, (job, state) in enumerate(zip(self.jobs, states.jobs, strict=True)):
            if state.status is JobStatus.COMPLETED and job.result_paths:
                assert state.results_uploaded, f"{job.job_id}: {state.result_error}"
                key = layout.file_key(job.job_id, self._out(index).name)
                found = FolderStore.get_bytes(self.store, key)
                assert found == f"{index}/{state.attempt}".encode(), (job.job_id, found)


def run_scenario(seed: int, kind: type[Scenario] = Scenario) -> list[str]:
    """Play one scenario; what happened in it. Raises AssertionError that shows it."""
    folder = Path(tempfile.mkdtemp(prefix=f"simulated-{seed}-", dir=_memory()))
    before = random.getstate()
    random.seed(seed)
    scenario = kind(seed, folder)
    try:
        scenario.play()
    except Exception as error:
        last = "\n".join(scenario.told[-80:])
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{last}") from error
    finally:
        random.setstate(before)
        shutil.rmtree(folder, ignore_errors=True)
    return scenario.told


def _memory() -> str | None:
    """A folder in memory, where there is one: a power cut is told here, and not waited for."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
