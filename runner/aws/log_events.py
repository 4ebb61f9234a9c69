"""CloudWatch Logs: the events of one stream, forwards and backwards.

Facts: CloudWatch Logs API reference, "GetLogEvents": a page holds 1 MB or 10,000 events and may be
empty; the end is reached where the token that was sent comes back; the order is that of time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling, part_of

LARGEST_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One line. ``at``: ms since the epoch, by the clock of whoever wrote it."""

    at: int
    message: str


class LogEvents:
    """The streams of one region. All calls block, and raise AwsError."""

    def __init__(self, region: str | None) -> None:
        self._region = region
        self._client: Any = None

    def forwards(
        self, group: str, stream: str, token: str | None = None
    ) -> Iterator[tuple[list[LogEvent], str]]:
        """What follows ``token`` (None: from the beginning) to the end there is now, page by page,
        each with the token to go on with. Nothing where there is no such stream yet."""
        while True:
            try:
                answer = self._page(group, stream, token, startFromHead=True)
            except AwsError as error:
                if error.kind is not ErrorKind.MISSING:
                    raise
                return
            following = part_of(answer, "GetLogEvents", "nextForwardToken")
            yield _events(answer), following
            if following == token:
                return
            token = following

    def last(self, group: str, stream: str, count: int) -> list[LogEvent]:
        """The last ``count`` events, or as many as there are; none where there is no stream."""
        pages: list[list[LogEvent]] = []
        left, token = count, None
        try:
            while left > 0:
                limit = min(left, LARGEST_PAGE)
                answer = self._page(group, stream, token, startFromHead=False, limit=limit)
                pages.append(_events(answer))
                left -= len(pages[-1])
                earlier = part_of(answer, "GetLogEvents", "nextBackwardToken")
                if earlier == token:
                    break
                token = earlier
        except AwsError as error:
            if error.kind is not ErrorKind.MISSING:
                raise
        found = [event for page in reversed(pages) for event in page]
        return found[-count:] if count else []

    def _page(self, group: str, stream: str, token: str | None, **more: Any) -> Mapping[str, Any]:
        if self._client is None:
            self._client = make_client("logs", self._region, own_session=True)
        with calling(lambda error: error):
            answer: Mapping[str, Any] = self._client.get_log_events(
                logGroupName=group,
                logStreamName=stream,
                **more,
                **({} if token is None else {"nextToken": token}),
            )
        return answer


def _events(answer: Mapping[str, Any]) -> list[LogEvent]:
    return list(_read(part_of(answer, "GetLogEvents", "events")))


def _read(events: list[Mapping[str, Any]]) -> Iterator[LogEvent]:
    for event in events:
        yield LogEvent(int(event.get("timestamp", 0)), str(event.get("message", "")))
