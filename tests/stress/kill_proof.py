"""What must be true of a queue that has ended, however often its runner was killed.

Owns the judgement: the jobs' own evidence, the state, the projection, the results folder, and
that nothing is left running. It starts and ends nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kill_support import World
from kill_timing import until
from kill_traces import Line

from runner.model.document import parse_document
from runner.store.database import Database

Verdict = dict[str, tuple[Any, ...]]
"""job_id → status, exit code, signal, timed out, counted attempts, attempt number."""


def verdict(world: World) -> Verdict:
    """How every job ended, from the database."""
    database = Database(world.queue_dir / "state.db", read_only=True)
    try:
        loaded = database.load()
        jobs = parse_document(database.document().encode()).jobs
    finally:
        database.close()
    told: Verdict = {}
    for index, job in enumerate(jobs):
        state = loaded.jobs.get(index)
        assert state is not None, f"{job.job_id} has no record"
        assert state.live is None and not state.background, f"{job.job_id} is still live"
        told[job.job_id] = (
            state.status.value,
            state.exit_code,
            state.signal,
            state.timed_out,
            state.counted,
            state.attempt,
        )
    told["(queue)"] = (loaded.queue.status.value, loaded.queue.reason)
    return told


def stored(world: World) -> dict[str, bytes]:
    """The results: key → content, but for manifests and what the shell says of signals."""
    found = {}
    for path in sorted((world.results / "jobs").rglob("*")):
        if path.is_file() and path.name != "manifest.json" and "stderr" not in path.name:
            found[str(path.relative_to(world.results))] = path.read_bytes()
    return found


@dataclass(frozen=True)
class Expected:
    """What an undisturbed run of the same document came to."""

    verdict: Verdict
    stored: dict[str, bytes]
    exit_code: int


def expected(world: World) -> Expected:
    """Run it undisturbed, and see that the proof holds for that too."""
    code = world.run()
    told = Expected(verdict(world), stored(world), code)
    check(world, told)
    return told


def check(
    world: World, wanted: Expected, *, shims_died: bool = False, stored_too: bool = True
) -> None:
    """Everything that must be true of an ended queue.

    With ``shims_died`` attempts were lost: numbers may be higher, and a job that had told its end
    may have been run again, for nobody knew of it.
    """
    check_evidence(world, shims_died=shims_died)
    told = verdict(world)
    if shims_died:
        told, wanted_verdict = _without_attempts(told), _without_attempts(wanted.verdict)
        assert told == wanted_verdict, f"{told}\nwanted: {wanted_verdict}"
    else:
        assert told == wanted.verdict
    check_projection(world)
    if stored_too:
        check_results(world)
        assert (stored(world) == wanted.stored) or shims_died, sorted(stored(world))
    check_nothing_left(world)


def _without_attempts(told: Verdict) -> Verdict:
    return {job_id: values[:5] for job_id, values in told.items()}


def check_evidence(world: World, *, shims_died: bool = False) -> None:
    """No attempt twice, no two of a job at once, none after its end, none before its time."""
    lines = world.evidence()
    bad = [line for line in lines if line.what in ("twice", "beside")]
    assert not bad, bad
    run = world.projection()["run_id"][:8]
    lines = [line for line in lines if line.run == run]
    done: set[str] = set()
    running: set[tuple[str, int]] = set()
    ends = {(each.job_id, each.attempt) for each in lines if each.what.startswith("end-")}
    limit = world.document.get("max_parallel_jobs", 1)
    last_end: dict[str, Line] = {}
    documents = {job["job_id"]: job for job in world.document["jobs"]}
    for line in lines:
        job = documents[line.job_id]
        if line.what == "start":
            assert shims_died or line.job_id not in done, f"{line.job_id} ran again: {lines}"
            if not shims_died:
                _check_backoff(job, last_end.get(line.job_id), line)
            running.add((line.job_id, line.attempt))
            assert shims_died or len(running & ends) <= limit, f"{running} at once: {lines}"
            continue
        running.discard((line.job_id, line.attempt))
        last_end[line.job_id] = line
        if line.what == "end-0":
            done.add(line.job_id)
    _check_order(documents, lines)


def _check_backoff(job: dict[str, Any], end: Line | None, start: Line) -> None:
    if end is None or end.what == "end-0" or "retry" not in job:
        return
    delay = float(job["retry"]["base_delay"].removesuffix("ms")) / 1000
    waited = start.up - end.up
    assert waited >= delay - 0.02, f"{job['job_id']} waited {waited:.2f} s of {delay} s"


def _check_order(documents: dict[str, Any], lines: list[Line]) -> None:
    for number, line in enumerate(lines):
        for after in documents[line.job_id]["depends_on"]:
            later = [each for each in lines[number:] if each.job_id == after]
            assert not later, f"{line.job_id} before {after} had ended: {lines}"


def check_projection(world: World) -> None:
    """queue-state.json says what the database says."""
    told = verdict(world)
    shown = world.projection()
    assert shown["status"] == told.pop("(queue)")[0]
    for job in shown["jobs"]:
        status, exit_code, signal, timed_out, _, attempt = told[job["job_id"]]
        assert job["status"] == status, job
        assert (job.get("exit_code"), job.get("signal")) == (exit_code, signal), job
        assert (job.get("timed_out", False), job["attempt"]) == (timed_out, attempt), job
        assert "pid" not in job, job


def check_results(world: World) -> None:
    """Every job that ran has one manifest, of this run, and exactly the files it names."""
    run_id = world.projection()["run_id"]
    there = {path for path in (world.results / "jobs").rglob("*") if not path.is_dir()}
    named: set[Path] = set()
    for job in world.projection()["jobs"]:
        if not job["attempt"]:
            continue
        assert job["logs_uploaded"] is True, job
        assert job.get("results_uploaded") is not False, job
        path = world.results / "jobs" / job["job_id"] / "manifest.json"
        manifest = json.loads(path.read_text())
        assert (manifest["run_id"], manifest["attempt"]) == (run_id, job["attempt"])
        named.add(path)
        for file in manifest["files"]:
            content = (world.results / file["key"]).read_bytes()
            assert len(content) == file["size"], file
            assert hashlib.sha256(content).hexdigest() == file["sha256"], file
            named.add(world.results / file["key"])
    assert named == there, f"of no manifest: {there - named}"
    state = json.loads((world.results / "queue-state.json").read_text())
    assert state.pop("holder") and state.pop("epoch") == 1, "nobody else has held the store"
    state.pop("claim")
    assert state == world.projection()


def check_nothing_left(world: World) -> None:
    """No process of a job, no shim, no forker; no temporary file in the state folder."""
    until("the last process is gone", lambda: not world.leftovers(), 10)
    strays = [
        path
        for path in world.state.rglob(".*")
        if not path.name.startswith(".pruned") and os.path.lexists(path)
    ]
    assert not strays, strays
