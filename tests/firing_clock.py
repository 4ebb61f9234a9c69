"""EventBridge Scheduler's part, which moto has not: a clock of the tests' own that fires schedules.

It does what the service does: replaces the keywords in Input, calls RunInstances, delivers some
firings twice, tries again, and gives up into the dead-letter queue. And what EC2 does and moto
doesn't: one client token is one machine, and the same token with other parameters is refused.
"""

from __future__ import annotations

import base64
import json
from typing import Any

GROUP = "runner"
ROLE = "runner-scheduler"
DEAD_LETTERS = "runner-schedules"


def make_account(client: Any) -> None:
    """What `runner setup --schedules` makes; ``client(service)`` makes one of boto3's."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "scheduler.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(trust))
    make_region(client)


def make_region(client: Any) -> None:
    """The part of it that each region has."""
    client("scheduler").create_schedule_group(Name=GROUP)
    client("sqs").create_queue(QueueName=DEAD_LETTERS)


class MismatchError(Exception):
    """IdempotentParameterMismatch."""


class FiringClock:
    """``client(service)``: the Scheduler itself; ``role``: what its role makes, if not the same."""

    def __init__(self, client: Any, role: Any = None) -> None:
        self._store = client
        self._client = role or client
        self.tokens: dict[str, tuple[str, str]] = {}
        self.executions = 0

    def schedule(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._store("scheduler").get_schedule(GroupName=GROUP, Name=name)
        return found

    def fire(self, name: str, when: str, *, times: int = 1, refuse: str = "") -> str | None:
        """One firing, delivered so many times; the machine's id, None where none came.

        ``when``: RFC 3339. ``refuse``: EC2's code for every try.
        """
        schedule = self.schedule(name)
        if schedule["State"] != "ENABLED":
            return None
        target = schedule["Target"]
        assert target["Arn"] == "arn:aws:scheduler:::aws-sdk:ec2:runInstances"
        machine = None
        for _ in range(times):
            text = self._replaced(target["Input"], when, schedule["Arn"])
            if refuse:
                self._give_up(schedule, when, text, refuse)
                return None
            machine = self._run(text)
        return machine

    def _replaced(self, text: str, when: str, arn: str) -> str:
        self.executions += 1
        words = {
            "scheduled-time": when,
            "schedule-arn": arn,
            "execution-id": f"d32c5kddcf5bb{self.executions:04x}",
            "attempt-number": "1",
        }
        for word, value in words.items():
            text = text.replace(f"<aws.scheduler.{word}>", value)
        return text

    def _run(self, text: str) -> str:
        request = json.loads(text)
        token = request["ClientToken"]
        assert len(token) <= 64 and token.isascii()
        if token in self.tokens:
            before, machine = self.tokens[token]
            if before != text:
                raise MismatchError(token)
            return machine
        data = base64.b64decode(request["UserData"])
        assert len(data) < 16_384
        # boto3 encodes user-data itself; the service passes it on as it is.
        told = {**request, "UserData": data}
        made = self._client("ec2").run_instances(**told)
        machine = str(made["Instances"][0]["InstanceId"])
        self.tokens[token] = text, machine
        return machine

    def _give_up(self, schedule: dict[str, Any], when: str, text: str, code: str) -> None:
        target = schedule["Target"]
        arn = target["DeadLetterConfig"]["Arn"]
        sqs = self._client("sqs")
        attributes = {
            "ERROR_CODE": code,
            "ERROR_MESSAGE": "There is not enough capacity",
            "EXECUTION_ID": "d32c5kddcf5bb8c3",
            "EXHAUSTED_RETRY_CONDITION": "MaximumEventAgeInSeconds",
            "IS_PAYLOAD_TRUNCATED": "false",
            "RETRY_ATTEMPTS": str(target["RetryPolicy"]["MaximumRetryAttempts"]),
            "SCHEDULED_TIME": when,
            "SCHEDULE_ARN": schedule["Arn"],
            "TARGET_ARN": target["Arn"],
        }
        url = sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
        told = {k: {"DataType": "String", "StringValue": v} for k, v in attributes.items()}
        sqs.send_message(QueueUrl=url, MessageBody=text, MessageAttributes=told)
