"""An attempt's life as the scheduler sees it: intended, started, void, ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runner.core import closing
from runner.core import events as ev
from runner.core.actions import CollectResults, StartAttempt
from runner.core.checkpoints import save
from runner.core.clocks import catch_up, out_of_time
from runner.core.ending import end, end_background, forbidden, reconsider, run_again, settle
from runner.core.inputs import begin_fetches
from runner.core.ledger import Ledger
from runner.core.outcome import conclude
from runner.core.reopening import as_new, behind
from runner.core.space import IN_RESERVE, show_shortage
from runner.core.states import (
    ENDED,
    GONE,
    LOST,
    JobState,
    JobStatus,
    Live,
    QueueStatus,
    StopReason,
)

FETCHING_SECRETS = "fetching secrets"
"""The reason of an attempt that waits for them, before it is claimed."""


def dispatch(ledger: Ledger, now: ev.Now) -> None:
    """Start ready jobs in document order, as many as may run at once; others get their inputs."""
    if not may_start(ledger):
        show_shortage(ledger)
        _start_in_reserve(ledger, now)
        return
    room = ledger.document.max_parallel_jobs - len(ledger.live)
    while room > 0 and (index := ledger.frontier.take()) is not None:
        _start(ledger, now, index)
        room -= 1
    begin_fetches(ledger, now)


def _start_in_reserve(ledger: Ledger, now: ev.Now) -> None:
    """Where nothing that runs can free space, the next job may; see ``space``."""
    if ledger.live or not (ledger.short_of_space and may_start(ledger, in_reserve=True)):
        return
    if (index := ledger.frontier.take_for_space()) is not None:
        _start(ledger, now, index, in_reserve=True)


def may_start(ledger: Ledger, *, in_reserve: bool = False) -> bool:
    """Whether anything may start at all; ``in_reserve``: although something blocks starts."""
    queue = ledger.queue
    return not (
        queue.paused
        or queue.cancelling
        or queue.timed_out
        or queue.status is not QueueStatus.RUNNING
        or (ledger.blocked and not in_reserve)
        or ledger.interrupting
        or out_of_time(ledger)
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


def _start(ledger: Ledger, now: ev.Now, index: int, *, in_reserve: bool = False) -> None:
    before = ledger.jobs[index]
    queue = ledger.queue = replace(ledger.queue, starts=ledger.queue.starts + 1)
    attempt = before.attempt + 1
    token = token_of(queue.run_id, queue.starts)
    live = Live(token, _free_slot(ledger), attempt, before, in_reserve=in_reserve)
    after = JobState(
        status=JobStatus.RUNNING,
        attempt=attempt,
        counted=before.counted,
        interruptions=before.interruptions,
        unannounced=before.unannounced,
        started_at=now.wall,
        first_started_at=before.first_start,
        reason=_reason(ledger, index, before, in_reserve=in_reserve),
        fetched=before.fetched,
        input_seconds=before.input_seconds,
        space_failures=before.space_failures,
        live=live,
    )
    ledger.put(index, after)
    ledger.tell(now.wall, index, "attempt_intended", attempt=attempt)
    if in_reserve:
        ledger.tell(now.wall, index, "started_in_reserve", attempt=attempt, why=ledger.blocked)
    ledger.act(StartAttempt(index, attempt, live.token, live.slot, attempt - 1))
    _take_along(ledger, now, index)


def _take_along(ledger: Ledger, now: ev.Now, index: int) -> None:
    """A job that starts again makes those run again that have waited for its end of any kind."""
    document, graph, jobs = ledger.document.jobs, ledger.graph, ledger.jobs
    stale = [
        other
        for other in graph.dependents[index]
        if document[other].run_if != "success"
        and jobs[other].status in ENDED
        and jobs[other].status is not JobStatus.CANCELLED
    ]
    if stale:
        again = sorted(behind(document, graph, jobs, stale, everything=False).union(stale))
        run_again(ledger, now.wall, again)
        reconsider(ledger, now.wall, again)


def _reason(ledger: Ledger, index: int, before: JobState, *, in_reserve: bool) -> str | None:
    if before.reason in (LOST, GONE):
        # Why a job that had completed runs at all is asked for as long as it does.
        return before.reason
    if in_reserve:
        return IN_RESERVE
    if ledger.document.secret_env or ledger.document.jobs[index].secret_env:
        return FETCHING_SECRETS
    return None


def _free_slot(ledger: Ledger) -> int:
    jobs = ledger.jobs
    used = {live.slot for index in ledger.live if (live := jobs[index].live)}
    used.update(slot for i in ledger.background if (slot := jobs[i].slot) is not None)
    slot = 0
    while slot in used:
        slot += 1
    return slot


def on_started(ledger: Ledger, event: ev.AttemptStarted) -> None:
    """It is claimed and runs; adopted: it has been running while nobody watched."""
    live = ledger.attempt(event.job, event.token)
    if live is None:
        return
    if event.adopted:
        catch_up(ledger, event.now.mono)
    state = ledger.jobs[event.job]
    reason = None if state.reason == FETCHING_SECRETS else state.reason
    live = replace(live, since=event.since)
    ledger.put(event.job, replace(state, pid=event.pid, reason=reason, live=live))
    name = "attempt_adopted" if event.adopted else "attempt_started"
    ledger.tell(event.now.wall, event.job, name, attempt=live.attempt, pid=event.pid)


def on_command_ended(ledger: Ledger, event: ev.CommandEnded) -> None:
    """It ended by itself: no stop from now on can claim the end."""
    live = ledger.attempt(event.job, event.token)
    if live is not None and live.stop is None:
        ledger.put(event.job, replace(ledger.jobs[event.job], live=replace(live, over=True)))


def on_voided(ledger: Ledger, event: ev.AttemptVoided) -> None:
    """The start never was: the job is what it was before, and is treated as such."""
    now, index = event.now, event.job
    live = ledger.attempt(index, event.token)
    if live is None:
        return
    ledger.tell(now.wall, index, "attempt_voided", reason=event.reason)
    before = live.before
    if before.fetched and not ledger.jobs[index].fetched:
        before = replace(before, fetched=False, input_seconds=0.0)
    before = replace(before, doubted=ledger.jobs[index].doubted)
    ledger.put(index, before)
    ledger.changes.urgent = True
    if live.last or live.stop is StopReason.CANCELLED:
        end(ledger, now.wall, [(index, closing.cancelled(before))])
    elif (after := forbidden(ledger, index, before)) is not None:
        end(ledger, now.wall, [(index, after)])
    else:
        _put_waiting(ledger, now, index, _delayed(before, event))


def _delayed(state: JobState, event: ev.AttemptVoided) -> JobState:
    if not event.delay:
        return state
    return replace(
        state,
        reason=event.reason,
        retry_due=event.now.mono + event.delay,
        next_attempt_at=event.now.wall + event.delay,
    )


def on_ended(ledger: Ledger, event: ev.AttemptEnded) -> None:
    """Its tree is gone: see what that means, and whether another attempt may follow."""
    now, index = event.now, event.job
    live = ledger.attempt(index, event.token)
    if live is None:
        return
    _catch_up_with(ledger, live, event)
    document = ledger.document
    after = conclude(document.jobs[index], ledger.jobs[index], event, document.global_timeout)
    _tell_end(ledger, event, live, after)
    rerun = ledger.jobs[index].rerun
    if after.status not in ENDED:
        after = _without_future(ledger, index, live, after) or after
    elif rerun and after.status is not JobStatus.CANCELLED and not ledger.ending:
        after = as_new(after)
    if event.background:
        after = replace(after, background=True, slot=live.slot, token=live.token)
    if after.status in ENDED:
        end(ledger, now.wall, [(index, after)])
    else:
        _put_waiting(ledger, now, index, after)
    if after.status is JobStatus.INTERRUPTED:
        save(ledger, index)
    if event.background and after.status is not JobStatus.COMPLETED:
        end_background(ledger, index)


def _without_future(ledger: Ledger, index: int, live: Live, after: JobState) -> JobState | None:
    return closing.cancelled(after) if live.last else forbidden(ledger, index, after)


def _put_waiting(ledger: Ledger, now: ev.Now, index: int, state: JobState) -> None:
    ledger.put(index, state)
    ledger.changes.urgent = True
    if state.retry_due is not None:
        ledger.frontier.wait(index, state.retry_due)
    else:
        reconsider(ledger, now.wall, (index,))


def _catch_up_with(ledger: Ledger, live: Live, event: ev.AttemptEnded) -> None:
    """Count what it worked unwatched, as far as it is known when that was."""
    if ledger.open or event.duration is None:
        return
    since = ledger.queue.mono if live.since is None else live.since
    catch_up(ledger, min(since + event.duration, event.now.mono))


def _tell_end(ledger: Ledger, event: ev.AttemptEnded, live: Live, after: JobState) -> None:
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
    ledger.tell(event.now.wall, event.job, name, **detail)


_ENDS = {
    JobStatus.COMPLETED: "completed",
    JobStatus.CANCELLED: "cancelled",
    JobStatus.INTERRUPTED: "interrupted",
}


def on_background_ended(ledger: Ledger, event: ev.BackgroundEnded) -> None:
    """What it left in the background is gone; a next attempt may have waited for that."""
    state = ledger.jobs[event.job]
    if not state.background or state.token != event.token:
        return
    ledger.told.discard(event.job)
    state = replace(state, background=False, slot=None, token=None)
    # Its logs were stored as they were when the command ended; nobody is to wait for that again.
    stored = ledger.collects and state.status in ENDED and state.upload_done
    again = stored and not (ledger.unended and ledger.document.jobs[event.job].result_paths)
    if again:
        ledger.frontier.unsettle(event.job)
        state = closing.to_be_stored(ledger.document.jobs[event.job], state)
    ledger.put(event.job, state)
    ledger.tell(event.now.wall, event.job, "background_ended")
    if again:
        if not state.restoring:  # else once it has been looked at
            ledger.act(CollectResults(event.job))
        settle(ledger, event.now.wall, [event.job])
    reconsider(ledger, event.now.wall, (event.job,))
