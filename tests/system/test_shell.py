"""What a shell may do to a command: every verb, wherever it is called and whoever reads it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import RUNNER, World

from runner.cli.main import VERBS

DRIVER = Path(__file__).with_name("shell_cases.py")
OK = {"job_id": "ok", "command": "echo out; echo err >&2", "timeout": "1m"}
BAD = {"job_id": "bad", "command": "exit 3", "timeout": "1m", "depends_on": ["ok"]}
NAME = "Größe 日本"

WHAT = [
    ("run q.json", 100),
    ("run q.json --json", 100),
    ("run wrong.json", 2),
    ("validate q.json", 0),
    ("validate q.json --json", 0),
    ("validate wrong.json", 2),
    ("validate wrong.json --json", 2),
    ("schema", 0),
    ("submit q.json", 106),
    ("queues", 0),
    ("queues --json", 0),
    ("status", 0),
    ("status --json", 0),
    ("status --exit-code", 100),
    ("status --watch --exit-code", 100),
    ("status --queue none", 102),
    ("logs ok", 0),
    ("logs ok -f", 0),
    ("logs ok --json", 0),
    ("logs nothing", 102),
    ("results --output fetched", 102),
    ("upload", 2),
    ("wait", 100),
    ("wait --json", 100),
    ("cancel --all", 2),
    ("pause --queue none", 102),
    ("unpause --queue none", 102),
    ("retry --queue none", 102),
    ("release ok --queue none", 102),
    ("close --queue none", 102),
    ("explain --json", 0),
    ("explain none", 102),
    ("notify", 2),
    ("schedule --nope", 2),
    ("stop", 106),
    ("prune --dry-run --json", 0),
    ("completion bash", 0),
    *(
        (f"{verb} --nope", 2)
        for verb in ("daemon", "keep", "enforce-lifetime", "ask", "shell", "ls")
    ),
    *((f"{verb} --nope", 2) for verb in ("launch", "resume", "terminate", "reap", "setup")),
    *((f"{verb} --nope", 2) for verb in ("doctor", "batch", "coordinate")),
    ("statsu", 2),
    ("--help", 0),
]
"""Each verb, and the exit code that is its own."""

STREAMS = [
    *("out gone", "err gone", "out gone+err gone"),
    *("out closed", "in closed+out closed+err closed"),
    *("terminal 40", "terminal 200", "hung up"),
]

LOCALES = {"ja_JP.eucjp": ("ja_JP", "EUC-JP"), "zh_CN.gbk": ("zh_CN", "GBK")}

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "env -i": {},
    "cron": {"LOGNAME": "root", "HOME": "/root", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"},
    "LC_ALL=C": {"LC_ALL": "C", "HOME": ""},
    "C, as it was": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii", "LANG": "C.UTF-8"},
    **{name: {"LC_ALL": name} for name in LOCALES},
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A folder with a queue that failed, whose name isn't ASCII."""
    made = World(tmp_path_factory.mktemp("shell"))
    made.document(OK, BAD, queue_name=NAME)
    # So many errors that they don't fit into a pipe.
    wrong = {"queue_name": "w", "jobs": [{"job_id": "x y"}] * 700}
    (made.home / "wrong.json").write_text(json.dumps(wrong))
    assert made.call("run", "q.json").returncode == 100
    yield made
    made.close()


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of locales that most machines don't have."""
    folder = tmp_path_factory.mktemp("locales")
    for name, (language, charmap) in LOCALES.items():
        words = ["localedef", "-i", language, "-f", charmap, str(folder / name)]
        if shutil.which("localedef") is None:
            pytest.skip("there is no localedef here")
        subprocess.run(words, capture_output=True, check=False)  # it warns, and exits with 1
        if not (folder / name).is_dir():
            pytest.skip(f"localedef has nothing to make {name} of")
    return folder


def driven(
    world: World, commands: list[tuple[str, int]], how: list[str], env: dict[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """What became of each command, in each way."""
    todo = json.dumps({"verbs": [what.split() for what, _ in commands], "streams": how})
    done = subprocess.run(
        [sys.executable, str(DRIVER), todo],
        cwd=world.home,
        env={"RUNNER_CONFIG": str(world.config), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def check(what: str, code: int, got: dict[str, Any], about: str) -> None:
    streams = {name: base64.b64decode(got[name]) for name in ("out", "err") if name in got}
    assert got["code"] == code, (about, what, streams)
    for name, data in streams.items():
        text = data.decode("utf-8", "strict")
        assert "Traceback" not in text and "internal error" not in text, (about, what, text)
        if name == "out" and "--json" in what and not about.startswith("terminal"):
            if data and "closed" not in about:
                assert NAME in json.dumps(json.loads(text), ensure_ascii=False) or NAME not in text
    if "closed" not in about and "gone" not in about and "--json" in what:
        assert streams.get("out", b"{}"), (about, what)


def test_every_verb_ends_with_its_own_code_whoever_reads_it(ended: World) -> None:
    """`runner wait | true` would tell a script of success, and a closed stream be a traceback."""
    assert set(VERBS) <= {what.split()[0] for what, _ in WHAT}
    answers = driven(ended, WHAT, STREAMS, {"TERM": "xterm"})
    for about, all_of_them in answers.items():
        for (what, code), got in zip(WHAT, all_of_them, strict=True):
            check(what, code, got, about)


@pytest.mark.parametrize("about", ENVIRONMENTS)
def test_every_verb_speaks_utf8_wherever_it_is_called(
    ended: World, locales: Path, about: str
) -> None:
    """Cron's environment or an old locale would change exit codes, or print what is no JSON."""
    env = {**ENVIRONMENTS[about], "LOCPATH": str(locales)}
    here = [(what, code) for what, code in WHAT if not what.endswith("--nope")]
    [answers] = driven(ended, here, ["pipes"], env).values()
    told = {}
    for (what, code), got in zip(here, answers, strict=True):
        check(what, code, got, about)
        told[what] = base64.b64decode(got["out"]).decode()
    assert json.loads(told["run q.json --json"])["queue_name"] == NAME
    assert json.loads(told["status --json"])["queue_name"] == NAME


def test_the_very_command_speaks_utf8_in_an_old_locale(ended: World, locales: Path) -> None:
    """What a verb does in a fork is no proof for the command: it has to begin again."""
    env = {**ended.env, "LC_ALL": "ja_JP.eucjp", "LOCPATH": str(locales)}
    done = subprocess.run(
        [*RUNNER, "run", "q.json", "--json"],
        cwd=ended.home,
        env=env,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 100, done.stderr
    assert json.loads(done.stdout.decode())["queue_name"] == NAME


def test_a_job_has_the_very_variables_of_the_caller(world: World, locales: Path) -> None:
    """A command would behave otherwise in a job than in the caller's shell."""
    job = {**OK, "command": "env -0 > seen"}
    ours = {"JOB_ID", "JOB_ATTEMPT", "QUEUE_ID", "PWD", "SHLVL", "_"}
    for number, more in enumerate(({}, {"LC_CTYPE": "C.UTF-8"}, {"LC_ALL": "zh_CN.gbk"})):
        given = {"RUNNER_CONFIG": str(world.config), "LOCPATH": str(locales), **more}
        # 0x81 0x40 is one letter in GBK, and nothing in UTF-8.
        odd = {**{k.encode(): v.encode() for k, v in given.items()}, b"ODD": b"\x81\x40\xff"}
        document = world.document(job, name=f"q{number}")
        subprocess.run(
            [*RUNNER, "run", document], cwd=world.home, env=odd, capture_output=True, check=True
        )
        pairs = (world.home / "seen").read_bytes().rstrip(b"\0").split(b"\0")
        seen = dict(pair.split(b"=", 1) for pair in pairs)
        kept = {k: v for k, v in seen.items() if k.decode() not in ours}
        assert {k: v for k, v in kept.items() if not k.startswith(b"RUNNER_")} == {
            k: v for k, v in odd.items() if not k.startswith(b"RUNNER_")
        }


@pytest.mark.parametrize("ignored", ["HUP", "INT", "TERM"])
@pytest.mark.parametrize("verb", ["run", "daemon"])
def test_a_signal_that_the_caller_has_ignored_stays_ignored(
    world: World, verb: str, ignored: str
) -> None:
    """`nohup runner run` would be interrupted by the hangup that it was started to survive."""
    number = signal.Signals[f"SIG{ignored}"]
    job = {**OK, "command": "touch began; until test -e go; do sleep 0.02; done"}
    world.document(job, working_directory=str(world.home))
    words = [*RUNNER, verb, *(["q.json"] if verb == "run" else [])]
    with open(world.home / "stderr", "ab") as stderr:
        started = subprocess.Popen(
            ["bash", "-c", f"trap '' {ignored}; exec \"$@\"", "bash", *words],
            cwd=world.home,
            env=world.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        if verb == "daemon":
            world.until(lambda: (world.run_dir / "runner.sock").exists())
            world.until(lambda: world.call("submit", "q.json").returncode == 0)
        world.until_file("began")
        started.send_signal(number)
        (world.home / "go").touch()
        world.until(lambda: world.jobs().get("ok", {}).get("status") == "completed")
        if verb == "run":
            assert started.wait(20) == 0
        else:
            assert started.poll() is None
            assert world.call("stop").returncode == 0
            assert started.wait(20) == 0
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()


def test_a_queue_works_in_a_folder_whose_name_is_not_utf8(world: World) -> None:
    """A folder from an old machine would be told as a damaged state."""
    folder = os.fsdecode(os.fsencode(world.home) + b"/caf\xe9")
    os.mkdir(folder)
    jobs = [
        {**OK, "command": "pwd; echo > r\xe9sultat", "result_paths": ["r*"]},
        {**BAD, "command": "true", "working_directory": "none"},
    ]
    document = world.home / world.document(*jobs)
    store = world.home / "store"
    done = world.call("run", str(document), "--results", str(store), cwd=folder)
    assert done.returncode == 100, done.stderr
    assert "does not exist" in world.jobs()["bad"]["error_message"]
    assert world.jobs()["ok"]["results_uploaded"] is True
    assert (store / "jobs/ok/résultat").exists()
    raw = subprocess.run([*RUNNER, "logs", "ok"], env=world.env, capture_output=True, check=True)
    assert raw.stdout == os.fsencode(folder) + b"\n"
    assert world.data("status")["status"] == "failed"
    for words in (["--retry-failed"], ["--fresh"]):
        again = world.call("run", str(document), *words, cwd=folder)
        assert again.returncode == 100, again.stderr


def nobody(world: World, *words: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """A command of a user whom the machine doesn't know; it may read our Python all the same."""
    capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    become = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *capability]
    return subprocess.run(
        [*become, *RUNNER, *words],
        cwd=world.home,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("home", ["unset", "empty"])
def test_who_has_no_home_is_asked_for_one(world: World, home: str) -> None:
    """A container's state would go into a folder named `~`, and its starts come to nothing."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming an unknown user needs root and setpriv")
    world.document(OK)
    before = {*world.home.iterdir()}
    env = {"unset": {}, "empty": {"HOME": ""}}[home]
    for verb in ("run q.json", "status", "daemon"):
        done = nobody(world, *verb.split(), **env)
        assert done.returncode == 2, done
        assert b"--state-dir" in done.stderr and done.stderr.count(b"\n") == 1
    assert nobody(world, "validate", "q.json", **env).returncode == 0
    assert {*world.home.iterdir()} == before
    state = world.home / "given"
    state.mkdir()
    state.chmod(0o777)
    done = nobody(world, "run", "q.json", "--state-dir", str(state), **env)
    assert done.returncode == 0, done


def test_a_service_of_an_unknown_user_starts(world: World) -> None:
    """`KeyError: getpwuid()` would be all that a container says."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming an unknown user needs root and setpriv")
    state = world.home / "given"
    state.mkdir()
    state.chmod(0o777)
    asked = nobody(world, "daemon", "--state-dir", str(state), RUNNER_JOB_USER="somebody")
    assert asked.returncode == 2
    assert b"jobs run as 54321" in asked.stderr, asked
