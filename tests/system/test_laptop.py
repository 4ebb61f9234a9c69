"""The command line where Linux's own calls are absent: what a Mac does with queues elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from account import Account, Laptop
from elsewhere import Elsewhere
from s3_endpoint import Endpoint
from world import World

EXAMPLE = Path(__file__).parents[2] / "examples" / "quickstart.json"
NO_LINUX = {"PYTHONPATH": str(Path(__file__).with_name("no_linux"))}

PROOF = """
import ctypes, os, sys
assert sys.platform == "darwin" and not hasattr(os, "pidfd_open") and not os.path.exists("/proc")
try:
    open("/proc/self/stat")
except FileNotFoundError:
    print(hasattr(ctypes.CDLL(None), "prctl"))
"""


@pytest.fixture
def laptop(world: World) -> World:
    nobody = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "none"}
    world.env.update({**NO_LINUX, **nobody, **keys})
    return world


def test_the_imitation_lacks_what_a_mac_lacks(laptop: World) -> None:
    """Broken: the tests below show nothing."""
    words = [sys.executable, "-c", PROOF]
    told = subprocess.run(words, env=laptop.env, capture_output=True, text=True, check=False)
    assert (told.stdout, told.stderr) == ("False\n", "")


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["--help"], 0, "usage: runner VERB"),
        (["--version"], 0, "runner "),
        (["schema"], 0, '"$schema"'),
        (["validate", str(EXAMPLE)], 0, "setup\nprocess\ncleanup"),
        (["validate", "none.json"], 2, "none.json"),
        (["run", "--help"], 0, "--results"),
        (["queues"], 0, "QUEUE ID"),
        (["status"], 102, "there is no queue"),
        (["logs", "a"], 102, "there is no queue"),
        (["submit", str(EXAMPLE)], 106, "no daemon"),
        (["stop"], 106, "nothing runs here"),
        (["results", "./nothing"], 102, "nothing"),
        (["completion", "zsh"], 0, "compdef"),
        (["setup", "--show"], 0, "Resources:"),
        (["doctor", "--region", "eu-west-1"], 1, "fail"),
    ],
)
def test_what_needs_no_linux(laptop: World, command: list[str], code: int, said: str) -> None:
    """A user with a Mac would get a traceback, or an error of the machine's inside."""
    done = laptop.call(*command)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr and "internal error" not in done.stderr


@pytest.mark.parametrize("verb", ["run", "daemon", "keep", "enforce-lifetime"])
def test_what_needs_linux_says_so(laptop: World, verb: str) -> None:
    """It would fail in the middle, and leave half of something behind."""
    more = {"run": [str(EXAMPLE)], "keep": ["2h"]}.get(verb, [])
    done = laptop.call(verb, *more)
    told = f"runner {verb}: jobs run on Linux only, and this is darwin\n"
    assert (done.returncode, done.stderr, done.stdout) == (2, told, "")
    assert not laptop.state.exists()


def test_what_a_machine_has_stored_is_fetched_and_read(world: World, endpoint: Endpoint) -> None:
    """The results of a night on EC2 could be seen on Linux only."""
    world.env.update(endpoint.env)
    where = f"s3://{endpoint.bucket()}/night"
    job: dict[str, Any] = {"job_id": "a", "command": "echo told; echo x > x", "timeout": "1m"}
    document = world.document({**job, "result_paths": ["x"]})
    assert world.call("run", document, "--results", where).returncode == 0
    world.env.update(NO_LINUX)
    for _ in range(2):
        done = world.call("results", where, "--output", "fetched")
        assert done.returncode == 0, done.stderr
    assert (world.home / "fetched/a/x").read_text() == "x\n"
    assert world.call("results", where, "--output", "fetched", "--verify").returncode == 0
    assert world.call("logs", "a", "--from", where).stdout == "told\n"


def test_a_machine_on_ec2_is_asked_and_told(elsewhere: Elsewhere) -> None:
    """A user with a Mac could launch a machine, and then not reach it."""
    elsewhere.laptop.env.update(NO_LINUX)
    name = elsewhere.launched()
    waits = {"job_id": "waits", "command": "echo told; exec sleep 600", "timeout": "20m"}
    elsewhere.run(waits)
    elsewhere.until_job("waits", "running")
    call = elsewhere.laptop.call
    assert "PID" in call("status", name).stdout
    assert call("logs", "waits", "--on", name).stdout == "told\n"
    assert name in call("ls").stdout
    assert call("cancel", "waits", "--on", name).returncode == 0
    elsewhere.machine.until(lambda: elsewhere.status() == "cancelled")
    done = call("terminate", name, "--yes")
    assert (done.returncode, done.stdout.split(":")[0]) == (0, name), done.stderr


def test_a_queue_goes_to_ec2(aws: Account, tmp_path: Path) -> None:
    """A user with a Mac could not even launch one."""
    mac = Laptop(aws, tmp_path)
    mac.popen = subprocess.Popen
    process = mac.start("--yes", **NO_LINUX)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "launched" in out, err
    assert len(mac.instances()) == 1
