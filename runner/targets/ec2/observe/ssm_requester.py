"""One request to a machine by way of SSM: its document, the command, the answer out of the output.

`Runner-Look` and `Runner-Act` are documents of ours (iam/documents.yaml), so that a permission to
look needs no shell; where they are not installed, AWS-RunShellScript does the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.aws.errors import AwsError, ErrorKind
from runner.aws.ssm import Outcome, Ssm
from runner.control import protocol, ssm_codec
from runner.control.answers import checked
from runner.errors import RunnerError, UnreachableError
from runner.targets.ec2.names import ACT_DOCUMENT, LOOK_DOCUMENT

SHELL = "AWS-RunShellScript"

LOOKING = frozenset({"ping", "queues", "status", "job", "logs", "wait"})
"""The requests that `Runner-Look` may carry."""

PARAMETER = "request"
"""Of our documents: the request as one word."""

COMMAND = "/opt/runner/bin/runner ask"
"""What all documents run, as root. An agent's PATH has not always what install.sh made."""

PATIENCE = 60.0
"""Seconds for the answer to a look: 30 for its delivery, and the rest."""

LONG_PATIENCE = 360.0
"""Seconds for an action: jobs that are to end get their grace."""

SUSPECT = 6.0
"""Seconds after which it is asked whether SSM reaches the machine at all."""

_NOT_FOUND = 127
"""A shell's exit code for a command that isn't there (POSIX, 2.8.2)."""


class NotReached(UnreachableError):
    """SSM has not brought the request to the machine: it does not run there."""


class NotInstalled(UnreachableError):
    """The machine answers, but has no runner, or an old one."""


class NotKnown(UnreachableError):
    """It was sent, but what came of it is not known."""


@dataclass(slots=True)
class SsmRequester:
    """Asks one machine, one request at a time."""

    ssm: Ssm
    instance_id: str
    _own_documents: bool = True

    def ask(self, request: str, /, **fields: Any) -> dict[str, Any]:
        """The answer. Raises the error that it carries, AwsError, and NotReached, NotInstalled or
        NotKnown."""
        given = {name: value for name, value in fields.items() if value is not None}
        word = ssm_codec.pack_request(request, **given)
        looking = request in LOOKING
        command = self._send(request, word, looking=looking)
        patience = PATIENCE if looking else LONG_PATIENCE
        # What acts may still be fetched after all: that must not be called unreached.
        suspicion = _Suspicion(self, asked=not looking)
        outcome = self.ssm.ended(command, self.instance_id, patience, meanwhile=suspicion.meanwhile)
        if outcome is None:
            raise NotKnown(
                f"no answer within {patience:.0f}s to what was sent to {self.instance_id} "
                f"(SSM command {command})"
            )
        return self._read(request, outcome, command)

    def _send(self, request: str, word: str, *, looking: bool) -> str:
        why = f"runner {request}"
        if self._own_documents:
            try:
                document = LOOK_DOCUMENT if looking else ACT_DOCUMENT
                return self._try(document, {PARAMETER: [word]}, why)
            except AwsError as error:
                if error.code != "InvalidDocument" and error.kind is not ErrorKind.DENIED:
                    raise
                self._own_documents, refused = False, error
        else:
            refused = None
        flag = " --look-only" if looking else ""
        limit = str(int(PATIENCE if looking else LONG_PATIENCE))
        parameters = {"commands": [f"{COMMAND}{flag} {word}"], "executionTimeout": [limit]}
        try:
            return self._try(SHELL, parameters, why)
        except AwsError as error:
            if (
                error.kind is ErrorKind.DENIED
                and refused is not None
                and refused.kind is ErrorKind.DENIED
            ):
                raise refused from None
            raise

    def _try(self, document: str, parameters: dict[str, list[str]], why: str) -> str:
        try:
            return self.ssm.send(self.instance_id, document, parameters, why)
        except AwsError as error:
            if error.code == "InvalidInstanceId":
                raise NotReached(f"SSM can't reach {self.instance_id}") from None
            raise

    def _read(self, request: str, outcome: Outcome, command: str) -> dict[str, Any]:
        if outcome.status != "Success":
            raise self._failure(outcome, command)
        try:
            answer = ssm_codec.unpack(outcome.out)
            if answer.pop("ok", False) is True:
                return checked(request, answer)
        except UnreachableError as error:
            # It may have been done all the same; what is stored may tell how the queue stands.
            told = f"{self.instance_id}: {error} (SSM command {command})"
            raise NotKnown(told) from None
        raise protocol.carried(answer.get("error"))

    def _failure(self, outcome: Outcome, command: str) -> RunnerError:
        details = outcome.details.replace(" ", "")
        if details in ("Undeliverable", "DeliveryTimedOut"):
            return NotReached(f"SSM couldn't bring it to {self.instance_id}: {outcome.details}")
        if outcome.code == _NOT_FOUND:
            return NotInstalled(f"{self.instance_id} has no runner")
        if outcome.code == 2 and "ask" in outcome.err:
            return NotInstalled(f"{self.instance_id} has an older runner, without `runner ask`")
        last = outcome.err.strip().splitlines()[-1:]
        why = f": {last[0]}" if last else ""
        text = f"{self.instance_id}: {outcome.details} (SSM command {command}){why}"
        return NotKnown(text)


class _Suspicion:
    """Asks once whether SSM reaches the machine, when a command isn't fetched for a while."""

    def __init__(self, requester: SsmRequester, *, asked: bool) -> None:
        self._requester = requester
        self._asked = asked

    def meanwhile(self, outcome: Outcome, seconds: float) -> None:
        """See Ssm.ended."""
        if self._asked or seconds < SUSPECT or outcome.status not in ("Pending", "Delayed"):
            return
        self._asked = True
        ping = self._requester.ssm.ping(self._requester.instance_id)
        if ping is None or ping.status != "Online":
            raise NotReached(f"SSM can't reach {self._requester.instance_id}")
