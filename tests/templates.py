"""The templates that ship, as CloudFormation reads them: functions and conditions done.

As much of CloudFormation as they use; what it doesn't know it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from runner.targets.batch.account import iam as batch_iam
from runner.targets.ec2.account import iam

PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::AccountId": "123456789012",
    "AWS::Region": "us-east-1",
    "AWS::NoValue": None,
}

ARNS = {
    "Events.Arn": "arn:aws:sqs:us-east-1:123456789012:runner-batch-events-a",
    "Rule.Arn": "arn:aws:events:us-east-1:123456789012:rule/runner-batch-events-a",
    "Role.Arn": "arn:aws:iam::123456789012:role/runner-instance",
    "Profile.Arn": "arn:aws:iam::123456789012:instance-profile/runner-instance",
    "JobRole.Arn": "arn:aws:iam::123456789012:role/runner-batch-job",
    "ExecutionRole.Arn": "arn:aws:iam::123456789012:role/runner-batch-execution",
    "CoordinatorRole.Arn": "arn:aws:iam::123456789012:role/runner-batch-coordinator",
    "Notices.Arn": "arn:aws:iam::123456789012:role/runner-notices",
    "Network.GroupId": "sg-1",
    "SchedulerRole.Arn": "arn:aws:iam::123456789012:role/runner-scheduler",
}

BATCH = "batch-"
"""What the names of Batch's templates begin with here, as in packaging/iam."""

GIVEN = {
    "BucketArns": "arn:aws:s3:::one,arn:aws:s3:::two",
    "ResultArns": "arn:aws:s3:::one/queues/*,arn:aws:s3:::two/team-a/*",
    "ResultPrefixes": "queues/*,team-a/*",
    "SecretArns": "arn:aws:ssm:us-east-1:123456789012:parameter/hf/*",
    "NoticeArns": "arn:aws:sns:us-east-1:123456789012:nightly",
    "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/k",
}
"""All that permissions can be told of every place."""

GIVEN_ON_EC2 = {**GIVEN, "AllowFleet": "yes"}

GIVEN_ON_BATCH = {
    **GIVEN,
    "QueueArns": "arn:aws:batch:*:123456789012:job-queue/*",
    "DefinitionArns": "arn:aws:batch:*:123456789012:job-definition/runner-*",
    "RepositoryArns": "arn:aws:ecr:*:123456789012:repository/*",
}


class Function:
    """``!Name value``."""

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value


class _Loader(yaml.SafeLoader):
    pass


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Function:
    if isinstance(node, yaml.ScalarNode):
        return Function(suffix, loader.construct_scalar(node))
    assert isinstance(node, yaml.SequenceNode)
    return Function(suffix, loader.construct_sequence(node, deep=True))


_Loader.add_multi_constructor("!", _function)


def templates_loader() -> type[yaml.SafeLoader]:
    """Reads CloudFormation's functions as Function."""
    return _Loader


def loaded(name: str) -> dict[str, Any]:
    """A template as it is written."""
    text = (
        batch_iam.template(name.removeprefix(BATCH))
        if name.startswith(BATCH)
        else iam.template(name)
    )
    document: dict[str, Any] = yaml.load(text, _Loader)
    return document


def resources(name: str, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Each resource with its properties as AWS gets them, by its logical id."""
    return Template(name, parameters or {}).resources()


class Template:
    """One template with its parameters."""

    def __init__(self, name: str, parameters: Mapping[str, str]) -> None:
        self._document = loaded(name)
        self._known: dict[str, Any] = dict(PSEUDO)
        unknown = parameters.keys() - self._document.get("Parameters", {}).keys()
        assert not unknown, f"{name} has no parameters {unknown}"
        for key, slot in self._document.get("Parameters", {}).items():
            text = parameters.get(key, slot.get("Default"))
            assert text is not None, f"{name} needs {key}"
            listed = slot["Type"].startswith(("CommaDelimitedList", "List<"))
            self._known[key] = text.split(",") if listed else text

    def resources(self) -> dict[str, Any]:
        """See ``resources``."""
        return {
            key: self._done(resource.get("Properties", {}))
            for key, resource in self._document["Resources"].items()
            if "Condition" not in resource or self._holds(resource["Condition"])
        }

    def _holds(self, condition: str) -> bool:
        return bool(self._done(self._document["Conditions"][condition]))

    def _done(self, value: Any) -> Any:
        match value:
            case Function():
                return self._call(value.name, value.value)
            case dict():
                made = {key: self._done(each) for key, each in value.items()}
                return {key: each for key, each in made.items() if each is not None}
            case list():
                return [made for each in value if (made := self._done(each)) is not None]
        return value

    def _call(self, name: str, given: Any) -> Any:
        match name:
            case "Ref":
                return self._known.get(given, f"ref:{given}")
            case "GetAtt":
                return ARNS[given]
            case "Sub":
                return self._sub(given)
            case "If":
                return self._done(given[1] if self._holds(given[0]) else given[2])
            case "Not":
                return not self._done(given[0])
            case "Equals":
                return self._done(given[0]) == self._done(given[1])
            case "Join":
                assert isinstance(given[0], str), "CloudFormation takes no function there"
                return given[0].join(self._done(given[1]))
            case "Or":
                return any(self._done(each) for each in given)
            case "Split":
                return self._done(given[1]).split(given[0])
        raise AssertionError(f"!{name} isn't known here")

    def _sub(self, text: str) -> str:
        filled = re.sub(r"\$\{([^!][^}]*)\}", lambda m: str(self._known[m[1]]), text)
        return filled.replace("${!", "${")


def policies(**more: str) -> dict[str, dict[str, Any]]:
    """The policy documents by who has them: ``role``, ``launch``, ``look``, perhaps ``notices``."""
    made = resources(iam.PERMISSIONS, {**GIVEN_ON_EC2, **more})
    (role,) = made["Role"]["Policies"]
    found = {
        "role": role["PolicyDocument"],
        "launch": made["Launch"]["PolicyDocument"],
        "look": made["Look"]["PolicyDocument"],
    }
    if (notices := made.get("Notices")) is not None:
        found["notices"] = notices["Policies"][0]["PolicyDocument"]
    return found


def schedule_policies() -> dict[str, dict[str, Any]]:
    """The same of schedules: ``scheduler``, the service's, and ``schedule``, people's."""
    made = resources(iam.SCHEDULE_PERMISSIONS)
    (role,) = made["SchedulerRole"]["Policies"]
    return {
        "scheduler": role["PolicyDocument"],
        "schedule": made["Schedule"]["PolicyDocument"],
    }


def batch_policies(**more: str) -> dict[str, dict[str, Any]]:
    """The same of Batch: ``batch-job``, ``batch-execution``, ``batch-coordinator``, ``batch``."""
    made = resources(f"{BATCH}{batch_iam.PERMISSIONS}", {**GIVEN_ON_BATCH, **more})
    roles = {"job": "JobRole", "execution": "ExecutionRole", "coordinator": "CoordinatorRole"}
    found = {
        f"{BATCH}{who}": made[name]["Policies"][0]["PolicyDocument"] for who, name in roles.items()
    }
    return found | {"batch": made["Drive"]["PolicyDocument"]}


def widened(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The policy as moto can enforce it: of what we name it knows S3's resources, no conditions.

    What is dropped here is looked at by the tests of the templates.
    """
    made = []
    for each in policy["Statement"]:
        known = [arn for arn in words(each["Resource"]) if arn.startswith("arn:aws:s3:")]
        kept = {key: value for key, value in each.items() if key != "Condition"}
        asked = words(each["Action"])
        if "s3:ListBucket" in asked:
            asked = [*asked, "s3:HeadBucket"]  # which is how moto, not IAM, calls that right
        if "sqs:SendMessage" in asked:
            asked = [*asked, "sqs:SendMessageBatch"]  # the same
        made.append({**kept, "Action": asked, "Resource": known or "*"})
    return {"Version": "2012-10-17", "Statement": made}


def without(policy: Mapping[str, Any], action: str, sid: str | None = None) -> dict[str, Any]:
    """The policy without one action, everywhere or in one statement."""
    made = []
    for each in policy["Statement"]:
        left = words(each["Action"])
        if sid in (None, each["Sid"]):
            gone = {action, "s3:HeadBucket"} if action == "s3:ListBucket" else {action}
            left = [name for name in left if name not in gone]
        if left:
            made.append({**each, "Action": left})
    return {"Version": "2012-10-17", "Statement": made}


def words(value: str | list[str]) -> list[str]:
    """What may be one word or a list of them."""
    return [value] if isinstance(value, str) else value


def actions(policy: Mapping[str, Any]) -> set[str]:
    """All that a policy allows, whatever the resource."""
    return {action for each in policy["Statement"] for action in words(each["Action"])}
