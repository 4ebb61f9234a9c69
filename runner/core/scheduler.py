"""The scheduler: one door, ``handle(event) -> actions``, through which all state changes.

Owns which event goes where, and what follows after each: ready jobs are started, a queue that is
done is finished. What an event means is the business of the modules beside this one. It must not
know processes, files, clocks or chance. Costs per event don't grow with the number of jobs.
"""

from __future__ import annotations

from typing import assert_never

from runner.core import events as ev
from runner.core.actions import Action
from runner.core.attempts import (
    dispatch,
    may_start,
    on_background_ended,
    on_command_ended,
    on_ended,
    on_started,
    on_voided,
)
from runner.core.checkpoints import on_checkpoint_saved
from runner.core.clocks import account, next_deadline, on_timer
from runner.core.disk_space import on_blocked
from runner.core.growth import on_intake_changed, on_jobs_added, with_families
from runner.core.history import Changes, StoryEntry
from runner.core.inputs import on_inputs_delayed, on_inputs_fetched
from runner.core.notices import note_failure, on_no_progress, on_notice_tried
from runner.core.outputs import on_outputs_checked
from runner.core.queue_outcome import finish_if_done
from runner.core.queue_records import QueueRecords
from runner.core.requests import (
    on_cancel,
    on_interrupt,
    on_kill,
    on_pause,
    on_release,
    on_retry,
)
from runner.core.result_uploads import on_results_delayed, on_results_stored, on_store_claimed
from runner.core.sessions import on_opened, on_survivors_told, on_went_back
from runner.core.spot_interruption import on_spot_notice
from runner.core.states import JobStatus

__all__ = ["Changes", "Scheduler", "StoryEntry"]

_FREES_NOTHING = (ev.AttemptStarted, ev.CommandEnded, ev.ResultsSetAside)
"""After these no job may start that could not before, and the queue is not done."""


class Scheduler(QueueRecords):
    """The state of one queue in one session, and the only code that changes it.

    A session begins with SessionOpened; then come the survivors' ends and any requests, then
    SurvivorsTold, from which on there are actions; FinishQueue is the last of them.
    """

    def handle(self, event: ev.Event) -> list[Action]:
        """Apply one event; return what is to be done once the change is durable.

        Raises IllegalTransition if the event contradicts the state: a bug.
        """
        self.actions = []
        if not isinstance(event, ev.SessionOpened):
            account(self, event.now)
        failed = self.failures
        self._apply(event)
        if self.failures and not failed:
            note_failure(self, event.now.wall)
        if self.open and not self.finished and not isinstance(event, _FREES_NOTHING):
            dispatch(self, event.now)
            finish_if_done(self, event.now)
        if self.actions:
            self.changes.urgent = True
        return self.actions

    def take_changes(self) -> Changes:
        """Hand over what is to be written, and begin to collect anew."""
        changes, self.changes = self.changes, Changes()
        return changes

    @property
    def may_start(self) -> bool:
        """Whether anything may start at all, as it stands; in the reserve, if in no other way."""
        return self.open and may_start(self, in_reserve=self.short_of_space)

    @property
    def stopping(self) -> bool:
        """Whether an attempt that lives is to be stopped."""
        return any((live := self.jobs[index].live) and live.stop for index in self.live)

    @property
    def incomplete(self) -> bool:
        """Whether files of a job that has run are missing from the store."""
        return any(
            state.incomplete and state.status is not JobStatus.PENDING for state in self.jobs
        )

    def next_deadline(self) -> float | None:
        """Monotonic time at which TimerFired is due; None while there is nothing to wait for."""
        return next_deadline(self)

    def _apply(self, event: ev.Event) -> None:
        match event:
            case ev.AttemptStarted():
                on_started(self, event)
            case ev.AttemptEnded():
                on_ended(self, event)
            case ev.ResultsStored():
                on_results_stored(self, event)
            case ev.ResultsDelayed():
                on_results_delayed(self, event)
            case ev.OutputsChecked():
                on_outputs_checked(self, event)
            case ev.InputsFetched():
                on_inputs_fetched(self, event)
            case ev.InputsChanged(now, job, why):
                self.tell(now.wall, job, "inputs_changed", why=why)
            case ev.InputsDelayed():
                on_inputs_delayed(self, event)
            case ev.CheckpointSaved():
                on_checkpoint_saved(self, event)
            case ev.StoreClaimed():
                on_store_claimed(self, event)
            case ev.TimerFired(now):
                on_timer(self, now)
            case ev.ResultsSetAside(now, job, files):
                self.tell(now.wall, job, "results_set_aside", files=files)
            case ev.CommandEnded():
                on_command_ended(self, event)
            case ev.AttemptVoided():
                on_voided(self, event)
            case ev.BackgroundEnded():
                on_background_ended(self, event)
            case ev.SessionOpened():
                on_opened(self, event)
            case ev.StateWentBack():
                on_went_back(self, event)
            case ev.StrayEnded(now, token, pid):
                self.tell(now.wall, None, "stray_ended", token=token, pid=pid)
                self.changes.urgent = True
            case ev.SurvivorsTold(now):
                on_survivors_told(self, now)
            case ev.StartsBlocked():
                on_blocked(self, event)
            case ev.CancelRequested():
                on_cancel(self, event)
            case ev.RetryRequested():
                on_retry(self, event)
            case ev.PauseRequested():
                on_pause(self, event)
            case ev.JobsAdded():
                on_jobs_added(self, event)
            case ev.IntakeChanged():
                on_intake_changed(self, event)
            case ev.PartChosen(_, jobs):
                self.frontier.chosen = with_families(self, jobs)
                self.changes.urgent = True
            case ev.ReleaseRequested():
                on_release(self, event)
            case ev.InterruptRequested():
                on_interrupt(self, event)
            case ev.SpotNotice():
                on_spot_notice(self, event)
            case ev.KillRequested():
                on_kill(self, event)
            case ev.NoProgress():
                on_no_progress(self, event)
            case ev.NoticeTried():
                on_notice_tried(self, event)
            case _:
                assert_never(event)
