"""Events on a bus of EventBridge. Needs events:PutEvents."""

from __future__ import annotations

from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling, part_of

SOURCE = "queue-runner"
"""What rules match on."""

_PASSING = frozenset({"InternalFailure", "InternalException", "ThrottlingException"})


def put_event(bus: str, region: str | None, detail_type: str, detail: str, seconds: float) -> str:
    """Put one event on the bus of this name or ARN; its id. Raises AwsError.

    A bus that isn't there is told in an answer that says 200 (API reference, "PutEvents").
    """
    if bus.startswith("arn:"):
        region = bus.split(":")[3]
    with calling(lambda error: error):
        client = make_client(
            "events", region, connect=seconds / 2, read=seconds / 2, attempts=1, own_session=True
        )
        entry = {
            "Source": SOURCE,
            "DetailType": detail_type,
            "Detail": detail,
            "EventBusName": bus,
        }
        answer: dict[str, Any] = client.put_events(Entries=[entry])
    (told,) = part_of(answer, "PutEvents", "Entries")
    if code := told.get("ErrorCode"):
        kind = ErrorKind.PASSING if code in _PASSING else ErrorKind.INVALID
        raise AwsError(kind, str(code), str(told.get("ErrorMessage") or code))
    return str(told.get("EventId"))
