"""SIGKILL at every boundary of submit, cancel, --fresh and --update: the old or the new, whole."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from kill_proof import (
    check,
    check_evidence,
    check_nothing_left,
    check_projection,
    check_results,
    verdict,
)
from kill_proof import expected as undisturbed
from kill_queues import job, made, queue, retry
from kill_steps import KillAt, Launched, Launcher, sweep
from kill_support import World, world
from kill_timing import until

TAKEN_UP = "after QueueRepository.set_current"
"""The request has been carried out, what follows is the run itself, which has its own tests."""


def small(proof: Path) -> dict[str, Any]:
    """Over in a moment, with one retry."""
    flaky = job("a", "fail_first 1 3", retry=retry(2, "50ms"))
    return queue("small", [flaky, job("b", "true", "a")], proof)


def held(proof: Path) -> dict[str, Any]:
    """One job is done, one waits to be let go, one is still to come."""
    jobs = [
        job("done", "make done.txt", result_paths=made("done", proof)),
        job("held", "until_let_go; make held.txt", "done", result_paths=made("held", proof)),
        job("next", "work 0.01", "held"),
    ]
    return queue("held", jobs, proof)


def changed(proof: Path) -> dict[str, Any]:
    """``held`` after a change: every job has another number, the last another command."""
    document = held(proof)
    done, waits, _ = document["jobs"]
    first, last = job("first", "work 0.01"), job("next", "echo changed", "held", "first")
    return {**document, "jobs": [first, done, waits, last, job("more", "true", "next")]}


def _output(place: World) -> str:
    return (place.root / "output").read_text()


# -- the daemon ------------------------------------------------------------------------------


def _daemon(place: World, warm: Launcher, kill_at: KillAt = None, **more: Any) -> Launched:
    """A daemon that answers; or one that is dead already."""
    daemon = warm.start(place, "daemon", kill_at=kill_at, **more)
    until("the daemon answers", lambda: daemon.ended() or place.daemon_answers())
    return daemon


def _asked(place: World, request: str, **fields: Any) -> dict[str, Any] | None:
    """The answer; None if the daemon died over it."""
    try:
        return place.ask(request, **fields)
    except (OSError, ValueError):
        return None


def _survived(place: World, daemon: Launched) -> bool:
    """Whether the daemon lived until the queue had ended, and through its own orderly end."""
    place.let_go()
    until("the end of either", lambda: daemon.ended() or place.ended())
    return daemon.end(signal.SIGTERM) == 0


def _ends_well(place: World, warm: Launcher, again: dict[str, Any] | None) -> None:
    """A new daemon, the request repeated if it has to be, and the queue comes to its end."""
    daemon = _daemon(place, warm)
    if again is not None:
        answer = place.ask(**again)
        # A cancel that was done and not answered is refused: the queue has ended.
        assert answer["ok"] or again["request"] == "cancel", answer
    until("the job is waiting", lambda: place.ended() or _is_waiting(place))
    place.let_go()
    until("the queue has ended", place.ended)
    assert daemon.end(signal.SIGTERM) == 0, _output(place)


def test_submit(tmp_path: Path) -> None:
    """A queue would be submitted by halves, twice, or be forgotten after it was answered."""
    with world(tmp_path / "quiet", small) as quiet:
        wanted = undisturbed(quiet)

    def story(killed: World, warm: Launcher, kill_at: KillAt) -> bool:
        daemon = _daemon(killed, warm, kill_at, request="submit")
        request = {"request": "submit", "document": killed.path.read_text()}
        answer = _asked(killed, **request)
        assert answer is None or answer["ok"], answer
        if answer and _survived(killed, daemon):
            return False
        daemon.wait()
        _ends_well(killed, warm, None if answer else request)
        assert [path.name for path in (killed.state / "queues").iterdir()] == ["small"]
        check(killed, wanted, stored_too=False)
        return True

    sweep(tmp_path, small, story)


def test_cancel(tmp_path: Path) -> None:
    """A cancel would be forgotten after it was answered, or end a queue by halves."""

    def story(killed: World, warm: Launcher, kill_at: KillAt) -> bool:
        daemon = _daemon(killed, warm, kill_at, request="cancel")
        assert killed.submit()["ok"]
        until("the job waits", lambda: killed.said("held", "start"))
        request = {"request": "cancel", "queue": "held"}
        answer = _asked(killed, **request)
        assert answer is None or answer["ok"], answer
        if answer and _survived(killed, daemon):
            return False
        daemon.wait()
        _ends_well(killed, warm, None if answer else request)
        _check_cancelled(killed)
        return True

    sweep(tmp_path, held, story)


def _check_cancelled(killed: World) -> None:
    told = {job_id: values[0] for job_id, values in verdict(killed).items()}
    assert told == {
        "done": "completed",
        "held": "cancelled",
        "next": "cancelled",
        "(queue)": "cancelled",
    }
    check_evidence(killed)
    check_projection(killed)
    check_nothing_left(killed)


@pytest.mark.parametrize("again", ["fresh", "update"])
def test_submit_over_a_running_queue(tmp_path: Path, again: str) -> None:
    """Two runs, or two documents, would be mixed into one."""

    def story(killed: World, warm: Launcher, kill_at: KillAt) -> bool:
        first = _daemon(killed, warm)
        assert killed.submit()["ok"]
        until("the job waits", lambda: killed.said("held", "start"))
        first.end(signal.SIGKILL)
        daemon = _daemon(killed, warm, kill_at, request="submit", until=TAKEN_UP)
        former = str(killed.stored_run_id())
        killed.write(changed(killed.proof))
        request = {"request": "submit", "document": killed.path.read_text(), "again": again}
        answer = _asked(killed, **request)
        assert answer is None or answer["ok"], answer
        if answer:
            until("the end, or taken up", lambda: daemon.ended() or _is_changed(killed))
        if answer and _survived(killed, daemon):
            return False
        daemon.wait()
        _ends_well(killed, warm, None if answer else request)
        _check_changed(killed, former, fresh=again == "fresh", stored_too=False)
        return True

    sweep(tmp_path, held, story)


# -- the foreground --------------------------------------------------------------------------


def _running_to_killed(killed: World, warm: Launcher) -> str:
    """Run until one job is done and one waits; kill the runner, not the job. The run's id."""
    running = warm.start(killed, *killed.run_words())
    until("the job waits", lambda: killed.said("held", "start"))
    running.end(signal.SIGKILL)
    return str(killed.stored_run_id())


@pytest.mark.parametrize("flag", ["--fresh", "--update"])
@pytest.mark.parametrize("recovery", ["repeated", "plain"])
def test_run_over_a_killed_run(tmp_path: Path, flag: str, recovery: str) -> None:
    """Two runs, or two documents, would be mixed into one."""

    def story(killed: World, warm: Launcher, kill_at: KillAt) -> bool:
        former = _running_to_killed(killed, warm)
        old = killed.document
        killed.write(changed(killed.proof))
        words = killed.run_words(flag)
        running = warm.start(killed, *words, kill_at=kill_at, until=TAKEN_UP)
        until("taken up", lambda: running.ended() or _is_waiting(killed, changed=True))
        if not running.ended():
            killed.let_go()
        if not running.killed:
            assert running.wait() == 0, _output(killed)
            return False
        if recovery == "plain":
            words = killed.run_words()
            if not _is_changed(killed) and killed.queue_dir.exists():
                refused = warm.start(killed, *words).wait()
                assert refused == 2, "another document was taken without --update or --fresh"
                killed.write(old)
        last = warm.start(killed, *words)
        until("the job is waiting", lambda: last.ended() or _is_waiting(killed))
        killed.let_go()
        assert last.wait() == 0, _output(killed)
        if killed.document == old:
            _check_old(killed, former)
        else:
            _check_changed(killed, former, fresh=flag == "--fresh")
        return True

    sweep(tmp_path, held, story)


def test_cancel_without_a_daemon(tmp_path: Path) -> None:
    """A cancel of a queue that no process works on would be done by halves."""

    def story(killed: World, warm: Launcher, kill_at: KillAt) -> bool:
        _running_to_killed(killed, warm)
        words = ("cancel", "--all", "--queue", "held")
        cancelling = warm.start(killed, *words, kill_at=kill_at)
        if not cancelling.killed:
            assert cancelling.wait() == 0, _output(killed)
            return False
        # Refused when all of it has been done.
        warm.start(killed, *words).wait()
        assert warm.start(killed, *killed.run_words()).wait() == 103, _output(killed)
        _check_cancelled(killed)
        return True

    sweep(tmp_path, held, story)


# -- what must hold --------------------------------------------------------------------------


def _is_changed(place: World) -> bool:
    """Whether the queue that is there has the new document."""
    stored = place.stored_document()
    return stored is not None and len(stored["jobs"]) == 5


def _is_waiting(place: World, *, changed: bool = False) -> bool:
    """Whether the held job runs, and nobody has decided to end it."""
    if changed and not _is_changed(place):
        return False
    record = place.stored_job("held")
    live = (record or {}).get("live", {})
    return "since" in live and "stop" not in live and place.is_taken_up()


def _check_old(killed: World, former: str) -> None:
    """The old run went on to its end, as if nothing had been asked."""
    assert killed.stored_run_id() == former
    statuses = [values[0] for values in verdict(killed).values()]
    assert statuses == ["completed"] * 4, statuses
    _check_whole(killed)


def _check_changed(killed: World, former: str, *, fresh: bool, stored_too: bool = True) -> None:
    """The new document's jobs have all run; of the former run nothing is lost or mixed in."""
    statuses = [values[0] for values in verdict(killed).values()]
    assert statuses == ["completed"] * 6, statuses
    log = killed.logs / "queues" / "held" / "jobs" / "next-stdout.log"
    assert log.read_text().endswith("changed\n")
    ran = [line.job_id for line in killed.evidence() if line.what == "end-0"]
    assert ran.count("done") == (2 if fresh else 1)
    assert (killed.stored_run_id() != former) == fresh
    if fresh:
        _check_aside(killed, former)
    _check_whole(killed, stored_too=stored_too)


def _check_whole(killed: World, *, stored_too: bool = True) -> None:
    check_evidence(killed)
    check_projection(killed)
    if stored_too:
        check_results(killed)
    check_nothing_left(killed)


def _check_aside(killed: World, former: str) -> None:
    """State and logs of the former run are kept, under one name."""
    kept = [
        path
        for path in (killed.state / "queues").iterdir()
        if path.name != "held" and killed.stored_run_id(path) == former
    ]
    assert len(kept) == 1, kept
    log = killed.logs / "queues" / kept[0].name / "jobs" / "done-stdout.log"
    assert log.read_text() == "output of done\n"
    told = json.loads((kept[0] / "queue-state.json").read_text())
    assert told["jobs"][0]["status"] == "completed"
