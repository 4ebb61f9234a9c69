"""The lifetime guard, as a timer calls it: it ends the machine by systemctl's real name, after
what has to be settled with EC2, and it can be killed anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from imds import Imds
from s3_endpoint import env_for

from runner.host.machine_file import this_moment

pytestmark = pytest.mark.long
BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Ec2:
    """An EC2 endpoint that is rude on demand: ``fail`` tries of an action, by what error."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail: dict[str, list[str]] = {}
        self.request: str | None = "sir-1"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.ec2 = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def answer(self, action: str) -> tuple[int, str]:
        self.calls.append(action)
        if codes := self.fail.get(action):
            code = codes.pop(0)
            error = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
            status = 503 if code == "Unavailable" else 403
            return status, f"<Response><Errors>{error}</Errors></Response>"
        spot = f"<spotInstanceRequestId>{self.request}</spotInstanceRequestId>"
        instance = f"<item><instanceId>i-1</instanceId>{spot if self.request else ''}</item>"
        inner = (
            f"<reservationSet><item><instancesSet>{instance}</instancesSet></item></reservationSet>"
        )
        return 200, f"<{action}Response>{inner}</{action}Response>"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        action = parse_qs(body)["Action"][0]
        status, text = self.server.ec2.answer(action)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: Any) -> None:
        pass


class Box:
    """A machine of one state folder; its ``systemctl`` writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        self.record = self.state / "machine.json"
        self.asked = folder / "asked"
        self.config = folder / "runner.toml"
        self.config.write_text(f'state_dir = "{self.state}"\njob_user = "root"\n')
        tools = folder / "bin"
        tools.mkdir()
        for name in ("systemctl", "shutdown"):
            (tools / name).write_text(f'#!/bin/sh\necho "{name} $@" >> {self.asked}\n')
            (tools / name).chmod(0o755)
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RUNNER_", "AWS_"))},
            "PATH": f"{tools}:{os.environ['PATH']}",
            "RUNNER_CONFIG": str(self.config),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def on_ec2(self, imds: Imds, ec2: Ec2, market: str = "spot") -> None:
        imds.data |= {"instance-id": "i-1", "instance-life-cycle": market}
        imds.data["placement/region"] = "eu-west-1"
        self.env |= {**env_for(ec2.url), **imds.env}

    def plan(self, what: str = "stop", left: float = 0.0, **more: Any) -> None:
        """Write what the daemon remembers."""
        uptime = this_moment().uptime
        plan = {
            "what": what,
            "why": "queue q completed",
            "boot_id": BOOT_ID,
            "due": uptime + left,
            "after": 300.0,
            "at": time.time() + left,
        }
        self.record.write_text(json.dumps({"version": 1, "plan": plan, **more}))

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "runner", "enforce-lifetime"],
            env=self.env,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> tuple[int, str]:
        """One call of the timer."""
        process = self.start()
        _, said = process.communicate(timeout=60)
        assert "Traceback" not in said
        return process.returncode, said

    @property
    def powered_off(self) -> bool:
        return self.asked.exists() and "systemctl poweroff" in self.asked.read_text()

    def kept(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.record.read_text())
        return told

    def age(self, seconds: float) -> None:
        """The end has begun so much longer ago."""
        told = self.kept()
        told["ending"]["since"] -= seconds
        self.record.write_text(json.dumps(told))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def ec2() -> Iterator[Ec2]:
    made = Ec2()
    yield made
    made.close()


def test_it_ends_what_is_due_and_nothing_else(box: Box) -> None:
    """A machine with work would be powered off, or one without stay for ever."""
    assert box.run()[0] == 0 and not box.powered_off
    box.plan(left=3600)
    assert box.run()[0] == 0 and not box.powered_off
    box.plan()
    code, said = box.run()
    assert code == 0 and box.powered_off
    assert "queue q completed" in said


def test_a_hold_is_heeded_and_comes_too_late_once_it_has_begun(box: Box) -> None:
    """The machine would go under somebody's hands; or he be told that it stays."""
    box.plan()

    def keep(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "runner", "keep", *words]
        return subprocess.run(command, env=box.env, capture_output=True, text=True, check=False)

    assert keep().returncode == 2 and keep("1d").returncode == 2
    assert keep("1h", "--forever").returncode == 2
    held = keep("1h")
    assert held.returncode == 0 and "held until" in held.stdout
    assert box.run()[0] == 0 and not box.powered_off
    assert "until it is released" in keep("--forever").stdout
    assert box.run()[0] == 0 and not box.powered_off
    assert keep("--release").returncode == 0
    box.run()
    assert box.powered_off
    late = keep("1h")
    assert late.returncode == 2 and "too late" in late.stderr


def test_a_lifetime_ends_without_any_daemon(box: Box) -> None:
    """A machine whose daemon never starts would cost money for ever."""
    with box.config.open("a") as file:
        file.write('max_lifetime = "1s"\n')
    assert box.run()[0] == 0
    assert box.powered_off, "it is up for longer than a second"
    assert box.kept()["ending"]["what"] == "stop"


def test_broken_settings_do_not_let_it_live(box: Box) -> None:
    """A mistake in the settings would cost as much as a machine does in a month."""
    box.plan(left=3600, life={"began": 1.0, "limit": 60.0, "what": "stop"})
    box.config.write_text("state_dir = [\n")
    box.env["RUNNER_STATE_DIR"] = str(box.state)
    code, said = box.run()
    assert code == 0 and box.powered_off and "those before hold" in said


def test_a_spot_request_is_given_back_before_anything_ends(box: Box, imds: Imds, ec2: Ec2) -> None:
    """EC2 would launch the next machine for the same request, and so on."""
    box.on_ec2(imds, ec2)
    box.plan("terminate")
    ec2.fail["CancelSpotInstanceRequests"] = ["UnauthorizedOperation"] * 2
    for _ in range(2):
        code, said = box.run()
        assert code == 1 and not box.powered_off and "tried again" in said
    assert "TerminateInstances" not in ec2.calls
    code, said = box.run()
    assert code == 0 and box.powered_off and "sir-1 is cancelled" in said
    assert ec2.calls[-2:] == ["CancelSpotInstanceRequests", "TerminateInstances"]


def test_one_that_can_not_be_given_back_ends_in_the_end(box: Box, imds: Imds, ec2: Ec2) -> None:
    """A role that lacks a permission would keep an idle machine for ever."""
    box.on_ec2(imds, ec2)
    box.plan("terminate")
    ec2.fail["DescribeInstances"] = ["UnauthorizedOperation"] * 9
    assert box.run()[0] == 1
    box.age(899 - 60)
    assert box.run()[0] == 1 and not box.powered_off
    box.age(120)
    code, said = box.run()
    assert code == 0 and box.powered_off and "all the same" in said
    assert "TerminateInstances" not in ec2.calls, "its request would be opened again"


def test_on_demand_nothing_is_cancelled(box: Box, imds: Imds, ec2: Ec2) -> None:
    """A role without those permissions would hold up the end; stop would become terminate."""
    box.on_ec2(imds, ec2, "on-demand")
    box.plan("stop")
    assert box.run()[0] == 0 and box.powered_off and ec2.calls == []
    box.asked.unlink()
    box.plan("terminate")
    assert box.run()[0] == 0 and box.powered_off and ec2.calls == ["TerminateInstances"]


def test_a_silent_metadata_service_is_waited_for(box: Box, imds: Imds, ec2: Ec2) -> None:
    """A spot machine would be taken for another, and its request stay open."""
    box.on_ec2(imds, ec2)
    box.plan("terminate")
    imds.mood = "500"
    code, said = box.run()
    assert code == 1 and not box.powered_off and "metadata" in said
    imds.mood = "well"
    assert box.run()[0] == 0 and box.powered_off


def test_a_machine_that_ec2_takes_away_is_left_to_it(box: Box, imds: Imds, ec2: Ec2) -> None:
    """The spot request would be disabled, as if a person had stopped the machine."""
    box.on_ec2(imds, ec2)
    box.plan()
    imds.announce_spot(120)
    code, said = box.run()
    assert code == 0 and not box.powered_off and "spot interruption" in said
    imds.announce_spot(-1e6)
    assert box.run()[0] == 0 and box.powered_off, "a notice of a former boot is history"


@pytest.mark.parametrize("stage", ["DescribeInstances", "CancelSpotInstanceRequests"])
def test_killed_between_two_steps_the_next_call_goes_on(
    box: Box, imds: Imds, ec2: Ec2, stage: str
) -> None:
    """A power cut would leave a machine that believes it has ended."""
    box.on_ec2(imds, ec2)
    box.plan("terminate")
    answer, reached, go = ec2.answer, threading.Event(), threading.Event()

    def slow(action: str) -> tuple[int, str]:
        if action == stage:
            reached.set()
            go.wait(20)
        return answer(action)

    ec2.answer = slow  # type: ignore[method-assign]
    process = box.start()
    assert reached.wait(20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    go.set()
    assert box.kept()["ending"]["boot_id"] == BOOT_ID, "durable before anything was done"
    assert not box.powered_off
    ec2.answer = answer  # type: ignore[method-assign]
    assert box.run()[0] == 0 and box.powered_off


def test_without_any_library_it_ends_the_machine(box: Box, imds: Imds, ec2: Ec2) -> None:
    """A broken installation would keep the machine for ever."""
    box.on_ec2(imds, ec2)
    box.plan("terminate")
    code = (
        "import sys; names = 'boto3 botocore structlog psutil rich durationpy sdnotify'.split();"
        "sys.modules.update(dict.fromkeys(names));"
        "from runner.cli.main import run_command; sys.exit(run_command(['enforce-lifetime']))"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=box.env, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "tried again" in done.stderr, done.stderr
    box.age(1000)
    done = subprocess.run(words, env=box.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and box.powered_off, done.stderr
