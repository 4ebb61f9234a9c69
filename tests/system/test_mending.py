"""Mend and go on: a document is corrected, and what is done stays done."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from s3_endpoint import Endpoint
from world import World


def counting(name: str, rest: str = "true", **more: Any) -> dict[str, Any]:
    """A job that leaves a line in `count.<name>` at each start."""
    return {"job_id": name, "command": f"echo >> count.{name}; {rest}", "timeout": "1m", **more}


def starts(world: World, *names: str) -> list[int]:
    """How often each job was started."""
    files = [world.home / f"count.{name}" for name in names]
    return [len(file.read_text().splitlines()) if file.exists() else 0 for file in files]


def pipeline(world: World, train: str, **more: Any) -> str:
    """A preparation, a training that may be broken, an evaluation, and a report in any case."""
    return world.document(
        counting("prep"),
        counting("train", train, depends_on=["prep"]),
        counting("eval", depends_on=["train"]),
        counting("report", depends_on=["eval"], run_if="always"),
        working_directory=str(world.home),
        **{"on_failure": "stop", **more},
    )


NAMES = ("prep", "train", "eval", "report")


def test_run_mends_a_failed_job_and_goes_on(world: World) -> None:
    """Hours of a good preparation would be run again for one mistyped word."""
    pipeline(world, "exit 3")
    assert world.call("run", "q.json").returncode == 100
    assert starts(world, *NAMES) == [1, 1, 0, 1]
    pipeline(world, "true")
    refused = world.call("run", "q.json")
    assert refused.returncode == 2
    assert "jobs[1].command differs" in refused.stderr
    assert "--retry-failed accepts that" in refused.stderr
    assert world.call("run", "q.json", "--retry-failed").returncode == 0
    assert starts(world, *NAMES) == [1, 2, 1, 2], "the report has seen another end"
    assert world.call("run", "q.json", "--retry-failed").returncode == 0
    assert starts(world, *NAMES) == [1, 2, 1, 2]


def test_run_runs_a_changed_completed_job_again_only_if_told_to(world: World) -> None:
    """A result would be shown for a command that never ran, or a day's work be lost to a typo."""
    pipeline(world, "true")
    assert world.call("run", "q.json").returncode == 0
    pipeline(world, "echo better")
    for flags in (["--update"], ["--retry-failed"], ["--update", "--retry-failed"]):
        refused = world.call("run", "q.json", *flags)
        assert refused.returncode == 2
        assert 'jobs[1] "train" has completed and is another now' in refused.stderr
        assert "--rerun-changed" in refused.stderr
    assert world.call("run", "q.json", "--rerun-changed").returncode == 0
    assert starts(world, *NAMES) == [1, 2, 2, 2]


def test_the_daemon_mends_a_failed_job_and_goes_on(world: World) -> None:
    """What `run` mends a daemon's user would have to begin anew."""
    world.daemon()
    pipeline(world, "exit 3")
    assert world.call("submit", "q.json").returncode == 0
    assert world.call("wait").returncode == 100
    pipeline(world, "true")
    refused = world.call("submit", "q.json")
    assert refused.returncode == 2 and "--retry-failed accepts that" in refused.stderr
    assert world.call("submit", "q.json", "--retry-failed", "--update").returncode == 0
    assert world.call("wait").returncode == 0
    assert starts(world, *NAMES) == [1, 2, 1, 2]


def test_a_failure_that_is_gone_from_the_document_leaves_nothing_undone(world: World) -> None:
    """The queue would be green with jobs that never ran, or red for a job that isn't there."""
    jobs = [counting("bad", "exit 1"), counting("b"), counting("c", depends_on=["b"])]
    more = {"working_directory": str(world.home), "on_failure": "stop"}
    assert world.call("run", world.document(*jobs, **more)).returncode == 100
    assert starts(world, "b", "c") == [0, 0]
    assert world.call("run", world.document(*jobs[1:], **more), "--update").returncode == 0
    assert starts(world, "b", "c") == [1, 1]
    told = world.data("status")
    assert (told["status"], "reason" in told) == ("completed", False)


def test_a_completed_job_runs_again_when_asked(world: World) -> None:
    """The only way to make one result again would be to make them all."""
    pipeline(world, "true")
    assert world.call("run", "q.json").returncode == 0
    refused = world.call("retry", "prep")
    assert refused.returncode == 2 and "--completed runs it again" in refused.stderr
    assert world.call("retry", "--completed").returncode == 2
    assert world.call("retry", "prep", "--completed").returncode == 0
    assert {name: job["status"] for name, job in world.jobs().items()} == {
        "prep": "pending", "train": "completed", "eval": "completed", "report": "pending",
    }  # fmt: skip
    assert world.call("run", "q.json").returncode == 0
    assert starts(world, *NAMES) == [2, 1, 1, 2]
    assert world.call("retry", "train", "--completed", "--with-dependants").returncode == 0
    assert world.call("run", "q.json").returncode == 0
    assert starts(world, *NAMES) == [2, 2, 2, 3]


def test_a_result_that_was_removed_is_back_for_those_who_need_it(world: World) -> None:
    """Its dependants would fail for ever, though the store has the file."""
    jobs = [
        {**counting("a", "echo x > a.out"), "result_paths": ["a.out"]},
        counting("stop", "[ -e go ]", depends_on=["a"]),
        counting("b", "cat a.out", depends_on=["a", "stop"]),
    ]
    more = {"working_directory": str(world.home), "on_failure": "stop"}
    document, results = world.document(*jobs, **more), ("--results", "res")
    assert world.call("run", document, *results).returncode == 100
    (world.home / "a.out").unlink()
    (world.home / "go").touch()
    assert world.call("run", document, *results, "--retry-failed").returncode == 0
    assert starts(world, "a", "stop", "b") == [1, 2, 1]
    (world.home / "a.out").unlink()
    for kept in (world.home / "res").rglob("a.out"):
        kept.unlink()
    assert world.call("retry", "b", "--completed").returncode == 0
    assert world.call("run", document, *results).returncode == 0
    assert starts(world, "a", "stop", "b") == [2, 2, 2], "it is made again"


def test_a_retry_of_a_resting_queue_does_not_hide_that_the_machine_was_down(world: World) -> None:
    """Jobs would start without what the boot has taken."""
    jobs = [
        {**counting("a", "echo x > a.out"), "result_paths": ["a.out"]},
        counting("b", "cat a.out && [ -e go ]", depends_on=["a"]),
    ]
    document = world.document(*jobs, working_directory=str(world.home))
    assert world.call("run", document, "--results", "res").returncode == 100
    with closing(sqlite3.connect(world.state / "queues" / "q" / "state.db")) as database:
        database.execute("UPDATE queue SET record = json_set(record, '$.boot_id', 'before')")
        database.commit()
    (world.home / "a.out").unlink()
    (world.home / "go").touch()
    assert world.call("retry").returncode == 0
    assert world.call("run", document, "--results", "res").returncode == 0
    assert starts(world, "a", "b") == [1, 2]


def elsewhere(world: World, name: str) -> list[str]:
    """The flags of another state folder: a machine that knows nothing of the queue."""
    return ["--state-dir", str(world.home / name), "--log-dir", str(world.home / f"{name}-logs")]


def data_pipeline(world: World, train: str, **more: Any) -> str:
    """A preparation whose data the training needs, and which may be broken."""
    return world.document(
        {**counting("prep", "echo data > prep.out"), "result_paths": ["prep.out"]},
        counting("train", train, depends_on=["prep"]),
        counting("eval", depends_on=["train"]),
        working_directory=str(world.home),
        **more,
    )


def test_another_machine_mends_what_has_failed(world: World) -> None:
    """A failed queue's machine has ended: all would have to be done again on the next one."""
    store = ("--results", "store")
    assert world.call("run", data_pipeline(world, "exit 3"), *store).returncode == 100
    (world.home / "prep.out").unlink()
    run = ["run", data_pipeline(world, "cat prep.out"), *store, *elsewhere(world, "b")]
    refused = world.call(*run, "--update", "--rerun-changed", "--fresh")
    assert refused.returncode == 2
    document = world.document(counting("prep", "false"), working_directory=str(world.home))
    refused = world.call("run", document, *store, *elsewhere(world, "b"), "--update")
    assert refused.returncode == 2 and 'jobs[0] "prep" has completed' in refused.stderr
    assert not (world.home / "b" / "queues" / "q").exists()
    data_pipeline(world, "cat prep.out")
    done = world.call(*run, "--retry-failed")
    assert done.returncode == 0, done.stderr
    assert starts(world, "prep", "train", "eval") == [1, 2, 1], "its results came from the store"


def test_a_daemon_elsewhere_mends_what_has_failed(world: World, endpoint: Endpoint) -> None:
    """The same for a queue that a service has taken in."""
    bucket = endpoint.bucket()
    world.env.update(endpoint.env)
    there = elsewhere(world, "a")
    failed = data_pipeline(world, "exit 3", result_s3_bucket=bucket)
    assert world.call("run", failed, *there).returncode == 100
    (world.home / "prep.out").unlink()
    world.daemon()
    mended = data_pipeline(world, "cat prep.out", result_s3_bucket=bucket)
    done = world.call("submit", mended, "--retry-failed")
    assert done.returncode == 0, done.stderr
    assert world.call("wait", "--queue", "q").returncode == 0
    assert starts(world, "prep", "train", "eval") == [1, 2, 1]
