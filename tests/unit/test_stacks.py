"""Stacks, with a CloudFormation that does what the real one does when things go wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runner.aws import stacks
from runner.aws.stacks import Event, StackFailed, Stacks

KIND = "AWS::IAM::Role"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "POLL_EVERY", 0.0)


class Cloud:
    """One stack. ``scripts``: what happens after each ``execute`` or ``delete``, a step a look."""

    def __init__(self, status: str | None = None, *scripts: list[tuple[str, ...]]) -> None:
        self.status = status
        self.change = ("CREATE_COMPLETE", "")
        self.calls: list[str] = []
        self.made: dict[str, Any] = {}
        self._scripts = [iter(script) for script in scripts]
        self._script: Iterator[tuple[str, ...]] = iter(())
        self._events: list[dict[str, Any]] = []
        self._ids = itertools.count()
        self.on_look: Callable[[], None] = lambda: None
        if status:
            self._happen("s", "AWS::CloudFormation::Stack", status, "of long ago")
            self._happen("Old", KIND, "CREATE_FAILED", "of long ago")

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
        self.on_look()
        if step := next(self._script, None):
            resource, status, why = (*step, "")[:3]
            kind = "AWS::CloudFormation::Stack" if resource == "s" else KIND
            self._happen(resource, kind, status, why)
            if resource == "s":
                self.status = status
        gone = self.status is None or (self.status == "DELETE_COMPLETE" and StackName == "s")
        if gone:
            raise ClientError(
                {"Error": {"Code": "ValidationError", "Message": "Stack with id s does not exist"}},
                "DescribeStacks",
            )
        return {"Stacks": [{"StackName": "s", "StackId": "arn:s", "StackStatus": self.status}]}

    def create_change_set(self, **parameters: Any) -> dict[str, Any]:
        self.calls.append(f"change set {parameters['ChangeSetType']}")
        self.made = parameters
        if self.status in (None, "DELETE_COMPLETE"):
            self.status = "REVIEW_IN_PROGRESS"
        return {"Id": "c", "StackId": "arn:s"}

    def describe_change_set(self, **_: Any) -> dict[str, Any]:
        return {"Status": self.change[0], "StatusReason": self.change[1]}

    def delete_change_set(self, **_: Any) -> dict[str, Any]:
        self.calls.append("delete change set")
        return {}

    def execute_change_set(self, **_: Any) -> dict[str, Any]:
        self.calls.append("execute")
        self._script = self._scripts.pop(0)
        self.status = (
            "CREATE_IN_PROGRESS"
            if self.status in (None, "REVIEW_IN_PROGRESS")
            else "UPDATE_IN_PROGRESS"
        )
        return {}

    def delete_stack(self, **_: Any) -> dict[str, Any]:
        self.calls.append("delete")
        self._script = self._scripts.pop(0)
        self.status = "DELETE_IN_PROGRESS"
        return {}

    def get_paginator(self, _: str) -> Cloud:
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        newest_first = self._events[::-1]
        return [{"StackEvents": newest_first[:2]}, {"StackEvents": newest_first[2:]}]

    def _happen(self, resource: str, kind: str, status: str, why: str) -> None:
        self._events.append(
            {
                "EventId": str(next(self._ids)),
                "LogicalResourceId": resource,
                "ResourceType": kind,
                "ResourceStatus": status,
                "ResourceStatusReason": why,
            }
        )


def deploy(cloud: Cloud) -> tuple[str, list[Event]]:
    heard: list[Event] = []
    result = Stacks("eu-west-1", cloud).deploy("s", "text", {"A": "b"}, heard.append)
    return result, heard


def test_a_stack_is_made_and_each_event_told_once() -> None:
    """Somebody would look at a still screen, or at the same line again and again."""
    cloud = Cloud(
        None,
        [("Role", "CREATE_IN_PROGRESS"), ("Role", "CREATE_COMPLETE"), ("s", "CREATE_COMPLETE")],
    )
    result, heard = deploy(cloud)
    assert result == "created"
    assert [(e.resource, e.status) for e in heard] == [
        ("Role", "CREATE_IN_PROGRESS"),
        ("Role", "CREATE_COMPLETE"),
        ("s", "CREATE_COMPLETE"),
    ]
    assert cloud.made["Parameters"] == [{"ParameterKey": "A", "ParameterValue": "b"}]
    assert cloud.made["Capabilities"] == ["CAPABILITY_NAMED_IAM"]


def test_nothing_to_do_is_no_failure() -> None:
    """A second `runner setup` would end with an error, and leave a failed change set behind."""
    cloud = Cloud("CREATE_COMPLETE")
    cloud.change = ("FAILED", "The submitted information didn't contain changes. Submit different")
    assert deploy(cloud) == ("unchanged", [])
    assert cloud.calls == ["change set UPDATE", "delete change set"]


def test_a_change_set_that_cant_be_is_told() -> None:
    """A mistake in a template would look like nothing to do."""
    cloud = Cloud("CREATE_COMPLETE")
    cloud.change = ("FAILED", "Parameters: [X] must have values")
    with pytest.raises(StackFailed, match="must have values"):
        deploy(cloud)


def test_the_first_failure_is_told_in_awss_words() -> None:
    """The last event says `ROLLBACK_COMPLETE`, which tells nobody what to mend."""
    cloud = Cloud(
        None,
        [
            ("Role", "CREATE_FAILED", "API: iam:CreateRole User: x is not authorized"),
            ("Profile", "CREATE_FAILED", "Resource creation cancelled"),
            ("s", "ROLLBACK_IN_PROGRESS"),
            ("s", "ROLLBACK_COMPLETE"),
        ],
    )
    with pytest.raises(StackFailed) as caught:
        deploy(cloud)
    told = str(caught.value)
    assert told == (
        "stack s in eu-west-1 failed (ROLLBACK_COMPLETE): Role (AWS::IAM::Role): "
        "API: iam:CreateRole User: x is not authorized"
    )


def test_a_failure_of_long_ago_is_not_this_ones() -> None:
    """Somebody would mend what is well."""
    cloud = Cloud(
        "UPDATE_COMPLETE", [("Role", "UPDATE_FAILED", "new"), ("s", "UPDATE_ROLLBACK_COMPLETE")]
    )
    with pytest.raises(StackFailed, match=r"Role .*: new$"):
        deploy(cloud)


def test_a_stack_that_was_never_made_is_deleted_first() -> None:
    """After one failure `runner setup` would fail for ever: such a stack can't be updated."""
    cloud = Cloud("ROLLBACK_COMPLETE", [("s", "DELETE_COMPLETE")], [("s", "CREATE_COMPLETE")])
    assert deploy(cloud)[0] == "created"
    assert cloud.calls == ["delete", "change set CREATE", "execute"]


def test_a_change_set_that_was_never_executed_is_no_stack() -> None:
    """A Ctrl-C at the wrong moment would leave a name that can be neither made nor changed."""
    cloud = Cloud("REVIEW_IN_PROGRESS", [("s", "CREATE_COMPLETE")])
    assert deploy(cloud)[0] == "created"


def test_what_is_under_way_is_waited_for() -> None:
    """The same command after a Ctrl-C would be refused by CloudFormation."""
    cloud = Cloud("UPDATE_IN_PROGRESS", [("s", "UPDATE_COMPLETE")])
    looks = itertools.count()

    def look() -> None:
        if next(looks) == 3:
            cloud.status = "UPDATE_COMPLETE"

    cloud.on_look = look
    assert deploy(cloud)[0] == "updated"
    assert cloud.calls == ["change set UPDATE", "execute"]


def test_a_stack_that_hangs_is_left_to_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for ever, for what has long been lost."""
    monkeypatch.setattr(stacks, "PATIENCE", -1.0)
    with pytest.raises(StackFailed, match="takes too long; AWS goes on with it"):
        deploy(Cloud(None, []))
