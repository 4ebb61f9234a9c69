"""What must be true of a scheduler after every event, whatever happened. Used by all core tests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from core_arrays import (
    check_arrays,
    is_far_enough,
    is_full,
    is_stopped,
    status_of,
    units_of,
)
from core_families import all_behind, has_ended, seen

from runner.core.actions import (
    Action,
    CollectResults,
    EndBackground,
    FetchInputs,
    FinishQueue,
    RestoreOutputs,
    SaveCheckpoint,
    SignalTree,
    StartAttempt,
)
from runner.core.events import Event, OutputsChecked, RetryRequested, TimerFired
from runner.core.explain import PlannedJob, Situation, of_job, of_queue
from runner.core.inputs import AHEAD
from runner.core.scheduler import Scheduler
from runner.core.states import ENDED, WAITING, JobState, JobStatus, QueueStatus, StopReason
from runner.store.projection import job_view, queue_view

NOT_DONE = {JobStatus.FAILED, JobStatus.SKIPPED, JobStatus.CANCELLED}


def check(scheduler: Scheduler, event: Event | None = None, actions: Sequence[Action] = ()) -> None:
    """All invariants of one moment, and of the step that led to it."""
    check_records(scheduler)
    check_derived(scheduler)
    check_reasons(scheduler)
    if scheduler.open and not scheduler.finished:
        check_order(scheduler)
        check_may_go_on(scheduler)
        check_explained(scheduler)
    if event is not None:
        check_actions(scheduler, actions)
    if isinstance(event, TimerFired):
        due = scheduler.next_deadline()
        assert due is None or due > event.now.mono, "a timer that has fired is due again at once"


def check_explained(scheduler: Scheduler) -> None:
    """A job that could start has started, so each that waits has a reason that can be told."""
    document = scheduler.document
    if scheduler.arrays or len(document.jobs) > 50:
        return
    seen_to = scheduler.fetching or scheduler.restoring or scheduler.collecting
    out_of_time = scheduler.queue.worked >= document.global_timeout
    if seen_to or scheduler.background or out_of_time or scheduler.frontier.chosen is not None:
        return  # files, processes and a part of the queue that `status` doesn't tell of
    plan = {
        job.job_id: PlannedJob(
            job.job_id, tuple(job.depends_on), job.run_if, document.added.get(job.job_id)
        )
        for job in document.jobs
    }
    names = [job.job_id for job in document.jobs]
    rows = [job_view(name, state) for name, state in zip(names, scheduler.jobs, strict=True)]
    queue = {**queue_view("q", "q", scheduler.queue), "worker": "a test"}
    if (blocked := scheduler.interrupting or scheduler.blocked) is not None:
        queue["blocked"] = blocked
    now = Situation(queue, rows, plan, scheduler.most)
    if of_queue(now):
        return
    for row in rows:
        if row["status"] == "pending":
            assert of_job(now, row), f"nobody could say why {row['job_id']} waits"


def check_records(scheduler: Scheduler) -> None:
    slots = []
    for job, state in zip(scheduler.document.jobs, scheduler.jobs, strict=True):
        assert (state.status is JobStatus.RUNNING) is (state.live is not None)
        budget = job.retry.max_attempts if job.retry else 1
        assert state.counted <= min(budget, state.attempt)
        assert not (state.status is JobStatus.PENDING and state.counted >= budget)
        assert (state.retry_due is None) is (state.next_attempt_at is None)
        assert state.retry_due is None or state.status in WAITING
        assert state.pid is None or state.live is not None
        if state.live is not None:
            assert state.live.attempt == state.attempt
            assert (state.live.stop is None) is (state.live.kill_at is None)
            assert not (state.live.over and state.live.stop)
            slots.append(state.live.slot)
        if state.background:
            assert state.slot is not None
            slots.append(state.slot)
        if state.fetching:
            assert job.input_paths or job.checkpoint_paths or job.inputs
            assert state.status in WAITING and (state.needs_check or not state.fetched)
        if state.live is not None and job.input_paths and not state.live.over:
            assert state.live.before.fetched, "it runs without its inputs"
        if state.live is not None and not state.live.over:
            assert not state.live.before.needs_check, "its checkpoint has not been looked for"
        assert job.inputs_in_timeout or not state.input_seconds
        if state.results_uploaded is not None and state.logs_uploaded is not None:
            assert job.kept_paths and state.status is JobStatus.COMPLETED
            assert state.logs_uploaded or not state.results_uploaded
        assert state.logs_uploaded is None or state.has_files
        assert state.first_started_at is None or state.attempt
        if state.status is JobStatus.COMPLETED:
            assert state.exit_code == (0 if state.taken_from is None else None)
            assert not state.timed_out
    assert len(set(slots)) == len(slots), "two trees share a slot"
    assert len(scheduler.live) <= scheduler.most


def check_derived(scheduler: Scheduler) -> None:
    """What is kept in step must be what the records say anew."""
    jobs = scheduler.jobs
    assert +scheduler.counts == Counter(state.status for state in jobs)
    assert scheduler.failures == _failures(scheduler)
    assert scheduler.live == {i for i, state in enumerate(jobs) if state.live}
    assert scheduler.background == {i for i, state in enumerate(jobs) if state.background}
    assert scheduler.fetching == {i for i, state in enumerate(jobs) if state.fetching}
    assert scheduler.restoring == {i for i, state in enumerate(jobs) if state.restoring}
    assert scheduler.collecting == {i for i, state in enumerate(jobs) if state.collecting}
    anew = Scheduler(
        scheduler.document,
        scheduler.graph,
        scheduler.queue,
        dict(enumerate(jobs)),
        fit=scheduler.most,
    )
    assert scheduler.frontier.settled == anew.frontier.settled
    assert scheduler.frontier.remaining == anew.frontier.remaining
    assert scheduler.frontier.waiting() == anew.frontier.waiting()
    check_arrays(scheduler, anew)


def _failures(scheduler: Scheduler) -> int:
    """How many have failed that may not."""
    pairs = zip(scheduler.document.jobs, scheduler.jobs, strict=True)
    return sum(s.status is JobStatus.FAILED and not job.allow_failure for job, s in pairs)


def rule_for(scheduler: Scheduler, index: int) -> str:
    """An oracle, written from the page and not from the code: ``skip``, ``wait`` or ``ready``."""
    job, state = scheduler.document.jobs[index], scheduler.jobs[index]
    queue = scheduler.queue
    if queue.timed_out or queue.cancelling:
        return "end"
    if scheduler.halted and state.status is JobStatus.PENDING:
        if state.counted:
            return "end"
        if job.run_if == "success":
            return "skip"
    before = [scheduler.graph.index[name] for name in job.depends_on]
    if job.run_if == "success" and any(seen(scheduler, i, index) in NOT_DONE for i in before):
        return "skip"
    if not all(has_ended(scheduler, i, index) for i in before):
        return "wait"
    if job.run_if == "failure" and (verdict := _failure_before(scheduler, index)) != "ready":
        return verdict
    chosen = scheduler.frontier.chosen
    if chosen is not None and index not in chosen:
        return "wait"
    return "wait" if job.hold and not state.released else "ready"


def _failure_before(scheduler: Scheduler, job: int) -> str:
    """Met if a dependency failed, or was skipped and has a failure before it (§12.2)."""
    before = _right_before(scheduler, job)
    todo = [i for i in before if _was_skipped(scheduler, i)]
    looked_at = set(todo)
    verdicts = {"ready" for i in before if seen(scheduler, i, job) is JobStatus.FAILED}
    while todo:
        behind = todo.pop()
        for index in _right_before(scheduler, behind):
            status = seen(scheduler, index, behind)
            if status is JobStatus.FAILED:
                verdicts.add("ready")
            elif index not in looked_at:
                stops = scheduler.document.may_stop
                if status not in ENDED:
                    verdicts.add("wait")
                passes = stops and (status is JobStatus.COMPLETED or status not in ENDED)
                if passes or _was_skipped(scheduler, index):
                    todo.append(index)
            looked_at.add(index)
    return min(verdicts, default="skip")  # "ready" before "wait"


def _right_before(scheduler: Scheduler, node: int) -> list[int]:
    """What a job depends on; before an array are its elements."""
    if node >= len(scheduler.jobs):
        return units_of(scheduler, node)
    return [scheduler.graph.index[name] for name in scheduler.document.jobs[node].depends_on]


def _was_skipped(scheduler: Scheduler, index: int) -> bool:
    skipped = status_of(scheduler, index) is JobStatus.SKIPPED
    first = units_of(scheduler, index)[0]
    return skipped and scheduler.document.jobs[first].run_if == "success"


def _free(state: JobState) -> bool:
    held = state.background or state.collecting or state.fetching
    return state.retry_due is None and not held


def _lacks(scheduler: Scheduler, index: int, state: JobState) -> bool:
    needs = bool(scheduler.document.jobs[index].input_paths)
    return state.needs_check or (needs and not state.fetched)


def _ahead(scheduler: Scheduler) -> int:
    """How many jobs have inputs here, or on their way, and could run."""
    count = 0
    for index, state in enumerate(scheduler.jobs):
        if state.status in WAITING and state.fetched and not is_full(scheduler, index):
            count += _free(state) and rule_for(scheduler, index) == "ready"
        count += state.fetching
    return count


def check_order(scheduler: Scheduler) -> None:
    """Nobody waits who may run, and nobody waits who never will."""
    room = scheduler.most
    idle = len(scheduler.live) < (1 if scheduler.short_of_space else room)
    queue = scheduler.queue
    startable = (
        queue.status is QueueStatus.RUNNING
        and not queue.paused
        and (scheduler.short_of_space or not scheduler.blocked)
        and not scheduler.interrupting
        and queue.worked < scheduler.document.global_timeout
    )
    for index, state in enumerate(scheduler.jobs):
        if state.status not in WAITING:
            continue
        verdict = rule_for(scheduler, index)
        assert verdict != "end", f"{index} waits in a queue where nothing goes on"
        if verdict == "skip":
            # What had begun runs again all the same; what waits for a moment is judged then.
            assert state.status is JobStatus.INTERRUPTED or state.retry_due is not None, index
        if verdict == "ready" and startable and _free(state) and _lacks(scheduler, index, state):
            if scheduler.short_of_space:
                continue  # inputs take space
            if is_far_enough(scheduler, index):
                continue
            most = scheduler.most + AHEAD
            assert _ahead(scheduler) >= most, f"{index} could have its inputs fetched"
        elif is_full(scheduler, index):
            continue
        elif verdict == "ready" and idle and startable and _free(state):
            raise AssertionError(f"{index} is ready, there is room, and it doesn't run")


def check_may_go_on(scheduler: Scheduler) -> None:
    """Something must be able to move the queue, or it would stay as it is for ever."""
    moves = (
        scheduler.live
        or scheduler.collecting
        or scheduler.restoring
        or scheduler.fetching
        or scheduler.background
        or scheduler.blocked
        or scheduler.queue.paused
        or scheduler.queue.accepts_jobs
        or any(_waits_for_release(scheduler, index) for index in range(len(scheduler.jobs)))
        or scheduler.next_deadline() is not None
    )
    assert moves, "nothing can happen any more, and the queue has not finished"


def _waits_for_release(scheduler: Scheduler, index: int) -> bool:
    job, state = scheduler.document.jobs[index], scheduler.jobs[index]
    before = [scheduler.graph.index[name] for name in job.depends_on]
    held = job.hold and not state.released and state.status in WAITING
    return held and all(has_ended(scheduler, i, index) for i in before)


def check_start(scheduler: Scheduler, index: int, before: JobState) -> None:
    """Its dependencies have ended, it is its turn, and nobody before it in the document waits."""
    job = scheduler.document.jobs[index]
    needed = [scheduler.graph.index[name] for name in job.depends_on]
    assert all(has_ended(scheduler, i, index) for i in needed), "a job before its dependencies"
    assert before.status in WAITING and _free(before) and not _lacks(scheduler, index, before)
    assert before.counted < (job.retry.max_attempts if job.retry else 1)
    if before.status is JobStatus.PENDING:
        statuses = {seen(scheduler, i, index) for i in needed}
        assert job.run_if != "success" or statuses <= {JobStatus.COMPLETED}
        assert job.run_if != "failure" or _failure_before(scheduler, index) == "ready"
    assert before.released or not job.hold, "a job that nobody has released"
    live = scheduler.jobs[index].live
    assert live is None or not live.in_reserve or scheduler.short_of_space
    for earlier in range(index):
        state = scheduler.jobs[earlier]
        if scheduler.short_of_space and job.run_if == "always":
            break  # jobs that clean up go first, then
        if is_full(scheduler, earlier):
            continue
        if state.status in WAITING and _free(state) and not _lacks(scheduler, earlier, state):
            assert rule_for(scheduler, earlier) != "ready", f"{earlier} was passed by {index}"


def may_be_skipped(scheduler: Scheduler, index: int) -> bool:
    """Whether some rule of the page says that this job is not to run."""
    job = scheduler.document.jobs[index]
    needed = [scheduler.graph.index[name] for name in job.depends_on]
    statuses = {seen(scheduler, i, index) for i in needed}
    return (
        scheduler.queue.timed_out
        or is_stopped(scheduler, index)
        or (scheduler.halted and job.run_if == "success")
        or (job.run_if == "success" and bool(statuses & NOT_DONE))
        or (
            job.run_if == "failure"
            and statuses <= ENDED
            and _failure_before(scheduler, index) == "skip"
        )
    )


def check_changes(
    scheduler: Scheduler,
    event: Event,
    actions: Sequence[Action],
    before: list[JobStatus],
    cancelled: set[int],
) -> None:
    """Terminal stays terminal; nobody is skipped or cancelled for nothing."""
    started = [action.job for action in actions if isinstance(action, StartAttempt)]
    behind = all_behind(scheduler, started)
    undone = any(
        before[i] is JobStatus.FAILED is not scheduler.jobs[i].status
        for i in behind
        if i < len(before)  # not an array as a whole
    )
    for index, (old, state) in enumerate(zip(before, scheduler.jobs, strict=True)):
        new = state.status
        if old is new:
            continue
        if old in ENDED:
            remade = isinstance(event, OutputsChecked) and event.lost and event.job == index
            asked = isinstance(event, RetryRequested) or index in behind
            freed = undone and old is JobStatus.SKIPPED and not scheduler.halted
            assert remade or asked or freed, f"{index}: {old} → {new}"
        if new is JobStatus.SKIPPED:
            assert may_be_skipped(scheduler, index), f"{index} was skipped for no reason"
        if new is JobStatus.CANCELLED:
            assert index in cancelled, f"{index} was cancelled by nobody"


def check_verdict(scheduler: Scheduler) -> None:
    """What an ended queue is called fits what became of its jobs."""
    counts, queue = scheduler.counts, scheduler.queue
    failed, cancelled = _failures(scheduler), counts[JobStatus.CANCELLED]
    if queue.status is QueueStatus.COMPLETED:
        assert not failed and not cancelled
        check_green(scheduler)
    elif queue.status is QueueStatus.FAILED:
        assert failed or queue.timed_out
    else:
        assert cancelled
    assert not queue.paused


def check_green(scheduler: Scheduler) -> None:
    """Nothing should have run in a completed queue that didn't."""
    for index, (job, state) in enumerate(zip(scheduler.document.jobs, scheduler.jobs, strict=True)):
        if state.status is JobStatus.SKIPPED:
            if job.allow_failure and is_stopped(scheduler, index):
                continue  # its array's failure is tolerated, and has ended it all the same
            needed = [scheduler.graph.index[name] for name in job.depends_on]
            skipped = any(status_of(scheduler, i) is JobStatus.SKIPPED for i in needed)
            assert job.run_if == "failure" or (job.run_if == "success" and skipped), index


def check_reasons(scheduler: Scheduler) -> None:
    """A reason names a job of the document, and one that stands where it says."""
    jobs, queue = scheduler.jobs, scheduler.queue
    texts = [*((s.reason, s.status) for s in jobs), (queue.reason, None), (queue.halted, None)]
    for text, status in texts:
        for name in re.findall(r"(?:job|dependency) '([^']*)'", text or ""):
            assert name in scheduler.graph.index, f"{text}: there is no such job"
            if status is JobStatus.SKIPPED and text == f"dependency '{name}' failed":
                cause = status_of(scheduler, scheduler.graph.index[name])
                assert cause in (JobStatus.FAILED, JobStatus.PENDING, JobStatus.RUNNING)


def check_actions(scheduler: Scheduler, actions: Sequence[Action]) -> None:
    """Actions speak of what the records say, and the records go to the disk with this step."""
    changes = scheduler.changes
    assert not actions or changes.urgent
    for number, action in enumerate(actions):
        match action:
            case StartAttempt(job, attempt, token, slot, previous):
                live = scheduler.jobs[job].live
                assert live is not None
                assert (live.token, live.slot, live.attempt) == (token, slot, attempt)
                assert previous == attempt - 1
                assert job in changes.jobs, "a start without a durable intent"
                check_start(scheduler, job, live.before)
            case SignalTree(job, token, slot, kill):
                live = scheduler.jobs[job].live
                assert live is not None and (live.token, live.slot) == (token, slot)
                assert isinstance(live.stop, StopReason)
                assert live.killed or not kill
            case EndBackground(job, token, slot):
                state = scheduler.jobs[job]
                assert state.background and (state.token, state.slot) == (token, slot)
            case CollectResults(job):
                assert scheduler.jobs[job].collecting
            case RestoreOutputs(job, _):
                assert scheduler.jobs[job].restoring
            case FetchInputs(job):
                assert scheduler.jobs[job].fetching
                assert job in changes.jobs, "a fetch that no record tells of"
                most = scheduler.most + AHEAD
                assert _ahead(scheduler) <= most, "the disk fills with what nobody reads yet"
            case SaveCheckpoint(job):
                assert scheduler.jobs[job].status is JobStatus.INTERRUPTED and scheduler.collects
                assert scheduler.interrupting, "the next attempt starts beside the upload"
            case FinishQueue(status):
                assert scheduler.finished and status is scheduler.queue.status
                assert status is not QueueStatus.RUNNING
                assert not scheduler.live and not scheduler.background
                assert number == len(actions) - 1, "something is wanted after the end"
