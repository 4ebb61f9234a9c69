"""What is drawn of a round of the launch fuzz: who types what, and what happens to it.

It depends on the seed, and on what came of the commands before; never on the time.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from ec2_faults import CAPACITY, LoseAnswer, LoseRequest, Refuse
from fuzz_cloud import Act, Asleep, Cut, Expire
from fuzz_people import LAUNCHES, OTHERS, Command, Laptop, People
from fuzz_truth import Identity, Machine, Truth

Others = Callable[[Command | None, int], None]
"""Plays what is typed meanwhile, drawn from a seed: by the other person and about the same queue as
a command, if one is given."""

TYPES = ("t3.medium", "t3.medium,t3.large")

_EC2_REFUSALS = (
    *CAPACITY,
    "VcpuLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "UnauthorizedOperation",
    "ExpiredToken",
    "RequestExpired",
)
_EC2_PASSING = (
    Refuse("RequestLimitExceeded", "Too often.", 503),
    Refuse("Unavailable", "Down.", 503),
    Refuse("InternalError", "Oops.", 500),
)
_S3_PASSING = (
    Refuse("SlowDown", "Less, please.", 503),
    Refuse("InternalError", "Oops.", 500),
)
_METHODS = ("GET", "PUT", "HEAD", "DELETE")
_AT: dict[str, tuple[str, ...]] = {
    "launch": (
        "RunInstances", "RunInstances", "RunInstances", "DescribeInstances", "PUT index",
        "PUT index", "GET index", "PUT launch", "PUT bundle", "GET state",
        "RunInstances(dry)", "DescribeImages", "GET list", "GET launch",
    ),
    "resume": (
        "TerminateInstances", "TerminateInstances", "RunInstances", "RunInstances",
        "DescribeInstances", "DescribeInstances", "PUT index", "GET index", "PUT launch",
        "GET state", "GET launch", "GET list", "GET list", "DescribeSpotInstanceRequests",
        "PUT ending", "PUT ending",
    ),
    "submit": (
        "AmazonSSM.SendCommand", "AmazonSSM.GetCommandInvocation", "PUT index", "GET index",
        "PUT launch", "PUT machine", "PUT machine", "DescribeInstances", "GET list",
    ),
    "terminate": (
        "TerminateInstances", "DescribeInstances", "DescribeSpotInstanceRequests", "GET state",
        "GET index", "GET list", "GET machine", "PUT ending", "PUT ending", "DELETE ending",
    ),
    "reap": (
        "TerminateInstances", "DescribeInstances", "DescribeSpotInstanceRequests", "PUT ending",
    ),
    "ls": ("DescribeInstances", "DescribeSpotInstanceRequests", "GET index", "GET list"),
    "status": ("DescribeInstances", "GET index", "AmazonSSM.SendCommand", "GET state"),
}  # fmt: skip
"""Where something may happen to a verb: calls that it makes, those that matter oftener."""


class Drawing:
    """Draws for one round. ``again``: the commands that are given again, by person and queue.
    ``booted``: machines whose agents answer."""

    def __init__(
        self,
        seed: int,
        truth: Truth,
        people: People,
        laptops: Sequence[Laptop],
        queues: Sequence[Identity],
        booted: set[str],
    ) -> None:
        self.random = random.Random(seed)
        self.again: dict[tuple[str, Identity], Command] = {}
        self._truth = truth
        self._people = people
        self._laptops = laptops
        self._queues = queues
        self._booted = booted

    @contextmanager
    def apart(self, seed: int) -> Iterator[None]:
        """Draw from another seed meanwhile: what was drawn before stays as it is."""
        before, self.random = self.random, random.Random(seed)
        try:
            yield
        finally:
            self.random = before

    def command(self, contended: Command | None) -> Command:
        """What is typed next. ``contended``: see Others."""
        draw = self.random
        who, queue = draw.choice(self._laptops), draw.choice(self._queues)
        if contended is not None:
            (who,) = (each for each in self._laptops if each is not contended.who)
            queue = contended.queue or queue
        elif draw.random() < 0.4:
            queue = self._queues[0]
        verb = draw.choices(
            ("launch", "resume", "terminate", "submit", "reap", "ls", "status", "again"),
            (8, 5, 3, 4, 1, 1, 1, 3 if contended is None else 0),
        )[0]
        again = [command for (name, _), command in self.again.items() if name == who.name]
        match verb:
            case "again" if again:
                return draw.choice(again)
            case "resume" if self._truth.machines:
                return self._resume(who, queue)
            case "submit" if running := self._running():
                return self._submit(who, queue, draw.choice(running))
            case "terminate" if self._truth.machines:
                return self._terminate(who, queue)
            case "reap":
                older = draw.choice(((), ("--older-than", "2h")))
                return Command(who, ("reap", "--yes", *older))
            case "ls":
                return Command(who, ("ls",))
            case "status" if self._truth.machines:
                return Command(who, ("status", queue.queue_id, *self._where(queue)), queue)
        return self._launch(who, queue)

    def _where(self, queue: Identity) -> tuple[str, str]:
        return ("--bucket", queue.store.removeprefix("s3://").partition("/")[0])

    def _launch(self, who: Laptop, queue: Identity) -> Command:
        words = ["launch", "--batch-queue", str(self._people.document(who, queue)), "--yes"]
        words += ["--instance-type", self.random.choice(TYPES)]
        words += ["--bundle", str(self._people.bundle)]
        if self.random.random() < 0.25:
            words += ["--spot", "--fallback-on-demand"]
        return Command(who, tuple(words), queue)

    def _resume(self, who: Laptop, queue: Identity) -> Command:
        words = ("resume", queue.queue_id, *self._where(queue), "--yes", *self._others())
        return Command(who, (*words, "--bundle", str(self._people.bundle)), queue)

    def _others(self) -> tuple[str, ...]:
        return (OTHERS,) if self.random.random() < 0.1 else ()

    def _submit(self, who: Laptop, queue: Identity, machine: Machine) -> Command:
        document = str(self._people.document(who, queue))
        if self.random.random() < 0.5:
            words = ("launch", "--batch-queue", document, "--instance-id", machine.instance_id)
            return Command(who, words, queue)
        return Command(who, ("submit", document, "--on", machine.instance_id), queue)

    def _terminate(self, who: Laptop, queue: Identity) -> Command:
        if self.random.random() < 0.3:
            machine = self.random.choice(list(self._truth.machines.values()))
            return Command(who, ("terminate", machine.instance_id, "--yes"), None)
        words = ("terminate", queue.queue_id, "--yes", *self._others())
        if self.random.random() < 0.6:
            return Command(who, (*words, *self._where(queue)), queue)
        return Command(who, words, None)

    def _running(self) -> list[Machine]:
        return [each for each in self._truth.alive() if each.instance_id in self._booted]

    def plan(self, command: Command, others: Others | None) -> dict[tuple[str, int], Act]:
        """What happens to a command. ``others`` is played while its laptop sleeps, if it may."""
        draw, verb = self.random, command.verb
        plan: dict[tuple[str, int], Act] = {}
        for _ in range(draw.choices((0, 1, 2, 3), (1, 3, 3, 1))[0]):
            label, number = draw.choice(_AT[verb]), draw.choices((1, 2, 3), (6, 3, 1))[0]
            for at in range(number, number + draw.choices((1, 2, 4), (6, 3, 1))[0]):
                plan[label, at] = self._act(label, command, others)
        if verb in LAUNCHES and draw.random() < 0.15:
            # What came of the first is not known, and the second's answer is none to that.
            refused = Refuse(draw.choice(_EC2_REFUSALS), "Not now.", 400)
            plan |= {("RunInstances", 1): LoseAnswer(), ("RunInstances", 2): refused}
        if verb in LAUNCHES and others is not None and draw.random() < 0.15:
            # Claimed, and not asked for yet.
            plan["PUT index", 1] = self._asleep(command, others)
        return plan

    def _act(self, label: str, command: Command, others: Others | None) -> Act:
        draw = self.random
        kind = draw.choices(
            ("lost", "passing", "refused", "kill", "ctrl-c", "asleep", "expired"),
            (5, 3, 4 if label == "RunInstances" else 0, 4, 2, 4 if others else 0, 1),
        )[0]
        match kind:
            case "lost":
                return LoseRequest() if draw.random() < 0.3 else LoseAnswer()
            case "passing":
                return draw.choice(_S3_PASSING if label.split()[0] in _METHODS else _EC2_PASSING)
            case "refused":
                return Refuse(draw.choice(_EC2_REFUSALS), "Not now.", 400)
            case "kill":
                return Cut(signal.SIGKILL, done=draw.random() < 0.6)
            case "ctrl-c":
                return Cut(signal.SIGINT, done=draw.random() < 0.6)
            case "asleep":
                assert others is not None
                return self._asleep(command, others)
        return Expire()

    def _asleep(self, command: Command, others: Others) -> Asleep:
        """Most of what goes on meanwhile is about the same queue."""
        draw = self.random
        contended = command if draw.random() < 0.8 else None
        go_on = partial(others, contended, draw.randrange(1 << 32))
        # Longer, and AWS refuses what was signed before (IAM, "Signature Version 4").
        return Asleep(draw.choice((20.0, 190.0, 250.0)), go_on)
