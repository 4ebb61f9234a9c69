"""The documents of the kill matrix. Every job proves about itself that it ran as it should.

What a job does must not depend on how often its runner was killed: then the end of a queue that
was killed can be compared with that of one that never was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

WITNESS = Path(__file__).parent / "kill_jobs" / "witness.sh"

Document = dict[str, Any]


def job(job_id: str, does: str, *after: str, **more: Any) -> Document:
    """A job whose command proves itself, then ``does`` something, then ends well."""
    command = f". {WITNESS}; begin\n{does}\nend"
    return {
        "job_id": job_id,
        "command": command,
        "timeout": "30s",
        "depends_on": list(after),
        **more,
    }


def queue(queue_id: str, jobs: list[Document], proof: Path, **more: Any) -> Document:
    """A queue whose jobs leave their evidence in ``proof``."""
    return {
        "queue_id": queue_id,
        "queue_name": queue_id,
        "global_timeout": "5m",
        "on_failure": "continue",
        "term_grace": "200ms",
        "env": {"PROOF": str(proof)},
        "jobs": jobs,
        **more,
    }


def made(job_id: str, proof: Path) -> list[str]:
    """The ``result_paths`` of a job that says ``make JOB_ID.txt``."""
    return [str(proof / "out" / f"{job_id}.txt")]


def retry(attempts: int, delay: str = "100ms", **more: Any) -> Document:
    """Retries after a fixed time."""
    return {"max_attempts": attempts, "backoff": "fixed", "base_delay": delay, **more}


def chain(proof: Path) -> Document:
    """One job after the other, with results, and one that is tried three times."""
    flaky = {"retry": retry(3), "result_paths": made("c", proof)}
    jobs = [
        job("a", "work 0.05; make a.txt", result_paths=made("a", proof)),
        job("b", "work 0.01", "a"),
        job("c", "work 0.03; fail_first 2 3; make c.txt", "b", **flaky),
        job("d", "work 0.15; make d.txt", "c", result_paths=made("d", proof)),
        job("e", "true", "d"),
    ]
    return queue("chain", jobs, proof, on_failure="stop")


def parallel(proof: Path) -> Document:
    """Three at a time, some fail, and what needs them is skipped or cleans up."""
    jobs = [
        job("w1", "work 0.12; make w1.txt", result_paths=made("w1", proof)),
        job("w2", "work 0.08; fail_first 1 3", retry=retry(2, "150ms")),
        job("w3", "work 0.05; end 3", retry=retry(2, "50ms")),
        job("w4", "work 0.1; end 7", retry=retry(5, dont_retry_on_codes=[7])),
        job("w5", "work 0.03; kill -9 $$"),
        job("server", "sleep 60 &", keep_background=True),
        job("join", "work 0.02; make join.txt", "w1", "w2", result_paths=made("join", proof)),
        job("never", "true", "join", "w3"),
        job("clean", "work 0.02", "w3", "w4", run_if="failure"),
        job("last", "work 0.02", "never", "clean", "w5", run_if="always"),
    ]
    return queue("parallel", jobs, proof, max_parallel_jobs=3)


def timeouts(proof: Path) -> Document:
    """Attempts that are ended: one saves and exits 0, one does not listen, one just dies."""
    jobs = [
        # On a busy machine a shell needs half a second until it has set its trap.
        job("saves", "until_term", timeout="800ms", term_grace="2s"),
        job("deaf", "ignore_term", timeout="800ms"),
        job("dies", "exec sleep 60", timeout="200ms", retry=retry(2, "50ms")),
        job("fine", "work 0.1; make fine.txt", result_paths=made("fine", proof)),
        job("after", "work 0.01", "saves", "deaf", run_if="always"),
    ]
    return queue("timeouts", jobs, proof, max_parallel_jobs=4)


def brief(proof: Path) -> Document:
    """A little of everything in less than a second: it is run once per step boundary."""
    jobs = [
        job("a", "fail_first 1 3; make a.txt", retry=retry(2), result_paths=made("a", proof)),
        job("b", "until_term", timeout="600ms", term_grace="2s"),
        job("c", "work 0.05", "a"),
        job("d", "true", "b"),
        job("e", "true", "b", run_if="failure"),
        job("server", "sleep 60 &", keep_background=True),
    ]
    return queue("brief", jobs, proof, max_parallel_jobs=2)
