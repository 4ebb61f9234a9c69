"""A fleet under its operator's eyes: a job that fails is paused; a page of 100,000 tasks opens."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.records import JobOptions, Metrics, TaskItem, TaskState

FLEET = [sys.executable, "-c", "from runner.fleet.cli.main import main; main()"]
WORK = ("--poll-wait", "0.2", "--shutdown-after-empty", "1")

Call = Callable[..., str]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """`runner-fleet` with an embedded database."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RUNNER", "BEC"))}
    env = {**kept, "HOME": str(tmp_path), "RUNNER_FLEET": str(tmp_path / "fleet")}

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [*FLEET, *words], cwd=tmp_path, env=env, text=True, timeout=240,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def database(tmp_path: Path) -> FleetDatabase:
    made = open_database(str(tmp_path / "fleet"))
    made.check_schema()
    return made


def test_ten_failures_pause_the_job_until_somebody_resumes_it(call: Call) -> None:
    """A bad model would fail 100,000 tasks; or, mended and resumed, one more failure stop all."""
    call("jobs", "create", "--name", "j", "--command", "exit 3", "--terminal-on-codes", "3")
    volumes = [word for number in range(25) for word in ("--volume", f"W,{number}")]
    call("queue", "enqueue", "--job-name", "j", *volumes)
    said = call("worker", "--job-name", "j", *WORK)
    why = "10 tasks in a row have failed for good, the last: W/9: task: "
    assert f"Job j is paused: {why}" in said
    told = json.loads(call("status", "--job-name", "j", "--json"))[0]
    assert told["paused"].startswith(why)
    assert told["states"] == {"pending": 15, "terminal_failed": 10}
    assert [each["count"] for each in told["failures"]] == [10]
    assert f"Paused: {why}" in call("status", "--job-name", "j")
    call("worker", "--job-name", "j", *WORK)
    assert json.loads(call("status", "--job-name", "j", "--json"))[0]["states"]["pending"] == 15
    call("jobs", "resume", "j")
    call("worker", "--job-name", "j", *WORK)
    told = json.loads(call("status", "--job-name", "j", "--json"))[0]
    assert told["states"] == {"pending": 5, "terminal_failed": 20}, "ten more, not one"


# -- the page --------------------------------------------------------------------------------------

TASKS = 100_000
LARGEST = 3_000_000
HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=document.title='run'>"


def browser() -> list[str]:
    """A real one, without a network. Where there is none: skipped, but never in CI."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no chromium")
    cut_off = ["unshare", "--net"] if os.geteuid() == 0 else []
    return [
        *cut_off, found, "--headless", "--no-sandbox", "--disable-gpu",
        "--virtual-time-budget=20000", "--dump-dom",
    ]  # fmt: skip


def test_a_page_of_100000_tasks_opens_in_a_browser(
    call: Call, database: FleetDatabase, tmp_path: Path
) -> None:
    """A fleet that matters would have a report that nobody can open, or that runs a job's words."""
    words = browser()
    job = database.create_job("j", "{}", JobOptions(command="true"))
    items = [TaskItem.volume(f"W{number % 977}", f"I{number:06}") for number in range(TASKS - 1)]
    database.tasks.enqueue(job.id, [TaskItem.volume("hostile", HOSTILE), *items])
    worker = database.register(job.id, "w")
    for number in range(40):
        task = database.tasks.claim_next(job.id, worker, f"c{number}", 60.0)
        assert task is not None
        if number % 4:
            assert database.tasks.finish(task, Metrics(10, 0, 1500.0))
        else:
            assert database.tasks.fail(task, HOSTILE, Metrics())
    database.close()
    began = time.monotonic()
    page = tmp_path / "report.html"
    told = json.loads(call("report", "j", "--html", str(page), "--json"))
    print(f"{told['bytes']:,} bytes, made in {time.monotonic() - began:.1f} s")
    assert (told["tasks"], told["tasks_in_page"]) == (TASKS, TASKS)
    assert told["bytes"] == page.stat().st_size < LARGEST

    def seen(search: str) -> str:
        begun = time.monotonic()
        done = subprocess.run(
            [*words, f"--user-data-dir={tmp_path}/browser", f"file://{page}#{search}"],
            capture_output=True, text=True, timeout=120, check=True,
            env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
        print(f"#{search}: {time.monotonic() - begun:.1f} s with the browser's start")
        assert "<title>Fleet job j</title>" in done.stdout, "a task's words were run"
        return done.stdout

    def found(dom: str) -> tuple[str, list[str]]:
        count = re.search(r'id="count"[^>]*>([^<]*)<', dom)
        rows = re.search(r'<tbody id="found">(.*?)</tbody>', dom, re.S)
        assert count is not None and rows is not None
        return count[1], [unescape(key) for key in re.findall(r"<tr><td>(.*?)</td>", rows[1])]

    assert found(seen("q=I054321")) == (f"1 of {TASKS:,} tasks", [f"W{54321 % 977}/I054321"])
    state = TaskState.TERMINAL_FAILED.value
    count, keys = found(seen(f"state={state}&q=document.title"))
    assert (count, len(keys)) == (f"10 of {TASKS:,} tasks", 10)
    assert f"hostile/{HOSTILE}" in keys
    count, keys = found(seen("q="))
    assert count == f"{TASKS:,} of {TASKS:,} tasks, the first 200 are shown"
    assert len(keys) == 200
