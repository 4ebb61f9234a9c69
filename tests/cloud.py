"""EC2 around a machine of the lab: metadata, cloud-init, S3 and IAM that says no.

A ``Cloud`` is one account: moto with a bucket and an instance role, and it enforces what the role
may. A ``CloudMachine`` is what RunInstances makes there: an image with nothing of ours, its
user-data, the role's credentials.
"""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from lab import Machine
from lab.machine import METADATA
from s3_endpoint import Endpoint

REGION = "us-east-1"
_ALL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}

# cloud-init finds its own Ec2 datasource by the firmware's ids: nspawn shows the host's.
_DMI = """
try:
    from cloudinit import dmi
except ImportError:
    pass
else:
    there = dmi.read_dmi_data
    ids = dict.fromkeys(("system-uuid", "system-serial-number"), "ec2e1916-9099-7caf-fd21-012345ab")
    dmi.read_dmi_data = lambda key: ids.get(key) or there(key)
"""
_CLOUD_INIT = f"""
datasource_list: [ Ec2 ]
datasource: {{Ec2: {{metadata_urls: ["http://{METADATA}"], timeout: 2, max_wait: 10}}}}
network: {{config: disabled}}
locale: C.UTF-8
# No more than user-data takes.
cloud_init_modules: [ write-files ]
cloud_config_modules: [ locale ]
cloud_final_modules: [ scripts-user ]
"""
_SERVICES = ("cloud-init-local", "cloud-init", "cloud-config", "cloud-final")
QUICK = "[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnBootSec=1s\nOnUnitActiveSec=1s\n"
"""A drop-in for runner-lifetime.timer: a test doesn't wait for a minute."""


class Cloud:
    """Close it. ``allow`` says what the role may; from then on all else is denied."""

    def __init__(self) -> None:
        self.endpoint = Endpoint()
        self.bucket = self.endpoint.bucket()
        self.role = "runner-instance"
        iam = self._client("iam")
        trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        made = iam.create_role(
            RoleName=self.role,
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        )
        iam.create_user(UserName="admin")
        self._admin = iam.create_access_key(UserName="admin")["AccessKey"]
        iam.put_user_policy(UserName="admin", PolicyName="p", PolicyDocument=json.dumps(_ALL))
        assumed = self._client("sts").assume_role(
            RoleArn=made["Role"]["Arn"], RoleSessionName="instance"
        )
        self.credentials: dict[str, Any] = assumed["Credentials"]
        self._clients: dict[str, Any] = {}

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self.endpoint.close()

    def allow(self, policy: dict[str, Any]) -> None:
        """What the role may from now on, and nobody but the admin anything else."""
        self._enforce("inf")
        iam, document = self._client("iam"), json.dumps(policy)
        iam.put_role_policy(RoleName=self.role, PolicyName="p", PolicyDocument=document)
        self._enforce("0")

    def _enforce(self, after: str) -> None:
        """moto: after so many more calls each is checked."""
        url = f"{self.endpoint.url}/moto-api/reset-auth"
        kind = {"Content-Type": "text/plain"}  # a form's body would be taken apart
        request = urllib.request.Request(url, after.encode(), kind, method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()

    def _client(self, service: str, key: str = "test", secret: str = "test") -> Any:
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint.url,
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )

    def admin(self, service: str) -> Any:
        """A client that may all."""
        if service not in self._clients:
            key = self._admin
            self._clients[service] = self._client(
                service, key["AccessKeyId"], key["SecretAccessKey"]
            )
        return self._clients[service]

    def put(self, key: str, body: bytes) -> None:
        self.admin("s3").put_object(Bucket=self.bucket, Key=key, Body=body)

    def get(self, key: str) -> bytes | None:
        """None if it isn't there."""
        if key not in self.keys():
            return None
        body: bytes = self.admin("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str = "") -> list[str]:
        found = self.admin("s3").list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for item in found.get("Contents", ())]

    def instance(self, user_data: bytes, *, spot: bool = False) -> str:
        """An instance in EC2's records; its id."""
        ec2 = self.admin("ec2")
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        about = {"ImageId": image, "InstanceType": "t3.medium"}
        if spot:
            # moto's RunInstances makes no request.
            made = ec2.request_spot_instances(InstanceCount=1, LaunchSpecification=about)
            return str(made["SpotInstanceRequests"][0]["InstanceId"])
        end = {"InstanceInitiatedShutdownBehavior": "terminate"}
        answer = ec2.run_instances(MinCount=1, MaxCount=1, UserData=user_data, **about, **end)
        return str(answer["Instances"][0]["InstanceId"])

    def open_spot_requests(self) -> list[str]:
        found = self.admin("ec2").describe_spot_instance_requests()["SpotInstanceRequests"]
        return [each["SpotInstanceRequestId"] for each in found if each["State"] != "cancelled"]

    def state(self, instance: str) -> str:
        found = self.admin("ec2").describe_instances(InstanceIds=[instance])
        return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])


class CloudMachine:
    """A machine of the lab that is an instance of a cloud; not yet booted."""

    def __init__(
        self,
        root: Path,
        cloud: Cloud,
        user_data: bytes,
        *,
        spot: bool = False,
        instance_id: str | None = None,
        **variables: str,
    ) -> None:
        environment = {
            "AWS_ENDPOINT_URL": cloud.endpoint.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{METADATA}",
            **variables,
        }
        self.cloud = cloud
        self.instance_id = instance_id or cloud.instance(user_data, spot=spot)
        self.machine = Machine(root, environment=environment)
        try:
            self._set_up(user_data, spot)
        except BaseException:
            self.machine.close()
            raise

    def _set_up(self, user_data: bytes, spot: bool) -> None:
        machine, cloud = self.machine, self.cloud
        machine.forward(cloud.endpoint.port)
        self.imds = machine.imds()
        self.imds.user_data = user_data
        self.imds.document = {"instanceId": self.instance_id, "region": REGION}
        self.imds.data = self.metadata(cloud, self.instance_id, spot=spot)
        machine.run("rm", "/etc/cloud/cloud-init.disabled")
        machine.write("/etc/cloud/cloud.cfg.d/99-lab.cfg", _CLOUD_INIT)
        machine.write("/opt/lab/sitecustomize.py", _DMI)
        for service in _SERVICES:
            drop_in = "[Service]\nEnvironment=PYTHONPATH=/opt/lab\n"
            machine.write(f"/etc/systemd/system/{service}.service.d/lab.conf", drop_in)
        machine.write("/etc/systemd/system/runner-lifetime.timer.d/quick.conf", QUICK)

    @staticmethod
    def metadata(cloud: Cloud, instance_id: str, *, spot: bool = False) -> dict[str, str]:
        """What such an instance is told of itself."""
        keys = {
            "Code": "Success",
            "AccessKeyId": cloud.credentials["AccessKeyId"],
            "SecretAccessKey": cloud.credentials["SecretAccessKey"],
            "Token": cloud.credentials["SessionToken"],
            "Expiration": "2099-01-01T00:00:00Z",
        }
        return {
            "ami-id": "ami-lab",
            "hostname": "lab",
            "instance-id": instance_id,
            "instance-life-cycle": "spot" if spot else "on-demand",
            "instance-type": "t3.medium",
            "local-hostname": "lab",
            "placement/availability-zone": f"{REGION}a",
            "placement/region": REGION,
            f"iam/security-credentials/{cloud.role}": json.dumps(keys),
        }
