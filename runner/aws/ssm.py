"""SSM: a command run on an instance and what it said; who is registered; public parameters.

Thin: it knows neither our verbs nor our documents. Facts: SSM API reference, "SendCommand" and
"GetCommandInvocation".
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling, part_of

CONNECT_TIMEOUT = 5
READ_TIMEOUT = 20

DELIVERY = 30
"""Seconds that an agent has to fetch a command: the least that SSM takes."""

FIRST, LONGEST, GROWTH = 0.5, 2.0, 1.4
"""Seconds between two looks at a command: at first, at most, and how they grow."""

APPEARS = 15.0
"""Seconds for which a command that SSM has just accepted may be unknown to it."""

WAITING = frozenset({"Pending", "InProgress", "Delayed", "Cancelling"})
"""States of a command that hasn't ended."""


@dataclass(frozen=True, slots=True)
class Ping:
    """What SSM knows of an instance. ``status``: Online, ConnectionLost, Inactive; ``last``:
    seconds since the epoch when its agent was heard of."""

    status: str
    last: float | None
    agent: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command stands. ``details``: SSM's words; ``code``: the script's exit code, if any.

    ``out`` (24,000 characters at most) and ``err`` (8,000) are empty until it has ended.
    """

    status: str
    details: str
    code: int | None
    out: str
    err: str

    @property
    def ended(self) -> bool:
        return self.status not in WAITING


class Ssm:
    """One region. All calls block, and raise AwsError."""

    def __init__(self, region: str | None = None) -> None:
        self._region = region
        self._made: Any = None

    @property
    def client(self) -> Any:
        """boto3's client. Made with the first call."""
        if self._made is None:
            self._made = make_client(
                "ssm",
                self._region,
                connect=CONNECT_TIMEOUT,
                read=READ_TIMEOUT,
                own_session=True,
            )
        return self._made

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One call, by boto3's name of it."""
        with calling(lambda error: error):
            answer: dict[str, Any] = getattr(self.client, operation)(**parameters)
        return answer

    def parameter(self, name: str) -> str:
        """The value of a parameter, a public one's too."""
        return str(self.call("get_parameter", Name=name)["Parameter"]["Value"])

    def ping(self, instance_id: str) -> Ping | None:
        """Whether its agent is heard of; None if it has never registered, here and with us."""
        wanted = {"Key": "InstanceIds", "Values": [instance_id]}
        answer = self.call("describe_instance_information", Filters=[wanted])
        for found in answer.get("InstanceInformationList", ()):
            last = found.get("LastPingDateTime")
            return Ping(
                status=str(found.get("PingStatus", "")),
                last=last.timestamp() if last is not None else None,
                agent=str(found.get("AgentVersion", "")),
            )
        return None

    def send(
        self, instance_id: str, document: str, parameters: Mapping[str, Sequence[str]], why: str
    ) -> str:
        """Have a document run there; the command's id. ``why`` is shown in the account's console.

        The code of the AwsError tells apart: InvalidDocument, InvalidInstanceId (the agent is
        down, or the account or the region is another, or it hasn't registered yet).
        """
        answer = self.call(
            "send_command",
            InstanceIds=[instance_id],
            DocumentName=document,
            Parameters={name: list(values) for name, values in parameters.items()},
            TimeoutSeconds=DELIVERY,
            Comment=why[:100],
        )
        return str(part_of(answer, "SendCommand", "Command", "CommandId"))

    def outcome(self, command_id: str, instance_id: str) -> Outcome | None:
        """How a command stands; None if SSM doesn't know of it, or not yet."""
        try:
            told = self.call("get_command_invocation", CommandId=command_id, InstanceId=instance_id)
        except AwsError as error:
            if error.code == "InvocationDoesNotExist":
                return None
            raise
        code = told.get("ResponseCode", -1)
        return Outcome(
            status=str(told.get("Status", "")),
            details=str(told.get("StatusDetails") or told.get("Status", "")),
            code=None if code < 0 else int(code),
            out=str(told.get("StandardOutputContent", "")),
            err=str(told.get("StandardErrorContent", "")),
        )

    def ended(
        self,
        command_id: str,
        instance_id: str,
        patience: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        meanwhile: Callable[[Outcome, float], None] = lambda outcome, seconds: None,
    ) -> Outcome | None:
        """How a command has ended; None if it hasn't within ``patience`` seconds.

        Looks again after 0.5 s and ever more up to 2, with jitter, and no less than so often when
        SSM is busy. ``meanwhile`` is told how it stands, and for how long it has been under way.
        """
        begin, pause = time.monotonic(), FIRST
        missing: float | None = None
        while True:
            sleep(pause * random.uniform(0.8, 1.2))
            pause = min(LONGEST, pause * GROWTH)
            seconds = time.monotonic() - begin
            try:
                outcome = self.outcome(command_id, instance_id)
            except AwsError as error:
                if error.kind is not ErrorKind.PASSING or seconds > patience:
                    raise
                pause = LONGEST
                continue
            if outcome is not None and outcome.ended:
                return outcome
            if outcome is not None:
                missing = None
                meanwhile(outcome, seconds)
            elif missing is None:
                missing = seconds
            if seconds > patience or (missing is not None and seconds - missing > APPEARS):
                return None
