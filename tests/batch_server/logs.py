"""Where lines of containers go that Docker's own driver doesn't carry: CloudWatch, or memory."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from typing import Any, Protocol

import boto3

GROUP = "/aws/batch/job"
LONGEST_LINE = 262_118
"""Bytes of an event; the awslogs driver cuts longer lines (tried)."""


class LogSink(Protocol):
    def put(self, group: str, stream: str, line: bytes) -> None:
        """One line, without its end."""

    def close(self) -> None:
        """All that was put is there when this returns."""


class KeptLogs:
    """Lines in memory, by stream."""

    def __init__(self) -> None:
        self.lines: dict[str, list[bytes]] = defaultdict(list)

    def put(self, group: str, stream: str, line: bytes) -> None:
        self.lines[stream].append(line)

    def close(self) -> None:
        pass


class CloudWatchLogs:
    """As the awslogs driver does it: no empty lines, long ones cut, several lines a call."""

    def __init__(
        self, endpoint: str, region: str, keys: tuple[str, str] = ("test", "test")
    ) -> None:
        self._client: Any = boto3.client(
            "logs",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
        )
        self._streams: set[tuple[str, str]] = set()
        self._lines: queue.SimpleQueue[tuple[str, str, bytes, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._carry, name="batch-logs", daemon=True)
        self._thread.start()

    def put(self, group: str, stream: str, line: bytes) -> None:
        now = time.time_ns() // 1_000_000
        for start in range(0, len(line), LONGEST_LINE):
            self._lines.put((group, stream, line[start : start + LONGEST_LINE], now))

    def close(self) -> None:
        self._lines.put(None)
        self._thread.join()
        self._client.close()

    def _carry(self) -> None:
        going_on = True
        while going_on:
            batch: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
            found = self._lines.get()
            while found is not None:
                group, stream, line, when = found
                text = line.decode(errors="replace")
                batch[group, stream].append({"timestamp": when, "message": text})
                if self._lines.empty() or sum(map(len, batch.values())) >= 500:
                    break
                found = self._lines.get()
            going_on = found is not None
            for (group, stream), events in batch.items():
                self._create(group, stream)
                self._client.put_log_events(
                    logGroupName=group, logStreamName=stream, logEvents=events
                )

    def _create(self, group: str, stream: str) -> None:
        if (group, stream) in self._streams:
            return
        for create, arguments in (
            (self._client.create_log_group, {}),
            (self._client.create_log_stream, {"logStreamName": stream}),
        ):
            try:
                create(logGroupName=group, **arguments)
            except self._client.exceptions.ResourceAlreadyExistsException:
                pass
        self._streams.add((group, stream))
