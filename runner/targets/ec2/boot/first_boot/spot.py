"""Calls to EC2, and the spot request of this machine."""

from urllib.parse import urlencode

from runner.bundle.bare.aws import Aws, Metadata, tag
from runner.bundle.bare.telling import say


def cancel_spot_request(metadata: Metadata) -> None:
    """Have EC2 launch no other machine for this one. Raises Again, Failed."""
    if metadata.get("instance-life-cycle") != "spot":
        return
    instance = metadata.get("instance-id")
    aws = Aws(metadata, metadata.get("placement/region"))
    told = ask_ec2(aws, Action="DescribeInstances", **{"InstanceId.1": instance})
    request = tag(told, "spotInstanceRequestId")
    if not request:
        own = {"Filter.1.Name": "instance-id", "Filter.1.Value.1": instance}
        request = tag(
            ask_ec2(aws, Action="DescribeSpotInstanceRequests", **own), "spotInstanceRequestId"
        )
    if request:
        ask_ec2(aws, Action="CancelSpotInstanceRequests", **{"SpotInstanceRequestId.1": request})
        say(f"spot request {request} is cancelled")


def ask_ec2(aws: Aws, **parameters: str) -> str:
    """One call to EC2; its XML. Raises Again, Failed."""
    url = aws.endpoint("ec2") or f"https://ec2.{aws.region}.{aws.domain()}"
    body = urlencode(sorted({"Version": "2016-11-15", **parameters}.items())).encode()
    with aws.open("ec2", "POST", url + "/", body, 20) as answer:
        return str(answer.read().decode())
