"""What this machine may ask EC2 to do with itself: to forget its spot request, to terminate it.

Needs ec2:DescribeInstances, ec2:DescribeSpotInstanceRequests, ec2:CancelSpotInstanceRequests and
ec2:TerminateInstances. boto3 is imported with the first call.
"""

from __future__ import annotations

from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import calling

CONNECT_TIMEOUT = 5
READ_TIMEOUT = 10
"""Seconds: who calls tries again in a minute."""


class Instance:
    """One instance, as EC2 knows it. All calls raise AwsError."""

    def __init__(self, instance_id: str, region: str | None) -> None:
        self._id = instance_id
        self._region = region
        self._made: Any = None

    def cancel_spot_request(self) -> str | None:
        """Have EC2 launch no other machine for this one's request; its id, None if it has none.

        A cancelled request leaves a running instance running (EC2 API reference).
        """
        with calling(lambda error: error):
            request = self._spot_request()
            if request is not None:
                self._client().cancel_spot_instance_requests(SpotInstanceRequestIds=[request])
        return request

    def _spot_request(self) -> str | None:
        answer = self._client().describe_instances(InstanceIds=[self._id])
        for reservation in answer.get("Reservations", ()):
            for instance in reservation.get("Instances", ()):
                if request := instance.get("SpotInstanceRequestId"):
                    return str(request)
        own = {"Name": "instance-id", "Values": [self._id]}
        answer = self._client().describe_spot_instance_requests(Filters=[own])
        for found in answer.get("SpotInstanceRequests", ()):
            if found.get("State") in ("open", "active"):
                return str(found["SpotInstanceRequestId"])
        return None

    def terminate(self) -> None:
        """Have EC2 terminate it, whatever its shutdown behaviour is; the system shuts down."""
        with calling(lambda error: error):
            self._client().terminate_instances(InstanceIds=[self._id])

    def _client(self) -> Any:
        if self._made is None:
            self._made = make_client(
                "ec2", self._region, connect=CONNECT_TIMEOUT, read=READ_TIMEOUT, attempts=2
            )
        return self._made
