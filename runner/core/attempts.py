"""An attempt's life as the scheduler sees it: intended, started, void, ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from runner.core import events as ev
from runner.core import job_ends
from runner.core.actions import CollectResults, StartAttempt
from runner.core.attempt_outcome import conclude
from runner.core.checkpoints import save
from runner.core.clocks import catch_up, out_of_time
from runner.core.consequences import (
    end,
    end_background,
    forbidden,
    lifts_stop,
    reconsider,
    run_again,
    settle,
)
from runner.core.disk_space import IN_RESERVE, show_shortage
from runner.core.growth import expand, fault_of, judge
from runner.core.inputs import DIFFERS, begin_fetches, fail_for_good
from runner.core.queue_records import QueueRecords
from runner.core.rerun import as_new, behind
from runner.core.states import (
    ENDED,
    GONE,
    LOST,
    JobState,
    JobStatus,
    Live,
    QueueStatus,
    StopReason,
    changed,
)

FETCHING_SECRETS = "fetching secrets"
"""The reason of an attempt that waits for them, before it is claimed."""


def dispatch(records: QueueRecords, now: ev.Now) -> None:
    """Start ready jobs in document order, as many as may run at once; others get their inputs."""
    if not may_start(records):
        show_shortage(records)
        _start_in_reserve(records, now)
        return
    room = records.most - len(records.live)
    while room > 0 and (index := records.frontier.take()) is not None:
        _start(records, now, index)
        room -= 1
    begin_fetches(records, now)


def _start_in_reserve(records: QueueRecords, now: ev.Now) -> None:
    """Where nothing that runs can free space, the next job may; see ``disk_space``."""
    if records.live or not (records.short_of_space and may_start(records, in_reserve=True)):
        return
    if (index := records.frontier.take_for_space()) is not None:
        _start(records, now, index, in_reserve=True)


def may_start(records: QueueRecords, *, in_reserve: bool = False) -> bool:
    """Whether anything may start at all; ``in_reserve``: although something blocks starts."""
    queue = records.queue
    return not (
        queue.paused
        or queue.cancelling
        or queue.timed_out
        or queue.status is not QueueStatus.RUNNING
        or (records.blocked and not in_reserve)
        or records.interrupting
        or out_of_time(records)
    )


def token_of(run_id: str, start: int) -> str:
    """The name of a run's n-th start: no other has it."""
    return f"{run_id[:8]}-{start:x}"


def start_number(run_id: str, token: str) -> int:
    """The inverse; 0 for a token of another run."""
    run, _, number = token.rpartition("-")
    try:
        return int(number, 16) if run == run_id[:8] else 0
    except ValueError:
        return 0


def _start(records: QueueRecords, now: ev.Now, index: int, *, in_reserve: bool = False) -> None:
    before = records.jobs[index]
    queue = records.queue = changed(records.queue, starts=records.queue.starts + 1)
    attempt = before.attempt + 1
    token = token_of(queue.run_id, queue.starts)
    live = Live(token, _free_slot(records), attempt, before, in_reserve=in_reserve)
    after = JobState(
        status=JobStatus.RUNNING,
        attempt=attempt,
        counted=before.counted,
        interruptions=before.interruptions,
        unannounced=before.unannounced,
        started_at=now.wall,
        first_started_at=before.first_start,
        reason=_reason(records, index, before, in_reserve=in_reserve),
        fetched=before.fetched,
        input_seconds=before.input_seconds,
        space_failures=before.space_failures,
        released=before.released,
        live=live,
    )
    records.put(index, after)
    records.tell(now.wall, index, "attempt_intended", attempt=attempt)
    if in_reserve:
        records.tell(now.wall, index, "started_in_reserve", attempt=attempt, why=records.blocked)
    records.act(StartAttempt(index, attempt, live.token, live.slot, attempt - 1))
    _take_along(records, now, index)


def _take_along(records: QueueRecords, now: ev.Now, index: int) -> None:
    """A job that starts again makes those run again that have waited for its end of any kind."""
    document, graph, jobs = records.document.jobs, records.graph, records.jobs
    stale = [
        other
        for other in _waiting_for(records, index)
        if document[other].run_if != "success"
        and jobs[other].status in ENDED
        and jobs[other].status is not JobStatus.CANCELLED
    ]
    if stale:
        taken = behind(document, graph, jobs, stale, records.families, everything=False)
        taken = taken.union(stale)
        if records.halted and lifts_stop(records, taken):
            # The failure that stopped the queue is one of those ends.
            records.queue = replace(records.queue, halted=None)
            taken |= {i for i, state in enumerate(jobs) if state.status is JobStatus.SKIPPED}
        again = sorted(taken)
        run_again(records, now.wall, again)
        reconsider(records, now.wall, again)


def _waiting_for(records: QueueRecords, index: int) -> Iterator[int]:
    """The units behind this one. Of an array, or a family, they are looked at once: until all of it
    has ended none of them ends."""
    for other in records.graph.dependents[index]:
        if not records.frontier.is_array(other):
            yield other
        elif other not in records.taken_along:
            records.taken_along.add(other)
            yield from records.graph.dependents[other]
    parent = records.families.of.get(index)
    while parent is not None and ~parent not in records.taken_along:
        records.taken_along.add(~parent)
        yield from records.frontier.outside(parent)
        parent = records.families.of.get(parent)


def _reason(records: QueueRecords, index: int, before: JobState, *, in_reserve: bool) -> str | None:
    if before.reason in (LOST, GONE) or (before.reason or "").startswith(DIFFERS):
        # Why a job that had completed runs at all is asked for as long as it does.
        return before.reason
    if in_reserve:
        return IN_RESERVE
    if records.document.secret_env or records.document.jobs[index].secret_env:
        return FETCHING_SECRETS
    return None


def _free_slot(records: QueueRecords) -> int:
    jobs = records.jobs
    used = {live.slot for index in records.live if (live := jobs[index].live)}
    used.update(slot for i in records.background if (slot := jobs[i].slot) is not None)
    slot = 0
    while slot in used:
        slot += 1
    return slot


def on_started(records: QueueRecords, event: ev.AttemptStarted) -> None:
    """It is claimed and runs; adopted: it has been running while nobody watched."""
    live = records.attempt(event.job, event.token)
    if live is None:
        return
    if event.adopted:
        catch_up(records, event.now.mono)
    state = records.jobs[event.job]
    reason = None if state.reason == FETCHING_SECRETS else state.reason
    live = changed(live, since=event.since, keeps_time=event.keeps_time)
    records.put(event.job, changed(state, pid=event.pid, reason=reason, live=live))
    name = "attempt_adopted" if event.adopted else "attempt_started"
    records.tell(event.now.wall, event.job, name, attempt=live.attempt, pid=event.pid)


def on_command_ended(records: QueueRecords, event: ev.CommandEnded) -> None:
    """It ended by itself: no stop from now on can claim the end."""
    live = records.attempt(event.job, event.token)
    if live is not None and live.stop is None:
        records.put(event.job, replace(records.jobs[event.job], live=replace(live, over=True)))


def on_voided(records: QueueRecords, event: ev.AttemptVoided) -> None:
    """The start never was: the job is what it was before, and is treated as such."""
    now, index = event.now, event.job
    live = records.attempt(index, event.token)
    if live is None:
        return
    records.tell(now.wall, index, "attempt_voided", reason=event.reason)
    before = live.before
    if before.fetched and not records.jobs[index].fetched:
        before = replace(before, fetched=False, input_seconds=0.0)
    before = replace(before, needs_check=records.jobs[index].needs_check)
    records.put(index, before)
    records.changes.urgent = True
    if live.last or live.stop is StopReason.CANCELLED:
        end(records, now.wall, [(index, job_ends.cancelled(before))])
    elif (after := forbidden(records, index, before)) is not None:
        end(records, now.wall, [(index, after)])
    elif event.error is not None:
        fail_for_good(records, now.wall, index, replace(before, error_message=event.error))
    else:
        _put_waiting(records, now, index, _delayed(before, event))


def _delayed(state: JobState, event: ev.AttemptVoided) -> JobState:
    if not event.delay:
        return state
    return replace(
        state,
        reason=event.reason,
        retry_due=event.now.mono + event.delay,
        next_attempt_at=event.now.wall + event.delay,
    )


def on_ended(records: QueueRecords, event: ev.AttemptEnded) -> None:
    """Its tree is gone: see what that means, and whether another attempt may follow."""
    now, index = event.now, event.job
    live = records.attempt(index, event.token)
    if live is None:
        return
    live = _as_recorded(records, live, event)
    event = _with_fan_out(records, event)
    _catch_up_with(records, live, event)
    document = records.document
    after = conclude(document.jobs[index], records.jobs[index], event, document.global_timeout)
    _tell_end(records, event, live, after)
    before = records.jobs[index]
    rerun = before.rerun
    if after.status is JobStatus.COMPLETED and (before.reason or "").startswith(DIFFERS):
        # Why it ran at all is asked for afterwards, too.
        after = replace(after, reason=before.reason)
    added = range(0)
    if after.status is JobStatus.COMPLETED and event.fan_out is not None and not rerun:
        added = expand(records, now, index, event.fan_out)
    if after.status not in ENDED:
        after = _without_future(records, index, live, after) or after
    elif rerun and after.status is not JobStatus.CANCELLED and not records.ending:
        after = as_new(after)
    if event.background:
        after = replace(after, background=True, slot=live.slot, token=live.token)
    if after.status in ENDED:
        end(records, now.wall, [(index, after)])
    else:
        _put_waiting(records, now, index, after)
    judge(records, now, added)
    if after.status is JobStatus.INTERRUPTED:
        save(records, index)
    if event.background and after.status is not JobStatus.COMPLETED:
        end_background(records, index)


def _as_recorded(records: QueueRecords, live: Live, event: ev.AttemptEnded) -> Live:
    """What came first, its own end or a stop of ours, where the place of the attempt decides it."""
    after = live
    if event.stands and live.stop is not None:
        last = live.last or live.stop is StopReason.CANCELLED
        after = replace(live, stop=None, kill_at=None, killed=False, last=last)
    if event.timed_out and after.stop is None:
        after = replace(after, stop=StopReason.TIMEOUT)
    if after is not live:
        records.put(event.job, replace(records.jobs[event.job], live=after))
    return after


def _with_fan_out(records: QueueRecords, event: ev.AttemptEnded) -> ev.AttemptEnded:
    """What it has left, or why the job can't expand to that."""
    if records.document.jobs[event.job].expands is None or event.outcome != ev.Exited(0):
        return event
    fault = fault_of(records, event.job, event.fan_out)
    return event if fault is None else replace(event, fan_out=ev.FanOut(fault=fault))


def _without_future(
    records: QueueRecords, index: int, live: Live, after: JobState
) -> JobState | None:
    return job_ends.cancelled(after) if live.last else forbidden(records, index, after)


def _put_waiting(records: QueueRecords, now: ev.Now, index: int, state: JobState) -> None:
    records.put(index, state)
    records.changes.urgent = True
    if (ended := forbidden(records, index, state)) is not None:
        # It was to run again, and the queue has stopped meanwhile.
        end(records, now.wall, [(index, ended)])
    elif state.retry_due is not None:
        records.frontier.wait(index, state.retry_due)
    else:
        reconsider(records, now.wall, (index,))


def _catch_up_with(records: QueueRecords, live: Live, event: ev.AttemptEnded) -> None:
    """Count what it worked unwatched, as far as it is known when that was."""
    if records.open or event.duration is None:
        return
    since = records.queue.mono if live.since is None else live.since
    catch_up(records, min(since + event.duration, event.now.mono))


def _tell_end(records: QueueRecords, event: ev.AttemptEnded, live: Live, after: JobState) -> None:
    detail: dict[str, Any] = {
        "attempt": live.attempt,
        "exit_code": after.exit_code,
        "signal": after.signal,
        "duration": None if after.duration is None else round(after.duration, 3),
        "error_message": after.error_message,
        "stopped": live.stop.value if live.stop else None,
        "then": after.reason if after.retry_due is not None else None,
    }
    name = f"attempt_{_ENDS.get(after.status, 'failed')}"
    records.tell(event.now.wall, event.job, name, **detail)


_ENDS = {
    JobStatus.COMPLETED: "completed",
    JobStatus.CANCELLED: "cancelled",
    JobStatus.INTERRUPTED: "interrupted",
}


def on_background_ended(records: QueueRecords, event: ev.BackgroundEnded) -> None:
    """What it left in the background is gone; a next attempt may have waited for that."""
    state = records.jobs[event.job]
    if not state.background or state.token != event.token:
        return
    records.told.discard(event.job)
    state = replace(state, background=False, slot=None, token=None)
    # Its logs were stored as they were when the command ended; nobody is to wait for that again.
    stored = records.collects and state.status in ENDED and state.upload_done
    again = stored and not (records.unended and records.document.jobs[event.job].kept_paths)
    if again:
        records.frontier.unsettle(event.job)
        state = job_ends.to_be_stored(records.document.jobs[event.job], state)
    records.put(event.job, state)
    records.tell(event.now.wall, event.job, "background_ended")
    if again:
        if not state.restoring:  # else once it has been looked at
            records.act(CollectResults(event.job))
        settle(records, event.now.wall, [event.job])
    reconsider(records, event.now.wall, (event.job,))
