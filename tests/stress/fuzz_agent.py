"""The machines' own end in the launch fuzz: SSM, and a daemon that takes queues and says so.

The real daemon and the real way through SSM have tests of their own; here they only have to be
there, and at once.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from fuzz_truth import Identity, Truth
from s3_endpoint import Endpoint

from runner.control import ssm_codec


class Agents:
    """Answers SSM for the machines of a round; ``booted``: those whose agents have registered."""

    def __init__(self, endpoint: Endpoint | None = None) -> None:
        self._endpoint = endpoint
        self.booted: set[str] = set()
        self._outputs: dict[str, str] = {}

    def answer(self, truth: Truth, operation: str, asked: dict[str, Any], by: str) -> Any:
        """What SSM says."""
        match operation:
            case "SendCommand":
                return self._send(truth, asked, by)
            case "GetCommandInvocation":
                return {
                    "CommandId": asked["CommandId"],
                    "InstanceId": asked["InstanceId"],
                    "Status": "Success",
                    "StatusDetails": "Success",
                    "ResponseCode": 0,
                    "StandardOutputContent": self._outputs[asked["CommandId"]],
                }
            case "DescribeInstanceInformation":
                names = asked["Filters"][0]["Values"]
                return {
                    "InstanceInformationList": [
                        {"InstanceId": name, "PingStatus": "Online", "AgentVersion": "3.3.0.0"}
                        for name in names
                        if name in self.booted and truth.machines[name].alive
                    ]
                }
        raise AssertionError(f"the fuzz doesn't know SSM's {operation}")

    def _send(self, truth: Truth, asked: dict[str, Any], by: str) -> Any:
        (instance,) = asked["InstanceIds"]
        machine = truth.machines[instance]
        if instance not in self.booted or machine.state != "running":
            return {"__type": "InvalidInstanceId", "message": "not in a valid state"}
        parameters = asked["Parameters"]
        word = (parameters.get("request") or parameters["commands"])[0].split()[-1]
        command = str(uuid.uuid4())
        told = self._asked(truth, instance, ssm_codec.unpack_request(word), by)
        self._outputs[command] = ssm_codec.pack(told)
        return {"Command": {"CommandId": command, "Status": "Pending"}}

    def _asked(self, truth: Truth, instance: str, request: dict[str, Any], by: str) -> Any:
        machine = truth.machines[instance]
        match request["request"]:
            case "submit":
                document = self._shipped(request["s3"])
                prefix = document.get("result_s3_prefix") or f"queues/{document['queue_id']}"
                store = f"s3://{document['result_s3_bucket']}/{prefix}"
                queue = Identity(store, document["queue_id"])
                created = queue not in machine.queues
                if created:
                    truth.submitted(instance, queue, by)
                told = {"queue_id": queue.queue_id, "created": created, "status": "pending"}
            case "queues":
                told = {"queues": [_summary(each) for each in sorted(machine.queues)]}
            case "status":
                queue_id = request.get("queue") or machine.owner.queue_id
                named = [each for each in sorted(machine.had) if each.queue_id == queue_id]
                if not named:
                    error = {"exit_code": 102, "message": f"no queue '{queue_id}'"}
                    return {"ok": False, "error": error}
                told = {"queue": _summary(named[0]), "jobs": []}
            case "ping":
                told = {"pid": 1, "version": "1.0"}
            case other:
                raise AssertionError(f"the fuzz doesn't know the request {other}")
        return {"ok": True, **told}

    def _shipped(self, url: str) -> Any:
        assert self._endpoint is not None
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return json.loads(self._endpoint.read(bucket, key))


def _summary(queue: Identity) -> dict[str, Any]:
    return {
        "queue_id": queue.queue_id,
        "queue_name": queue.queue_id,
        "run_id": "r",
        "status": "running",
        "counts": {"running": 1},
        "jobs_total": 1,
        "worker": "daemon",
    }
