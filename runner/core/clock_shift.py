"""Records whose monotonic times are another boot's or host's, moved to this one's clock. Pure.

Attempts that run elsewhere outlive the host that drives them: their deadlines go on, though the
next host's monotonic clock began at another moment.
"""

from __future__ import annotations

from collections.abc import Mapping

from runner.core.events import Now
from runner.core.states import JobState, Live, QueueState, changed


def difference(then: Now, now: Now) -> float:
    """What is to be added to monotonic times of the clock that read ``then`` (seconds): both wall
    clocks are taken to be right."""
    return (now.mono - now.wall) - (then.mono - then.wall)


def shifted(
    queue: QueueState, jobs: Mapping[int, JobState], seconds: float
) -> tuple[QueueState, dict[int, JobState]]:
    """The same records, ``seconds`` later on the monotonic clock."""
    moved = {index: _job(state, seconds) for index, state in jobs.items()}
    return changed(queue, mono=queue.mono + seconds), moved


def _job(state: JobState, seconds: float) -> JobState:
    if state.retry_due is not None:
        state = changed(state, retry_due=state.retry_due + seconds)
    return state if state.live is None else changed(state, live=_live(state.live, seconds))


def _live(live: Live, seconds: float) -> Live:
    return changed(
        live,
        before=_job(live.before, seconds),
        since=None if live.since is None else live.since + seconds,
        kill_at=None if live.kill_at is None else live.kill_at + seconds,
    )
