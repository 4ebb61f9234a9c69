"""``run --simulate``: what would happen, without a command run or a byte left behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from world import World


def pipeline(world: World, **queue: Any) -> str:
    def job(name: str, timeout: str, **more: Any) -> dict[str, Any]:
        return {"job_id": name, "command": f"touch ran.{name}", "timeout": timeout, **more}

    return world.document(
        job("prep", "30m"),
        job("train", "6h", depends_on=["prep"], retry={"max_attempts": 3, "backoff": "fixed",
                                                       "base_delay": "1m"}),
        job("eval", "20m", depends_on=["train"]),
        job("report", "5m", depends_on=["eval"], run_if="always"),
        **{"global_timeout": "24h", "on_failure": "continue", **queue},
    )  # fmt: skip


def simulated(world: World, *words: str) -> dict[str, Any]:
    told = world.call("run", "q.json", "--simulate", "--json", *words)
    assert told.returncode == 0, told.stderr
    state: dict[str, Any] = json.loads(told.stdout)
    return state


def jobs(state: dict[str, Any]) -> dict[str, str]:
    return {job["job_id"]: job["status"] for job in state["jobs"]}


def test_it_tells_the_order_and_the_end_and_leaves_nothing(world: World) -> None:
    """Whoever asks what a night would bring would have begun it."""
    pipeline(world)
    before = {path: path.stat().st_mtime_ns for path in world.home.parent.rglob("*")}
    told = world.call("run", "q.json", "--simulate")
    assert told.returncode == 0
    rows = [line.split() for line in told.stdout.splitlines()]
    assert rows[1:-1] == [
        ["prep", "completed", "1", "0s", "30m0s"],
        ["train", "completed", "1", "30m0s", "6h30m0s"],
        ["eval", "completed", "1", "6h30m0s", "6h50m0s"],
        ["report", "completed", "1", "6h50m0s", "6h55m0s"],
    ]
    assert told.stdout.splitlines()[-1] == (
        "it would end as completed after 6h55m0s; nothing was run"
    )
    assert "no run is known of 4 jobs" in told.stderr
    after = {path: path.stat().st_mtime_ns for path in world.home.parent.rglob("*")}
    assert after == before


def test_a_failure_shows_its_retries_and_what_it_skips(world: World) -> None:
    """That a training which fails costs three times six hours would be known the day after."""
    pipeline(world)
    state = simulated(world, "--fail", "train")
    assert jobs(state) == {
        "prep": "completed", "train": "failed", "eval": "skipped", "report": "completed"
    }  # fmt: skip
    train = state["jobs"][1]
    assert train["attempt"] == 3
    assert state["worked_seconds"] == pytest.approx(0.5 * 3600 + 3 * 6 * 3600 + 2 * 60 + 300, abs=1)
    pipeline(world, on_failure="stop")
    assert jobs(simulated(world, "--fail", "train"))["report"] == "completed"


def test_the_queues_own_time_limit_counts(world: World) -> None:
    """A document whose limits can't be kept would look fine until it is cut off."""
    pipeline(world, global_timeout="2h")
    state = simulated(world)
    assert (state["status"], jobs(state)["train"]) == ("failed", "failed")
    assert state["worked_seconds"] == pytest.approx(2 * 3600, abs=60)


def test_a_former_run_tells_how_long_jobs_take(world: World) -> None:
    """Timeouts are far above what jobs take: the end would be told hours too late."""
    pipeline(world)
    assert world.call("run", "q.json").returncode == 0
    state = simulated(world)
    assert jobs(state) == dict.fromkeys(("prep", "train", "eval", "report"), "completed")
    assert state["worked_seconds"] < 60
    stored = world.state / "queues/q/queue-state.json"
    known = json.loads(stored.read_text())
    known["jobs"][1]["duration_seconds"] = 1000.0
    (world.home / "known.json").write_text(json.dumps(known))
    told = simulated(world, "--durations", "known.json")
    assert 1000 < told["worked_seconds"] < 1060


def test_the_same_seed_is_the_same_run(world: World) -> None:
    """A run of chance that can't be had again explains nothing."""
    pipeline(world)

    def story(seed: str) -> list[tuple[str, int, float]]:
        state = simulated(world, "--seed", seed)
        return [
            (job["status"], job["attempt"], job.get("duration_seconds", 0.0))
            for job in state["jobs"]
        ]

    assert story("7") == story("7") != story("8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fail", "prep"], "--fail has a meaning only with --simulate"),
        (["--seed", "0"], "--seed has a meaning only with --simulate"),
        (["--durations", "x"], "--durations has a meaning only with --simulate"),
        (["--simulate", "--fail", "trian"], 'no job "trian"; did you mean "train"?'),
        (["--simulate", "--fresh"], "--fresh has no meaning"),
        (["--simulate", "--results", "r"], "--results has no meaning"),
        (["--simulate", "--durations", "none.json"], "--durations: none.json: No such file"),
        (["--simulate", "--durations", "q.json"], "--durations: q.json: jobs[0].attempt"),
    ],
)
def test_what_has_no_meaning_is_refused(world: World, words: list[str], told: str) -> None:
    """A flag that is ignored would look like one that holds."""
    pipeline(world)
    refused = world.call("run", "q.json", *words)
    assert refused.returncode == 2 and told in refused.stderr, refused.stderr
    assert not world.state.exists() and "Traceback" not in refused.stderr
