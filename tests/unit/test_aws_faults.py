"""What is told of an answer of AWS that isn't one."""

from __future__ import annotations

from botocore.exceptions import ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from runner.aws.faults import Kind, translate

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
    assert told is not None and told.kind is Kind.DENIED
    assert str(told) == f"UnauthorizedOperation: {text}"
