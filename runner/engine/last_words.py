"""The end of a session: how long its last logs and its last state may take to get to the store."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from runner.core.states import QUEUE_ENDED, QueueStatus
from runner.engine.clock import now
from runner.errors import DiskError, StateError
from runner.store.database import UNSTORED, Database

if TYPE_CHECKING:
    from runner.engine.state_uploads import StateUploads

LAST_WORDS = 30.0
"""Seconds in which the last logs and the last state of a session get to the store, or don't: of the
two minutes before a spot machine goes, jobs have had up to a minute."""

SPARE = 20.0
"""Seconds before a spot machine's announced end by which all is stored, if jobs ended earlier."""

LET_GO = 2.0
"""The same for a session whose jobs go on: the next one stores what this one hasn't."""


def end_of_patience(
    status: QueueStatus, gone_at: float | None, upload_timeout: float, away: bool
) -> float:
    """Until when a store that doesn't answer may hold up the end of a session: monotonic seconds.

    ``gone_at``: when a spot machine is taken away. ``away``: the store has not taken all results
    within ``upload_timeout``.
    """
    moment = now().mono
    if status in QUEUE_ENDED:
        # One that took all the results is not away: a request or two that hang are no reason.
        return moment + (min(LAST_WORDS, upload_timeout) if away else upload_timeout)
    if status is not QueueStatus.INTERRUPTED:
        return moment + LET_GO
    return moment + LAST_WORDS if gone_at is None else max(moment + LAST_WORDS, gone_at - SPARE)


def note_unstored(database: Database, state: StateUploads, status: QueueStatus) -> None:
    """An ended queue whose last state isn't stored is taken up again for that."""
    why = state.error if status in QUEUE_ENDED and state.succeeded is None else None
    with suppress(StateError, DiskError):
        if (why or "") != database.meta().get(UNSTORED, ""):
            database.write_meta({UNSTORED: why or ""})
