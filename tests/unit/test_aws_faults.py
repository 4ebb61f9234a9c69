"""What is told of an answer of AWS that isn't one."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from runner.aws.errors import AwsError, ErrorKind, part_of, translate

PAGE = "<html>\n" + "<p>It is us, and not you.</p>\n" * 2000


def test_an_answer_that_can_not_be_read_is_told_in_a_line() -> None:
    """A captive portal's page would fill the terminal, and hide what is asked of its reader."""
    for error in (
        ResponseParserError(f"Unable to parse response, invalid XML received:\n{PAGE}"),
        HTTPClientError(error=PAGE),
        ClientError({"Error": {"Code": "502", "Message": PAGE}}, "DescribeInstances"),
    ):
        told = translate(error)
        assert told is not None
        assert "\n" not in str(told) and len(str(told)) < 2100
        assert str(told).endswith(" …")


def test_what_only_aws_can_decode_is_told_whole() -> None:
    """`aws sts decode-authorization-message` takes the whole text, or says nothing."""
    text = "Encoded authorization failure message: " + "x" * 1500
    refused = ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": text}}, "Run")
    told = translate(refused)
    assert told is not None and told.kind is ErrorKind.DENIED
    assert str(told) == f"UnauthorizedOperation: {text}"


@pytest.mark.parametrize("answer", [{}, {"Command": None}, {"Command": {}}, None, "<html>", []])
def test_an_answer_without_what_aws_always_tells_is_no_answer(answer: Any) -> None:
    """A proxy's page with status 200 would be an internal error, and a launch nobody knows of."""
    with pytest.raises(AwsError, match="SendCommand was answered without CommandId") as caught:
        part_of(answer, "SendCommand", "Command", "CommandId")
    assert caught.value.kind is ErrorKind.PASSING
    machine = {"Instances": [{"InstanceId": "i-1"}]}
    assert part_of(machine, "RunInstances", "Instances", 0, "InstanceId") == "i-1"
