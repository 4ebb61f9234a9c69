"""A random walk: random queues, random events, crashes at every step; the invariants always hold.

Hypothesis prints the walk that failed, as small as it gets, and how to take it again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core_drain import run_to_the_end
from core_world import World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.model.document import ArraySpec, InputSpec, JobSpec, QueueSpec, ResultSpec, RetrySpec

MAX_JOBS = 6
PICK = st.integers(0, MAX_JOBS - 1)
OUTCOMES = st.sampled_from(
    [ev.Exited(0)] * 6
    + [ev.Exited(1)] * 3
    + [ev.Exited(9), ev.Signalled("SIGKILL"), ev.Lost(False), ev.NotRunnable("no such folder")]
)
STEPS = st.sampled_from([0.5, 3.0, 6.0, 25.0, 120.0])
RETRIES = [
    None,
    None,
    RetrySpec(2, "fixed", base_delay=5.0),
    RetrySpec(3, "exponential-jitter", base_delay=2.0, dont_retry_on_codes=(9,)),
]
# What brings the work to a stand is rarer than what moves it, or a walk would see little of it.
REQUESTS = st.sampled_from(
    ["retry"] * 4
    + ["unpause", "unblock", "release"] * 3
    + ["cancel", "pause", "block", "fill", "interrupt", "kill", "spot", "spot later", "rebalance"]
)
INPUTS = (InputSpec("s3://bucket/key", "in/"),)
SOME_JOBS = st.lists(PICK, min_size=1, max_size=2)


@st.composite
def documents(draw: st.DrawFn) -> QueueSpec:
    """Small queues in which everything can happen."""
    count = draw(st.integers(1, MAX_JOBS))
    backwards = draw(st.booleans())
    jobs = [_job(draw, number, count, backwards) for number in range(count)]
    return QueueSpec(
        "q",
        "a queue",
        tuple(_expanding(draw, _sound(jobs))),
        global_timeout=draw(st.sampled_from([90.0, 10_000.0])),
        on_failure=draw(st.sampled_from(["stop", "continue"])),
        max_failures=draw(st.sampled_from([None, None, 1, 2])),
        max_parallel_jobs=draw(st.integers(1, 3)),
        term_grace=4.0,
    )


def _job(draw: st.DrawFn, number: int, count: int, backwards: bool) -> JobSpec:
    others = range(number + 1, count) if backwards else range(number)
    needs = draw(st.lists(st.sampled_from(others), unique=True, max_size=3)) if others else []
    return JobSpec(
        f"j{number}",
        "true",
        timeout=20.0,
        depends_on=tuple(f"j{other}" for other in needs),
        run_if=draw(
            st.sampled_from(["success", "success", "failure", "always"] if needs else ["success"])
        ),
        retry=draw(st.sampled_from(RETRIES)),
        result_paths=(ResultSpec("out"),) if draw(st.booleans()) else (),
        output_paths=(ResultSpec("part"),) if draw(st.booleans()) else (),
        keep_background=draw(st.booleans()),
        input_paths=INPUTS if draw(st.booleans()) else (),
        checkpoint_paths=("saved",) if draw(st.booleans()) else (),
        inputs_in_timeout=draw(st.booleans()),
        hold=draw(st.sampled_from([False, False, False, True])),
        allow_failure=draw(st.sampled_from([False, False, True])),
        array=draw(arrays_after(tuple(f"j{other}" for other in sorted(needs)))),
    )


def arrays_after(needs: tuple[str, ...]) -> st.SearchStrategy[ArraySpec | None]:
    """Mostly none."""
    parallel = st.sampled_from([None, None, 1, 2])
    elementwise = st.sampled_from([(), needs])
    arrays = st.builds(ArraySpec, st.integers(1, 3), parallel, st.booleans(), elementwise)
    return st.one_of(st.none(), st.none(), arrays)


def _sound(jobs: list[JobSpec]) -> list[JobSpec]:
    """With no element to element but between arrays of one size."""
    sizes = {job.job_id: job.array.size for job in jobs if job.array is not None}
    return [
        job
        if job.array is None
        else replace(
            job,
            array=job.array._replace(
                elementwise=tuple(
                    name
                    for name in job.array.elementwise
                    if name in job.depends_on and sizes.get(name) == job.array.size
                ),
            ),
        )
        for job in jobs
    ]


EXPANDS = st.sampled_from([None] * 9 + ["0", "1", "2c", "2r", "3t", "1a", "2n"])


def _expanding(draw: st.DrawFn, jobs: list[JobSpec]) -> list[JobSpec]:
    """With some that expand to others."""
    return [job if job.array is not None else replace(job, expands=draw(EXPANDS)) for job in jobs]


AGAIN = st.builds(
    RunMode, retry_failed=st.booleans(), update=st.booleans(), rerun_changed=st.booleans()
).filter(lambda again: again.mends)


@st.composite
def amended(draw: st.DrawFn, old: QueueSpec) -> QueueSpec:
    """The same queue with some jobs corrected, gone, or new."""
    jobs = list(old.jobs)
    for at in draw(st.sets(st.integers(0, len(jobs) - 1), max_size=2)):
        changes: dict[str, Any] = draw(
            st.sampled_from(
                [
                    {"timeout": 21.0},
                    {"env": {"A": "1"}},
                    {"depends_on": (), "run_if": "success"},
                    {"array": None},
                    {"array": ArraySpec(2)},
                    {"array": ArraySpec(4, 1)},
                    {"array": None, "expands": "1"},
                ]
            )
        )
        jobs[at] = replace(jobs[at], **changes)
        if jobs[at].array is not None:
            jobs[at] = replace(jobs[at], expands=None)
    if len(jobs) > 1 and draw(st.integers(0, 3)) == 0:
        gone = jobs.pop(draw(st.integers(0, len(jobs) - 1))).job_id
        jobs = [_without(job, gone) for job in jobs]
    if len(jobs) < MAX_JOBS and draw(st.integers(0, 3)) == 0:
        needs = (jobs[-1].job_id,) if draw(st.booleans()) else ()
        number = 1 + max(int(job.job_id[1:]) for job in jobs)
        jobs.append(JobSpec(f"j{number}", "true", timeout=20.0, depends_on=needs))
    on_failure = draw(st.sampled_from([old.on_failure, old.on_failure, "stop", "continue"]))
    return replace(old, jobs=tuple(_sound(jobs)), on_failure=on_failure)


def _without(job: JobSpec, gone: str) -> JobSpec:
    needs = tuple(name for name in job.depends_on if name != gone)
    return replace(job, depends_on=needs, run_if=job.run_if if needs else "success")


class Walk(RuleBasedStateMachine):
    """What may happen next, in any order."""

    @initialize(document=documents(), collects=st.booleans())
    def begin(self, document: QueueSpec, collects: bool) -> None:
        self.world = World(document, collects=collects)

    def _pick(self, pick: int, *, claimed: bool) -> str:
        tokens = self.world.tokens(claimed=claimed)
        return tokens[pick % len(tokens)]

    @precondition(lambda self: self.world.tokens(claimed=False))
    @rule(pick=PICK, tell=st.booleans())
    def claim(self, pick: int, tell: bool) -> None:
        self.world.claim(self._pick(pick, claimed=False), tell=tell)

    @precondition(lambda self: self.world.tokens(claimed=False))
    @rule(pick=PICK, delay=st.sampled_from([0.0, 5.0]))
    def void(self, pick: int, delay: float) -> None:
        self.world.void(self._pick(pick, claimed=False), delay)

    @precondition(lambda self: self.world.tokens(claimed=False))
    @rule(outcome=OUTCOMES, kept=st.booleans())
    def run(self, outcome: ev.Outcome, kept: bool) -> None:
        """A whole attempt in one step: most walks should get somewhere."""
        token = self._pick(0, claimed=False)
        if token not in self.world.voids:
            self.world.claim(token, tell=True)
            self.world.end(token, outcome, kept=kept)
            self.world.tell_end(token)

    @precondition(lambda self: self.world.tokens(claimed=True))
    @rule(pick=PICK, outcome=OUTCOMES, kept=st.booleans())
    def end(self, pick: int, outcome: ev.Outcome, kept: bool) -> None:
        self.world.end(self._pick(pick, claimed=True), outcome, kept=kept)

    @precondition(lambda self: self.world.tokens(claimed=True))
    @rule(pick=PICK, outcome=OUTCOMES, kept=st.booleans(), commit=st.booleans())
    def tell_end(self, pick: int, outcome: ev.Outcome, kept: bool, commit: bool) -> None:
        token = self._pick(pick, claimed=True)
        self.world.end(token, outcome, kept=kept)
        self.world.tell_end(token, commit=commit)

    @precondition(lambda self: self.world.kept())
    @rule(pick=PICK)
    def end_kept(self, pick: int) -> None:
        kept = self.world.kept()
        self.world.end_kept(kept[pick % len(kept)])

    @precondition(lambda self: self.world.uploads)
    @rule(pick=PICK, how=st.sampled_from(["stored", "missing", "refused"]))
    def store(self, pick: int, how: str) -> None:
        at = pick % len(self.world.uploads)
        self.world.store(at, ok=how != "refused", missing=how == "missing")

    @precondition(lambda self: self.world.uploads)
    @rule(pick=PICK, spooled=st.booleans())
    def delay(self, pick: int, spooled: bool) -> None:
        self.world.delay(pick % len(self.world.uploads), spooled=spooled)

    @precondition(lambda self: self.world.checks)
    @rule(pick=PICK, lost=st.booleans())
    def check_outputs(self, pick: int, lost: bool) -> None:
        self.world.check_outputs(pick % len(self.world.checks), lost=lost)

    @precondition(lambda self: self.world.fetches)
    @rule(
        pick=PICK,
        seconds=st.sampled_from([1.0, 19.0, 30.0]),
        error=st.sampled_from([None, None, None, "there is no such key"]),
    )
    def fetch(self, pick: int, seconds: float, error: str | None) -> None:
        self.world.fetch(pick % len(self.world.fetches), seconds=seconds, error=error)

    @rule(pick=PICK)
    def hamper(self, pick: int) -> None:
        self.world.hamper(pick % len(self.world.core.jobs))

    @rule(pick=PICK, error=st.sampled_from([None, "there is no such key"]))
    def fetch_late(self, pick: int, error: str | None) -> None:
        self.world.fetch_late(pick % len(self.world.core.jobs), error)

    @rule(seconds=STEPS)
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(name=REQUESTS)
    def request(self, name: str) -> None:
        self.world.request(name, None)

    @rule(
        name=st.sampled_from(["cancel", "retry", "retry", "release", "rerun", "rerun all behind"]),
        pick=SOME_JOBS,
    )
    def request_for_jobs(self, name: str, pick: list[int]) -> None:
        count = len(self.world.core.jobs)
        self.world.request(name, tuple(number % count for number in pick))

    @rule(
        keep=st.sampled_from(["nothing", "committed", "acted"]),
        reboot=st.booleans(),
        collects=st.sampled_from([True, True, False]),
        new_store=st.sampled_from([False, False, True]),
        down=STEPS,
        requests=st.lists(
            st.sampled_from(["retry", "unpause", "cancel", "interrupt", "pause", "spot"]),
            max_size=2,
        ),
        claim_late=st.booleans(),
        resting=st.lists(st.sampled_from(["retry", "pause", "unpause"]), max_size=2),
    )
    def restart(
        self,
        keep: str,
        reboot: bool,
        collects: bool,
        new_store: bool,
        down: float,
        requests: list[str],
        claim_late: bool,
        resting: list[str],
    ) -> None:
        """The process dies, or its session is over, and a new one begins."""
        for token in self.world.tokens(claimed=False) if claim_late else []:
            self.world.claim(token)
        self.world.die(keep=keep, reboot=reboot, down=down)
        self.world.rest(resting)
        self.world.open(requests, collects=collects, new_store=new_store)

    @rule(
        data=st.data(),
        again=AGAIN,
        reboot=st.sampled_from([False, False, True]),
        collects=st.sampled_from([True, True, False]),
        retried=st.booleans(),
    )
    def amend(
        self, data: st.DataObject, again: RunMode, reboot: bool, collects: bool, retried: bool
    ) -> None:
        """The document is corrected between two sessions, with or without a word of its jobs."""
        world = self.world
        world.die(keep="acted", reboot=reboot, down=3.0)
        new = data.draw(amended(world.document))
        accepted = new == world.document or world.amend(new, again)
        if not accepted and retried:
            world.rest(["retry"])
        requests = ["retry"] if new == world.document and again.retry_failed else []
        world.open(requests, collects=collects)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            run_to_the_end(self.world)


TestWalk = Walk.TestCase
TestWalk.settings = settings(
    max_examples=100,  # the long walk takes more
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
