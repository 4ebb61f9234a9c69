"""AWS of the launch fuzz: moto behind a proxy that knows who asks, and does to him what was drawn.

A fault is for the n-th call of a kind that one command makes, so that it comes at the same place
again whoever else is about. What there really is, is the truth's (fuzz_truth).
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import ec2_faults
from ec2_faults import LoseAnswer, LoseRequest, Pass, Refuse, RudeEc2
from fuzz_agent import Agents
from fuzz_clock import Clock
from fuzz_truth import Machine, Truth, matches, page

_STILL = frozenset(
    {
        "DescribeInstanceTypes", "DescribeInstanceTypeOfferings", "DescribeSubnets",
        "DescribeSecurityGroups", "DescribeImages", "GetInstanceProfile",
        "AmazonSSM.GetParameters", "AWSPriceListService.GetProducts", "DescribeRegions",
    }
)  # fmt: skip
"""What never changes is asked of moto once."""

_Reply = ec2_faults._Reply


@dataclass(frozen=True, slots=True)
class Cut:
    """A signal while it waits for the answer; ``done``: what was asked is done before."""

    number: signal.Signals
    done: bool = True


@dataclass(frozen=True, slots=True)
class Asleep:
    """The laptop is closed for so many seconds, once what was asked is done; ``meanwhile``
    others go on."""

    seconds: float
    meanwhile: Callable[[], None] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Expire:
    """The keys have run out: this call and all later ones of the command are refused."""


Act = Refuse | LoseAnswer | LoseRequest | Pass | Cut | Asleep | Expire


class Judge(Protocol):
    """Of a command: whether it may end a machine."""

    def may_end(self, machine: Machine, by: str, truth: Truth) -> str | None:
        """Why not; None if it may. ``by``: the call's words."""


@dataclass(slots=True)
class Call:
    """One command that is under way. ``plan``: by the label of a call and its number, from 1."""

    key: str
    slot: int
    words: str
    judge: Judge
    plan: dict[tuple[str, int], Act] = field(default_factory=dict)
    pages: int = 0
    """Items of a page; 0: all on one."""
    pid: int = 0
    expired: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    signalled: bool = False


def label_of(operation: str, path: str) -> str:
    """What kind of call it is: EC2's name, or S3's method and the kind of key."""
    if not operation.startswith("S3."):
        return operation
    parts = urlsplit(path)
    key = unquote(parts.path).lstrip("/").partition("/")[2]
    kind = next((name for prefix, name in _KEYS.items() if key.startswith(prefix)), "state")
    if not key:
        kind = "list" if "list-type" in parts.query else "bucket"
    return f"{operation[3:]} {kind}"


_KEYS = {
    "runner/index/": "index",
    "runner/launches/": "launch",
    "runner/bundles/": "bundle",
    "runner/.probe": "probe",
    "runner/machines/": "machine",
    "runner/ending/": "ending",
    "runner/": "more",
}


class FuzzCloud(RudeEc2):
    """Start it before an account's endpoint, once; ``begin`` a round with its truth."""

    def __init__(self, port: int, clock: Clock) -> None:
        super().__init__(port)
        self.prices = {"t3.medium": 0.0416, "t3.large": 0.0832}
        self.clock = clock
        self.truth = Truth(0, self.now, lagging=False)
        self.agents = Agents()
        self.stores = ""
        self._calls: dict[str, Call] = {}
        self._still: dict[tuple[str, bytes], _Reply] = {}
        self._written: dict[str, float] = {}
        self._guard = threading.RLock()

    def now(self) -> float:
        """The round's clock, which is AWS's: seconds since the epoch."""
        return time.time() + self.clock.passed()

    def begin(self, truth: Truth, agents: Agents, stores: str) -> None:
        """A new round; ``stores``: how its result stores begin, as a filter's value."""
        self.truth, self.agents, self.stores = truth, agents, stores
        self._calls.clear()
        self._written.clear()

    def expect(self, call: Call) -> None:
        """A command that is about to be started; it is told by its access key."""
        self._calls[call.key] = call

    # -- one request -------------------------------------------------------------------------

    def heard(self, handler: Any, body: bytes) -> _Reply | None:
        found = re.search(r"Credential=(\w+)/", handler.headers.get("authorization", ""))
        call = self._calls.get(found[1]) if found else None
        operation = handler.operation(body)
        if operation == "RunInstances" and b"DryRun=true" in body:
            operation = "RunInstances(dry)"
        label = label_of(operation, handler.path)
        if call is not None and call.pages and label == "GET list":
            handler.path += f"&max-keys={call.pages}"

        def effect() -> _Reply:
            done = self._effect(operation, handler, body, call)
            if operation == "S3.PUT" and done.status == 200:
                self._written[urlsplit(handler.path).path] = self.now()
            return done

        reply = self._met(call, label, operation, effect) if call else effect()
        return self._dated(handler, reply) if reply else None

    def _met(
        self, call: Call, label: str, operation: str, effect: Callable[[], _Reply]
    ) -> _Reply | None:
        """The answer, with what was drawn for this call."""
        with self._guard:
            call.counts[label] += 1
            number = call.counts[label]
        act = call.plan.get((label, number), Pass())
        if not isinstance(act, Pass):
            self.truth.note(f"    {call.words}: {label} {number}: {act}")
        if isinstance(act, Expire):
            call.expired = True
        if call.expired:
            return _refused(operation, Refuse("ExpiredToken", "The keys have expired"))
        match act:
            case Refuse():
                return _refused(operation, act)
            case LoseRequest():
                return None
            case LoseAnswer():
                call.lost.append(label)
                effect()
                return None
            case Cut():
                if act.done:
                    effect()
                call.signalled = True
                os.kill(call.pid, act.number)
                call.ended.wait(5)
                return None
            case Asleep():
                reply = effect()
                os.kill(call.pid, signal.SIGSTOP)
                try:
                    self.clock.suspend(call.slot, act.seconds)
                    act.meanwhile()
                finally:
                    os.kill(call.pid, signal.SIGCONT)
                return reply
        return effect()

    def _dated(self, handler: Any, reply: _Reply) -> _Reply:
        """With the times of the round's clock, which is what S3 and EC2 have."""
        path = urlsplit(handler.path).path
        told = []
        for name, value in reply.headers:
            if name.lower() == "date":
                continue
            if name.lower() == "last-modified":
                value = formatdate(self._written.get(path, self.now()), usegmt=True)
            told.append((name, value))
        return replace(reply, headers=[*told, ("Date", formatdate(self.now(), usegmt=True))])

    # -- what it does ------------------------------------------------------------------------

    def _effect(self, operation: str, handler: Any, body: bytes, call: Call | None) -> _Reply:
        def ask(other: bytes = body) -> _Reply:
            reply: _Reply = handler.ask(other)
            return reply

        if operation in _STILL:
            with self._guard:
                if (operation, body) not in self._still:
                    answer = self.answer(operation, body, ask)
                    assert answer is not None
                    self._still[operation, body] = answer
                return self._still[operation, body]
        if operation.startswith("AmazonSSM."):
            with self._guard:
                by = call.words if call else "the test"
                told = self.agents.answer(self.truth, operation[10:], json.loads(body), by)
                reply = ec2_faults._json(told)
                return replace(reply, status=400) if "__type" in told else reply
        parameters = dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True))
        match operation:
            case "RunInstances":
                return self._run(parameters, ask, call)
            case "TerminateInstances":
                return self._terminate(parameters, ask, call)
            case "CreateTags":
                return self._tag(parameters, ask)
            case "DescribeInstances":
                return self._describe(parameters, ask, call)
        other = self.answer(operation, body, ask)
        assert other is not None
        return other

    def _run(self, parameters: dict[str, str], ask: Any, call: Call | None) -> _Reply:
        with self._guard:
            reply = self._launch(parameters, Pass(), ask)
            assert reply is not None
            found = re.search(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", reply.body)
            if reply.status == 200 and found and found[1].decode() not in self.truth.machines:
                self.truth.launched(
                    found[1].decode(),
                    _tags(parameters, "TagSpecification.1.Tag"),
                    parameters["ClientToken"],
                    call.words if call else "the test",
                )
            return reply

    def _terminate(self, parameters: dict[str, str], ask: Any, call: Call | None) -> _Reply:
        with self._guard:
            for name in _listed(parameters, "InstanceId"):
                machine = self.truth.machines.get(name)
                if call is not None and machine is not None and machine.alive:
                    if (why := call.judge.may_end(machine, call.words, self.truth)) is not None:
                        self.truth.wrong(f"{call.words} ended {name}: {why}")
                if machine is not None:
                    self.truth.ended(name, call.words if call else "the test")
            reply: _Reply = ask()
            return reply

    def _tag(self, parameters: dict[str, str], ask: Any) -> _Reply:
        with self._guard:
            reply: _Reply = ask()
            for name in _listed(parameters, "ResourceId"):
                if (machine := self.truth.machines.get(name)) is not None:
                    for key in _tags(parameters, "Tag"):
                        machine.tagged[key] = self.truth.now()
            return reply

    def _describe(self, parameters: dict[str, str], ask: Any, call: Call | None) -> _Reply:
        filters = []
        for at in range(1, 20):
            if (name := parameters.get(f"Filter.{at}.Name")) is not None:
                filters.append((name, _listed(parameters, f"Filter.{at}.Value")))
        wanted = f"Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3Arunner%3Astore&Filter.1.Value.1={self.stores}"  # noqa: E501
        with self._guard:
            found = list(self.truth.seen(ET.fromstring(ask(wanted.encode()).body)))
        if ids := _listed(parameters, "InstanceId"):
            found = [each for each in found if matches(each, [("instance-id", ids)])]
            if len(found) < len(ids):
                told = f"The instance ID '{ids[0]}' does not exist"
                return ec2_faults._error("InvalidInstanceID.NotFound", told)
        found = [each for each in found if matches(each, filters)]
        size = (call.pages if call else 0) or len(found) + 1
        begin = int(parameters.get("NextToken", "0"))
        more = str(begin + size) if begin + size < len(found) else ""
        return ec2_faults._xml(page(found[begin : begin + size], more).decode())


def _refused(operation: str, fault: Refuse) -> _Reply:
    """In the words of the service that was asked."""
    if operation.startswith("S3."):
        told = f"<Code>{fault.code}</Code><Message>{fault.message}</Message>"
        return ec2_faults._xml(f"<Error>{told}</Error>", fault.status)
    if "." in operation:
        reply = ec2_faults._json({"__type": fault.code, "message": fault.message})
        return replace(reply, status=fault.status)
    return ec2_faults._error(fault.code, fault.message, fault.status)


def _listed(parameters: dict[str, str], name: str) -> list[str]:
    """The members of a list of EC2's query protocol."""
    found = re.compile(rf"{re.escape(name)}\.\d+")
    return [value for key, value in parameters.items() if found.fullmatch(key)]


def _tags(parameters: dict[str, str], name: str) -> dict[str, str]:
    keys = (at for at in range(1, 51) if f"{name}.{at}.Key" in parameters)
    return {parameters[f"{name}.{at}.Key"]: parameters[f"{name}.{at}.Value"] for at in keys}
