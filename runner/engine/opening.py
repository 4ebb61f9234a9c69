"""The events a session begins with: what happened since the state was left."""

from __future__ import annotations

from dataclasses import dataclass

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.engine.backend import AttemptBackend
from runner.engine.clock import now
from runner.store.database import Database


@dataclass(frozen=True, slots=True)
class LostSteps:
    """What tells that a database went back. ``brought_back``: its state was made good already."""

    database: Database
    brought_back: bool


def opening_events(
    scheduler: Scheduler,
    backend: AttemptBackend,
    lost: LostSteps,
    *,
    collects: bool,
    new_store: bool = False,
    resting: bool = False,
) -> list[ev.Event]:
    """Events that belong into one step, the first of the session.

    What ran in another boot went with it, whatever the record of attempts says: that is never
    synced, so a claim may be missing from it that was there before the power went.
    """
    moment = now()
    opening: list[ev.Event] = [
        ev.SessionOpened(moment, backend.boot_id, collects, new_store, resting)
    ]
    if (went_back := _went_back(scheduler, backend, lost, moment)) is not None:
        opening.append(went_back)
    if scheduler.queue.boot_id == backend.boot_id:
        return opening
    for index in sorted(scheduler.live | scheduler.background):
        state = scheduler.jobs[index]
        if state.live is not None:
            gone = ev.Lost(machine=True)
            opening.append(ev.AttemptEnded(moment, index, state.live.token, gone))
        elif state.token is not None:
            opening.append(ev.BackgroundEnded(moment, index, state.token))
    return opening


def _went_back(
    scheduler: Scheduler, backend: AttemptBackend, lost: LostSteps, moment: ev.Now
) -> ev.StateWentBack | None:
    """Whether what was durable once is missing: a lost log, a copy that was restored."""
    queue = scheduler.queue
    missing = lost.database.missing_events(queue.run_id)
    starts = backend.newest_start()
    if not (missing or lost.brought_back) and starts <= queue.starts:
        return None
    return ev.StateWentBack(moment, missing, starts, lost.brought_back)
