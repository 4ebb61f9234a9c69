"""A fake of SSM Run Command, over HTTP, as rude as the real one: moto's answers Success at once.

Its agent really runs the commands, as a shell in an environment it is given. It cuts their output
at 24,000 and 8,000 characters, is slow, takes commands in no order, registers late, forgets for a
moment what it has just accepted, and throttles. What it doesn't know it leaves to moto.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from templates import loaded

from runner.targets.ec2.account import iam

INSTALLED = "/opt/runner/bin/runner"
"""Where our documents find the program: here it is one on the agent's PATH."""

OUT, ERR = 24_000, 8_000


def _content(name: str) -> dict[str, Any]:
    """A document as `runner setup` installs it."""
    resources = loaded(iam.DOCUMENTS)["Resources"]
    (made,) = [each["Properties"] for each in resources.values()
               if each["Properties"]["Name"] == name]  # fmt: skip
    content: dict[str, Any] = made["Content"]
    return content


class Refused(Exception):
    """An answer with status 400."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.message = message


@dataclass
class Command:
    """One command for one instance."""

    instance: str
    script: str
    limit: float
    delivery: float
    sent: float = field(default_factory=time.monotonic)
    asked: int = 0
    status: str = "Pending"
    details: str = "Pending"
    code: int = -1
    out: str = ""
    err: str = ""


@dataclass
class Agent:
    """An instance as SSM knows it. ``ping`` None: it has not registered. Seconds all."""

    region: str
    env: Mapping[str, str]
    ping: str | None = "Online"
    slow: float = 0.0
    """Until it fetches a command."""
    deaf: bool = False
    """Online, as SSM believes, but fetches nothing."""
    inside: Callable[..., list[str]] = lambda *words: list(words)
    """The command of this host that runs such a command there."""


class FakeSsm:
    """Start it, give its ``url`` as AWS_ENDPOINT_URL_SSM, and close it."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.agents: dict[str, Agent] = {}
        self.documents = {"Runner-Look", "Runner-Act"}
        self.denied: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.sent: list[tuple[str, str]] = []
        self.throttle: Counter[str] = Counter()
        """How many calls of an operation are still refused."""
        self.unknown_at_first = 1
        """How often a command isn't there yet."""
        self.hasty = 1.0
        """By how much its clock for undelivered commands is too fast."""
        self.garbled = False
        """Whether the output of what is done gets lost."""
        self.expired = False
        self.outputs: list[int] = []
        self._commands: dict[str, Command] = {}
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with self._lock:
            left = list(self._running)
        for process in left:
            process.kill()
            process.wait()

    # -- operations --------------------------------------------------------------------------

    def answer(self, operation: str, asked: dict[str, Any], region: str) -> dict[str, Any]:
        with self._lock:
            self.calls[operation] += 1
            if self.throttle[operation] > 0:
                self.throttle[operation] -= 1
                raise Refused("ThrottlingException", "Rate exceeded")
        if self.expired:
            raise Refused("ExpiredTokenException", "The security token included is expired")
        match operation:
            case "SendCommand":
                return self._send(asked, region)
            case "GetCommandInvocation":
                return self._invocation(asked)
            case "DescribeInstanceInformation":
                return self._describe(asked, region)
        raise LookupError(operation)

    def _send(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        document = asked["DocumentName"]
        if document in self.denied:
            raise Refused("AccessDeniedException", f"not authorized: {document}")
        script, limit = self._script(document, asked["Parameters"])
        assert asked["TimeoutSeconds"] >= 30, "SSM takes no less"
        (instance,) = asked["InstanceIds"]
        agent = self.agents.get(instance)
        if agent is None or agent.region != region or agent.ping in (None, "ConnectionLost"):
            raise Refused("InvalidInstanceId", "Instances not in a valid state for account")
        command = Command(instance, script, limit, asked["TimeoutSeconds"] / self.hasty)
        name = str(uuid.uuid4())
        with self._lock:
            self._commands[name] = command
            self.sent.append((document, script))
        if not agent.deaf:
            threading.Thread(target=self._run, args=(agent, command), daemon=True).start()
        return {"Command": {"CommandId": name, "Status": "Pending"}}

    def _script(self, document: str, given: dict[str, list[str]]) -> tuple[str, float]:
        if document == "AWS-RunShellScript":
            return "\n".join(given["commands"]), float(given["executionTimeout"][0])
        if document not in self.documents:
            raise Refused("InvalidDocument")
        told = _content(document)
        (word,) = given["request"]
        if not re.fullmatch(told["parameters"]["request"]["allowedPattern"], word):
            raise Refused("InvalidParameters", "request")
        (step,) = told["mainSteps"]
        script = "\n".join(step["inputs"]["runCommand"]).replace("{{ request }}", word)
        return script, float(step["inputs"]["timeoutSeconds"])

    def _invocation(self, asked: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            command = self._commands.get(asked["CommandId"])
            if command is None or command.instance != asked["InstanceId"]:
                raise Refused("InvocationDoesNotExist")
            command.asked += 1
            if command.asked <= self.unknown_at_first:
                raise Refused("InvocationDoesNotExist")
            if command.status == "Pending" and time.monotonic() - command.sent > command.delivery:
                command.status, command.details = "TimedOut", "Delivery Timed Out"
            ended = command.status not in ("Pending", "InProgress")
            return {
                "CommandId": asked["CommandId"],
                "InstanceId": command.instance,
                "Status": command.status,
                "StatusDetails": command.details,
                "ResponseCode": command.code,
                "StandardOutputContent": command.out if ended else "",
                "StandardErrorContent": command.err if ended else "",
            }

    def _describe(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        wanted = asked["Filters"][0]["Values"]
        found = [
            {"InstanceId": name, "PingStatus": agent.ping, "LastPingDateTime": time.time() - 90,
             "AgentVersion": "3.3.0.0"}
            for name, agent in self.agents.items()
            if name in wanted and agent.region == region and agent.ping is not None
        ]  # fmt: skip
        return {"InstanceInformationList": found}

    # -- the agent ---------------------------------------------------------------------------

    def _run(self, agent: Agent, command: Command) -> None:
        time.sleep(agent.slow * random.uniform(0.9, 1.1))  # reason: this is what is faked
        command.status = command.details = "InProgress"
        process = subprocess.Popen(
            agent.inside("/bin/sh", "-c", command.script.replace(INSTALLED, "runner")),
            env=dict(agent.env),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with self._lock:
            self._running.add(process)
        try:
            out, err = process.communicate(timeout=command.limit)
            status = details = "Success" if process.returncode == 0 else "Failed"
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            status, details = "TimedOut", "Execution Timed Out"
        with self._lock:
            self._running.discard(process)
            text = out.decode("utf-8", "replace")
            self.outputs.append(len(text))
            command.out = "" if self.garbled else text[:OUT]
            command.err = err.decode("utf-8", "replace")[:ERR]
            command.code = process.returncode
            command.status, command.details = status, details


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeSsm

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed has gone without its answer; anything else is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        region = self.headers["Authorization"].split("Credential=")[1].split("/")[2]
        try:
            answer = server.fake.answer(operation, json.loads(body), region)
            self._say(200, answer)
        except Refused as error:
            self._say(400, {"__type": error.code, "message": error.message})
        except LookupError:
            self._pass_on(server.fake.upstream, body)

    def _say(self, status: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _pass_on(self, upstream: str, body: bytes) -> None:
        # What was signed, the name of the host too.
        kept = ("X-Amz-Target", "Authorization", "Content-Type", "X-Amz-Date", "Host")
        headers = {name: self.headers[name] for name in kept if self.headers[name]}
        request = urllib.request.Request(upstream, body, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            self._say(answer.status, json.loads(answer.read()))

    def log_message(self, *_: Any) -> None:
        """Nothing."""
