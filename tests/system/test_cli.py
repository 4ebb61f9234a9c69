"""Every verb as a user has it: what it prints, what it ends with, what it leaves alone."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from world import RUNNER, World, connect, talk

from runner.cli.main import run_command

OK = {"job_id": "ok", "command": "echo out; echo err >&2", "timeout": "1m"}
BAD = {"job_id": "bad", "command": "exit 3", "timeout": "1m"}
LONG = {"job_id": "long", "command": "touch began; exec sleep 60", "timeout": "2m"}
AFTER = {"job_id": "after", "command": "true", "timeout": "1m", "depends_on": ["long"]}
VERBS = [
    *("run", "validate", "schema", "daemon", "submit", "queues", "status", "logs", "wait"),
    *("cancel", "retry", "pause", "unpause", "stop", "prune", "results"),
]


def tree(world: World) -> dict[str, int]:
    """Every file of the world's folder, and when it changed."""
    paths = [p for p in world.home.parent.rglob("*") if p.name != "stderr"]
    return {str(path): path.lstat().st_mtime_ns for path in paths if not path.is_dir()}


@pytest.fixture
def folder(world: World) -> World:
    """A clean folder with some documents, good and bad."""
    world.document(OK)
    (world.home / "empty.json").write_text("")
    (world.home / "latin.json").write_bytes(b'{"queue_name": "\xe9"}')
    (world.home / "two.json").write_text('{"jobs": [{"job_id": "a", "tiemout": "1m"}]}')
    (world.home / "bad.toml").write_text("state_dir = ")
    (world.home / "odd.toml").write_text('stat_dir = "/x"\ndisk_reserve = "much"')
    (world.home / "a.folder").mkdir()
    (world.home / "a.file").write_text("")
    return world


Typed = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def typed(
    folder: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Typed:
    """Runs a command line in this process: exit code, stdout, stderr."""
    for name in [name for name in os.environ if name.startswith("RUNNER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUNNER_CONFIG", str(folder.config))
    monkeypatch.chdir(folder.home)

    def run(command: str) -> tuple[int, str, str]:
        try:
            code = run_command(shlex.split(command))
        except SystemExit as end:
            code = end.code  # type: ignore[assignment]
        return (code, *capsys.readouterr())

    return run


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "usage: runner VERB"),
        ("statsu", "unknown verb 'statsu'; did you mean 'status'?"),
        ("--verbose", "unknown flag --verbose"),
        ("help nope", "unknown verb 'nope'"),
        ("logs ok --tial 3", "unrecognized arguments: --tial 3; did you mean --tail"),
        ("status --jsn=x", "did you mean --json"),
        *(
            (f"{verb} --nope", "unrecognized arguments: --nope|arguments are required")
            for verb in VERBS
        ),
        ("status --exit", "unrecognized arguments: --exit"),
        ("status extra more", "unrecognized arguments: more"),
        ("run", "arguments are required: QUEUE.json"),
        *(
            (f"{verb} missing.json", "missing.json: can't be read: No such file")
            for verb in ("run", "validate", "submit")
        ),
        *(
            (f"{verb} a.folder", "a.folder: is a folder, not a queue document")
            for verb in ("run", "validate", "submit")
        ),
        *(
            (f"{verb} ''", "the path of the document is empty")
            for verb in ("run", "validate", "submit")
        ),
        *(
            (f"{verb} two.json", 'jobs.0..tiemout: .*did you mean "timeout"')
            for verb in ("run", "validate", "submit")
        ),
        ("validate empty.json", "line 1, column 1: the document is empty"),
        ("validate latin.json", "latin.json: line 1, byte 16: is not UTF-8"),
        ("run q.json --fresh --update", "--fresh: begins anew, so it doesn't go with --update"),
        ("run q.json --results ''", "--results is empty"),
        ("run q.json --results a.file", "a file in its place"),
        ("run q.json --state-dir ''", "--state-dir is empty"),
        ("run q.json --state-dir a.file", "state_dir: .*a.file is not a folder"),
        ("run q.json --log-dir a.file", "log_dir: .*a.file is not a folder"),
        ("status --state-dir a.file", "state_dir: .*a.file is not a folder"),
        ("status --config ''", "--config is empty"),
        ("status --config missing.toml", "missing.toml: there is no such settings file"),
        ("status --config a.folder", "a.folder: can't be read: Is a directory"),
        ("status --config bad.toml", "bad.toml: is not TOML"),
        ("status --config odd.toml", 'odd.toml: stat_dir: unknown key; did you mean "state_dir"'),
        *(
            (f"{verb} --queue ''", '--queue: "" can\'t be the id of a queue')
            for verb in ("status", "wait", "pause", "stop", "queues", "prune")
        ),
        ("logs ok --queue ../q", "can't be the id of a queue"),
        ("logs", "give the job whose output is wanted"),
        ("logs ok --attempt 0", "--attempt counts from 1"),
        ("logs ok --attempt two", "invalid int value: 'two'"),
        ("logs ok --bytes 0", "--bytes needs at least one byte"),
        ("logs ok -n -1", "--lines can't be negative"),
        ("logs ok -n 1 --bytes 2", "not allowed with argument"),
        ("logs ok --since yesterday", "--since: .yesterday. is not so long ago as"),
        ("logs ok -f --json", "not with --follow"),
        ("logs ok --events --stderr", "--events is no output of a job: not with --stderr"),
        ("wait --timeout 1d", 'Go durations have no days; write "24h"'),
        ("wait --timeout ''", "--timeout"),
        ("prune --older-than 30", "--older-than: .* is not a duration"),
        ("status --status done", "invalid choice: 'done'"),
        ("status --failed --status running", "not allowed with argument"),
        ("status --watch --all", "--watch shows what there is room for"),
        ("status --watch --json", "not with --json"),
        ("status --job ok --watch", "not with --watch"),
        ("cancel", "give the jobs to end, or --all"),
        ("cancel ok --all", "give jobs or --all, not both"),
        ("retry ok --all", "give jobs or --all, not both"),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_written(
    folder: World, typed: Typed, command: str, message: str
) -> None:
    """A typo would cost a traceback, a half-made state, or be taken for something else."""
    before = tree(folder)
    code, out, err = typed(command)
    assert code == 2, err
    assert re.search(message, err), err
    assert out == ""
    assert tree(folder) == before


def test_all_errors_of_a_document_are_told_one_a_line(folder: World) -> None:
    """A user would fix a document of ten errors in ten rounds."""
    lines = folder.call("validate", "two.json").stderr.splitlines()
    assert len(lines) >= 5 and all(line.startswith("runner validate: ") for line in lines)
    told = folder.data("validate", "two.json")
    assert told["valid"] is False and len(told["errors"]) == len(lines)


def test_help_and_version_are_where_people_look(typed: Typed) -> None:
    """Who tries `runner help` or `-V` would be told that there is no such thing."""
    code, out, err = typed("help")
    assert (code, err) == (0, "") and out == typed("--help")[1] and "  completion " in out
    assert typed("help logs") == typed("logs --help")
    assert typed("-V") == typed("--version")


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(folder: World, typed: Typed, verb: str) -> None:
    """A user would have to guess the flags."""
    code, out, err = typed(f"{verb} --help")
    assert (code, err) == (0, "") and f"usage: runner {verb}" in out
    flags = {"schema": ["--json"], "daemon": ["--config"], "validate": ["QUEUE.json", "--json"]}
    for flag in flags.get(verb, ["--state-dir", "--json"]):
        assert flag in out


@pytest.mark.parametrize(
    ("command", "code"),
    [
        *((verb, 102) for verb in ("status", "wait", "retry", "pause", "unpause", "results")),
        *((f"{verb} --queue q", 102) for verb in ("status", "pause", "queues", "prune")),
        *(("logs ok", 102), ("cancel --all", 102), ("cancel ok", 102), ("status --job ok", 102)),
        *(("stop", 106), ("submit q.json", 106), ("queues", 0), ("prune", 0)),
    ],
)
def test_where_nothing_is_nothing_is_made(
    folder: World, typed: Typed, command: str, code: int
) -> None:
    """Looking would leave folders behind, or a script take "none" for "done"."""
    before = tree(folder)
    ended_with, _, err = typed(command)
    assert ended_with == code and bool(err) == (code != 0), err
    assert tree(folder) == before and not folder.state.exists()


def test_validate_prints_the_order_and_nothing_else(world: World) -> None:
    """`runner validate q.json | xargs …` would not do."""
    document = world.document({**OK, "job_id": "b", "depends_on": ["a"]}, {**OK, "job_id": "a"})
    done = world.call("validate", document)
    assert (done.stdout, done.stderr, done.returncode) == ("a\nb\n", "", 0)
    assert world.data("validate", document) == {"valid": True, "order": ["a", "b"], "warnings": []}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Queues that have ended in every way there is, and one that never will."""
    world = World(tmp_path_factory.mktemp("ended"))
    world.document(OK, name="done")
    world.document(OK, BAD, {**OK, "job_id": "never"}, name="failed")
    world.document(OK, LONG, AFTER, name="cancelled")
    world.document(OK, LONG, AFTER, name="interrupted")
    lost = {**OK, "job_id": "lost", "result_paths": ["nothing/*"]}
    world.document(lost, name="incomplete")
    for name, code in (("done", 0), ("failed", 100)):
        assert world.call("run", f"{name}.json").returncode == code
    results = world.home / "results"
    assert world.call("run", "incomplete.json", "--results", str(results)).returncode in (0, 105)
    for name, verb in (("cancelled", "cancel"), ("interrupted", "stop")):
        run = world.start("run", f"{name}.json")
        world.until_file("began")
        (world.home / "began").unlink()
        flags = ["--all"] if verb == "cancel" else []
        assert world.call(verb, *flags, "--queue", name).returncode == 0
        assert run.wait(20) == {"cancel": 103, "stop": 104}[verb]
    return world


@pytest.mark.parametrize(
    ("name", "code"), [("done", 0), ("failed", 100), ("cancelled", 103), ("interrupted", 104)]
)
def test_the_outcome_is_the_exit_code_where_it_is_asked_for(
    ended: World, name: str, code: int
) -> None:
    """A script could not tell success from failure."""
    assert ended.call("wait", "--queue", name).returncode == code
    assert ended.call("status", "--queue", name, "--exit-code").returncode == code
    assert ended.call("status", "--queue", name).returncode == 0


def test_json_is_on_every_verb_that_prints_data(ended: World) -> None:
    """A program would have to read a table."""
    data = ended.data
    assert data("schema")["type"] == "object"
    assert [queue["status"] for queue in data("queues")] == [
        "completed",
        "failed",
        "completed",
        "cancelled",
        "interrupted",
    ]
    status = data("status", "--queue", "failed")
    assert status["counts"]["failed"] == 1
    assert [job["status"] for job in status["jobs"]] == ["completed", "failed", "skipped"]
    job = data("status", "--queue", "failed", "--job", "bad")
    assert job["exit_code"] == 3 and job["story"][-1]["event"] == "attempt_failed"
    assert data("logs", "ok", "--queue", "done")["text"] == "out\n"
    assert data("wait", "--queue", "failed")["reason"] == "job 'bad' failed"
    assert data("prune", "--older-than", "1h", "--dry-run") == []
    assert data("run", "done.json")["status"] == "completed"
    assert data("queues", "--queue", "done")[0]["queue_id"] == "done"


def test_what_is_not_there_is_told_with_the_nearest_name(ended: World) -> None:
    """A user would look for the typo for a long time."""
    for command, hint in (
        (("status", "--queue", "filed"), '"failed"'),
        (("logs", "bda", "--queue", "failed"), '"bad"'),
        (("status", "--job", "bda", "--queue", "failed"), '"bad"'),
        (("cancel", "lnog", "--queue", "interrupted"), '"long"'),
    ):
        done = ended.call(*command)
        assert done.returncode == 102 and f"did you mean {hint}?" in done.stderr, done.stderr


def test_a_failure_shows_itself(world: World) -> None:
    """A person would have to look for the reason, job by job, in files."""
    retry = {"max_attempts": 2, "base_delay": "10ms"}
    told = "for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; printf '\\033[2J' >&2; exit 3"
    jobs = [
        {"job_id": "told", "command": told, "timeout": "1m", "retry": retry},
        {"job_id": "missing", "command": "no-such-tool", "timeout": "1m"},
        {"job_id": "quiet", "command": "exit 4", "timeout": "1m"},
        {"job_id": "more", "command": "exit 5", "timeout": "1m"},
    ]
    done = world.call("run", world.document(*jobs, on_failure="continue"), "--results", "got")
    assert done.returncode == 100
    assert "told failed attempt=1 exit_code=3 " in done.stdout
    assert "; retry 1 of 1 in 10ms\n" in done.stdout
    assert done.stdout.endswith(f"Z results are in {world.home}/got\n")
    lines = [line.removeprefix("runner run: ") for line in done.stderr.splitlines()]
    assert lines == [
        "job 'told' failed: command execution failed: exit status 3; the end of its stderr:",
        *(f"    line {n}" for n in (4, 5, 6, 7)),
        r"    \x1b[2J",
        "all of it: runner logs told",
        "job 'missing' failed: command execution failed: exit status 127 (command not found); "
        "the end of its stderr:",
        "    /bin/bash: line 1: no-such-tool: command not found",
        "all of it: runner logs missing",
        "job 'quiet' failed: command execution failed: exit status 4",
        "it has written nothing (runner logs quiet)",
        "1 more job failed: runner status --failed",
    ]
    assert "See why:     runner logs told\n" in world.call("status").stdout
    again = world.call("run", "q.json", "--state-dir", str(world.state))
    assert "q had ended before (failed): nothing was started" in again.stderr
    assert "--retry-failed runs what failed; --fresh" in again.stderr
    assert f"runner logs told --state-dir {world.state}" in again.stderr


def test_logs_are_bytes_of_the_attempt_that_is_asked_for(world: World) -> None:
    """A log with odd bytes would be changed, or another attempt's shown."""
    command = r'printf "$JOB_ATTEMPT \xff\x00\xfe"; echo "e$JOB_ATTEMPT" >&2; [ $JOB_ATTEMPT = 2 ]'
    retry = {"max_attempts": 2, "base_delay": "10ms"}
    odd = {"job_id": "odd", "command": command, "timeout": "1m", "retry": retry}
    assert world.call("run", world.document(odd)).returncode == 0

    def bytes_of(*flags: str) -> bytes:
        return subprocess.run(
            [*RUNNER, "logs", "odd", *flags], env=world.env, capture_output=True, check=True
        ).stdout

    assert bytes_of() == bytes_of("--stdout") == b"2 \xff\x00\xfe"
    assert bytes_of("-f", "--attempt", "1") == b"1 \xff\x00\xfe"
    assert bytes_of("--stderr", "--attempt", "2") == b"e2\n"
    assert bytes_of("--bytes", "2") == b"\x00\xfe"
    assert world.call("logs", "odd", "--attempt", "3").returncode == 102
    (world.logs / "queues/q/jobs/odd-stdout.log").unlink()
    gone = world.call("logs", "odd")
    assert gone.returncode == 102 and "is gone" in gone.stderr


def test_logs_of_what_never_ran_say_why(ended: World) -> None:
    """An empty answer would be taken for an empty log."""
    done = ended.call("logs", "never", "--queue", "failed")
    assert done.returncode == 102
    assert "has not started: it is skipped (job 'bad' failed)" in done.stderr
    assert ended.call("logs", "-f", "after", "--queue", "interrupted").returncode == 102


def test_nothing_from_outside_drives_the_terminal(world: World) -> None:
    """A job could write into, or type on, the terminal of whoever looks at it."""
    nowhere = {**BAD, "working_directory": "/no\x1b[2J\r\nwhere"}
    document = world.document(OK, nowhere, queue_name="n\x1b]0;pwned\x07\n")
    ran = world.call("run", document)
    assert ran.returncode == 100
    shown = [
        ran,
        world.call("status"),
        world.call("status", "--job", "bad"),
        world.call("wait"),
        world.call("status", "--watch"),
        world.call("queues"),
        world.call("status", "--queue", "q\x1b[31m"),
        world.call("cancel", "\x1b[31m"),
        world.call("run", "\x1b[31m.json"),
        world.call("\x1b[31m"),
        world.call("status", "--\x1b[31m"),
    ]
    for done in shown:
        text = done.stdout + done.stderr
        assert text and not set(text) & set(map(chr, {*range(32), 127} - {10})), (done.args, text)
    assert r"/no\x1b[2J" in shown[1].stdout


def test_ten_thousand_jobs_are_shown_all_or_as_asked(world: World) -> None:
    """The answer would stop at a page, or a pipe that ends early make noise."""
    jobs = [{**OK, "job_id": f"j{n}"} for n in range(10_000)]
    run = world.start("run", world.document({**LONG, "job_id": "first"}, *jobs))
    world.until_file("began")
    assert len(world.data("status")["jobs"]) == 10_001
    assert world.call("pause").returncode == 0
    shown = world.call("status", "--status", "running").stdout
    assert "10000 pending, 1 running" in shown and shown.count("\n") < 15
    assert run.poll() is None and world.call("cancel", "--all").returncode == 0
    assert run.wait(20) == 103
    assert len(world.data("status", "--status", "cancelled")["jobs"]) == 10_001
    line = " ".join([*RUNNER, "status", "|", "head", "-1"])
    piped = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], env=world.env, capture_output=True, check=False
    )
    assert piped.stdout == b"Queue ID:    q\n" and piped.stderr == b""
    assert piped.returncode == 0


@pytest.mark.parametrize("how", ["closed", "full", "broken"])
def test_output_that_goes_nowhere_disturbs_no_queue(world: World, how: str) -> None:
    """`runner run q.json | head` would end a night's work at its first line."""
    jobs = [{**OK, "job_id": f"j{n}"} for n in range(30)]
    document = world.document(*jobs)
    if how == "closed":
        line = " ".join([*RUNNER, "run", document, ">&-", "2>&-", "<&-"])
        code = subprocess.run(["bash", "-c", line], cwd=world.home, env=world.env).returncode
        assert code == 0
    elif how == "full":
        with open("/dev/full", "wb") as full:
            assert world.start("run", document, stdout=full).wait(20) == 0
    else:
        read, write = os.pipe()
        os.close(read)
        assert world.start("run", document, stdout=write).wait(20) == 0
        os.close(write)
    assert {job["status"] for job in world.jobs().values()} == {"completed"}


def test_a_reader_that_stands_still_holds_up_no_queue(world: World) -> None:
    """`runner run q.json | less` would stop the queue at the first full screen."""
    jobs = [{**OK, "job_id": f"{'x' * 120}{n}", "command": ":"} for n in range(300)]
    run = world.start("run", world.document(*jobs), stdout=subprocess.PIPE)
    world.until(lambda: len(world.jobs()) == 300)
    world.until(lambda: {job["status"] for job in world.jobs().values()} == {"completed"})
    assert run.stdout is not None
    text = run.stdout.read().decode()
    assert len(text) > 65_536 and text.count(" completed attempt=1 ") == 300
    assert run.wait(20) == 0


def test_a_disk_that_is_full_is_told_of_what_we_print(ended: World) -> None:
    """`runner status > file` would end with 0 and half a file."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*RUNNER, "status"], env=ended.env, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.endswith(b": No space left on device\n") and done.stderr.count(b"\n") == 1


def test_a_locale_without_our_letters_is_no_accident(world: World) -> None:
    """An arrow in a message would be a traceback on an old terminal."""
    world.document({**OK, "depends_on": ["ok"]}, queue_name="grün")
    env = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    assert world.call("validate", "q.json", env=env).returncode == 2
    assert world.call("run", world.document(OK, queue_name="grün"), env=env).returncode == 0
    assert "grün" in world.call("status", env=env).stdout


# -- with a run in another terminal --------------------------------------------------------------


def test_a_foreground_run_can_be_looked_at_and_acted_on(world: World) -> None:
    """What runs in one terminal could not be reached from another."""
    run = world.start("run", world.document(LONG, AFTER, {**OK, "job_id": "free"}))
    world.until_file("began")
    row = next(job for job in world.data("status")["jobs"] if job["job_id"] == "long")
    assert 0 <= row["elapsed_seconds"] < 30 and row["timeout"] == "2m0s"
    assert " of 2m0s" in world.call("status").stdout
    assert f"Worker:      runner run (pid {run.pid})" in world.call("status").stdout
    assert world.call("status", "--exit-code").returncode == 101
    assert world.call("wait", "--timeout", "100ms").returncode == 101
    assert world.data("pause")["paused"] is True
    assert world.call("cancel", "long").returncode == 0
    world.until(lambda: world.jobs().get("long", {}).get("status") == "cancelled")
    assert world.jobs()["after"]["status"] == "skipped"
    assert world.jobs()["free"]["status"] == "pending", "paused"
    again = world.call("cancel", "long")
    assert again.returncode == 2 and "has ended already: it is cancelled" in again.stderr
    (world.home / "began").unlink()
    assert world.data("retry", "long")["counts"]["pending"] == 3
    assert "unpause asked for by process" not in world.stderr
    assert world.call("unpause").returncode == 0
    world.until(lambda: "unpause asked for by process" in world.stderr)
    world.until_file("began")
    world.until(lambda: world.jobs()["long"]["attempt"] == 2)
    stopped = world.data("stop")
    assert stopped == {"stopped": f"runner run (pid {run.pid})", "pid": run.pid}
    assert run.wait(20) == 104
    assert world.call("wait").returncode == 104
    assert "the same command" in world.stderr


def test_a_foreground_run_is_no_service(world: World) -> None:
    """A queue would be left without anybody who works on it."""
    run = world.start("run", world.document(LONG))
    world.until_file("began")
    detached = world.call("stop", "--detach")
    assert detached.returncode == 2 and "can't be detached" in detached.stderr
    other = world.document(OK, name="other")
    assert world.call("submit", other).returncode == 106
    twice = world.call("run", "q.json")
    assert twice.returncode == 1 and f"in use by runner run (pid {run.pid})" in twice.stderr
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130
    assert world.jobs()["long"]["status"] == "interrupted"


def test_a_run_has_room_for_many_who_look(world: World) -> None:
    """With the usual limit of 1,024 files a few hundred lookers would shut all others out."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    command = {**LONG, "command": "ulimit -n > limit; touch began; exec sleep 60"}
    few = (256, hard)
    run = world.start(
        *("run", world.document(command)),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, few),
    )
    world.until_file("began")
    path = world.state / "queues/q/control.sock"
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(path))
        assert talk(path, {"request": "ping"})["pid"] == run.pid
    assert (world.home / "limit").read_text() == "256\n", "a job has the limit of its caller"
    assert world.call("stop").returncode == 0 and run.wait(20) == 104


def test_a_run_that_was_killed_is_shown_as_it_was_left(world: World) -> None:
    """A dead run would be taken for one that goes on."""
    run = world.start("run", world.document(LONG))
    world.until_file("began")
    world.until(lambda: world.jobs().get("long", {}).get("pid"))
    run.kill()
    run.wait()
    shown = world.call("status").stdout
    assert "Worker:      none\n" in shown and "adopted by the next start" in shown
    done = world.call("wait")
    assert done.returncode == 101 and "no process works on q" in done.stderr
    assert world.call("cancel", "--all").returncode == 0
    assert world.jobs()["long"]["status"] == "cancelled"


# -- with nobody there ---------------------------------------------------------------------------


def test_a_resting_queue_can_be_acted_on(world: World) -> None:
    """Without a daemon a queue could only be looked at."""
    run = world.start("run", world.document(LONG, AFTER, {**BAD, "depends_on": []}))
    world.until_file("began")
    assert world.call("stop").returncode == 0
    assert run.wait(20) == 104
    assert "interrupted, paused" in world.call("pause").stdout
    assert world.data("status")["paused"] is True
    assert "paused" not in world.data("unpause")
    assert world.call("cancel", "long").returncode == 0
    assert {name: job["status"] for name, job in world.jobs().items()} == {
        "long": "cancelled",
        "after": "skipped",
        "bad": "pending",
    }
    done = world.call("cancel", "--all")
    assert done.returncode == 0 and done.stdout.startswith("q cancelled")
    assert world.call("pause").returncode == 2
    assert world.call("cancel", "--all").returncode == 2
    retried = world.call("retry", "bad")
    assert retried.returncode == 0 and "no process works on it now" in retried.stdout
    assert world.call("run", "q.json").returncode == 100
    assert world.jobs()["bad"]["exit_code"] == 3


def test_results_that_are_missing_have_a_code_of_their_own(world: World) -> None:
    """A pipeline would go on without its results."""
    lost = {**OK, "command": "echo a > r", "result_paths": ["r"]}
    results = world.home / "results"
    world.document(lost)
    assert world.call("run", "q.json", "--results", str(results)).returncode == 0
    assert (results / "jobs/ok/r").exists() or list(results.rglob("r"))
    spoiled = world.home / "spoiled"
    (spoiled / "jobs").mkdir(parents=True)
    (spoiled / "jobs" / "ok").write_text("a file where a folder has to be")
    soon = {"RUNNER_UPLOAD_TIMEOUT": "100ms"}
    ran = world.call("run", "q.json", "--fresh", "--results", str(spoiled), env=soon)
    assert ran.returncode == 105, ran
    assert world.call("wait").returncode == 105
    assert world.call("status", "--exit-code").returncode == 105


def test_runner_status_is_runner_status(ended: World) -> None:
    """The guide's command would not be there."""
    code = "from runner.cli.main import status; status()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--json"], env=ended.env, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == ended.data("status")
    wrong = subprocess.run(
        [sys.executable, "-c", code, "--nope"], env=ended.env, capture_output=True, check=False
    )
    assert wrong.returncode == 2 and b"runner-status: unrecognized" in wrong.stderr


HEAVY = [
    *("asyncio", "rich", "structlog", "boto3", "pydantic", "psutil", "subprocess"),
    *("concurrent.futures", "durationpy"),
]


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("--version", [*HEAVY, "json", "socket"]),
        ("status", HEAVY),
        ("validate q.json", HEAVY[:-1]),
    ],
)
def test_what_looks_imports_little(ended: World, command: str, heavy: list[str]) -> None:
    """Every look would cost a third of a second."""
    code = (
        "import sys; from runner.cli.main import run_command\n"
        f"assert run_command({command.split()}) == 0\n"
        f"assert not {set(heavy)} & set(sys.modules), {set(heavy)} & set(sys.modules)"
    )
    ended.document(OK)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ended.home,
        env=ended.env,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


ELSEWHERE = [
    *("rich", "structlog", "boto3", "pydantic", "urllib.request"),
    *("runner.engine.batch", "runner.service.batch_queues", "runner.results.s3.store"),
]


def test_a_run_here_imports_nothing_of_other_places(world: World) -> None:
    """Each run on this machine would pay for AWS Batch, S3 and the terminal's tables: it did, and
    took 1.7 times as long."""
    code = (
        "import sys; from runner.cli.main import run_command\n"
        "assert run_command(['run', 'q.json']) == 0\n"
        f"assert not {set(ELSEWHERE)} & set(sys.modules), {set(ELSEWHERE)} & set(sys.modules)"
    )
    world.document(OK)
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=world.home, env=world.env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_a_document_may_come_from_a_pipe(world: World) -> None:
    """`make-queue | runner run /dev/stdin` would fail at a second look."""
    text = Path(world.home / world.document(OK)).read_bytes()
    done = subprocess.run(
        [*RUNNER, "run", "/dev/stdin"], env=world.env, input=text, capture_output=True, check=False
    )
    assert done.returncode == 0
