"""A queue's story in its result store: what happened, step by step, in parts that are only added.

Each state folder that works on a run stores what its own database has, under its holder's name.
Owns the lines' format. Nothing of it is trusted when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from runner.errors import StateError
from runner.model.records import Count, JobName, Name, Rule, WallTime, decode, each_named, read
from runner.results.escape import shown
from runner.results.layout import Layout
from runner.results.store import ResultStore

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One line: ``seq`` counts the events of one holder; ``job`` None: the queue's own."""

    seq: Count
    wall: WallTime
    event: Name
    job: JobName | None = None
    detail: Annotated[dict[str, Any], Rule(each_named(lambda value: value))] = field(
        default_factory=dict
    )

    def to_line(self) -> bytes:
        """As it is stored."""
        told = {"seq": self.seq, "wall": self.wall, "job": self.job, "event": self.event}
        return _encode({**told, "detail": self.detail}).encode() + b"\n"


def put_events(
    store: ResultStore, layout: Layout, run_id: str, holder: str, events: Sequence[StoredEvent]
) -> None:
    """Store events, at least one, as a part. The same ones again are the same part."""
    key = layout.events_key(run_id, holder, events[0].seq, events[-1].seq)
    store.put_bytes(key, b"".join(event.to_line() for event in events))


def last_stored(store: ResultStore, layout: Layout, run_id: str, holder: str) -> int:
    """The ``seq`` of the last event that this holder has stored, 0 for none. Raises StoreError."""
    prefix = layout.events_prefix(run_id, holder)
    return max((layout.last_event_of(entry.key) for entry in store.list(prefix)), default=0)


@dataclass(frozen=True, slots=True)
class StoredStory:
    """All events of a run in the order of their times; ``problems``: what can't be read."""

    events: tuple[StoredEvent, ...]
    problems: tuple[str, ...]


def read_events(store: ResultStore, layout: Layout, run_id: str) -> StoredStory:
    """What is stored of a run's story, by whichever machines. Raises StoreError."""
    found: dict[tuple[str, int], StoredEvent] = {}
    problems: list[str] = []
    for key in sorted(entry.key for entry in store.list(layout.events_prefix(run_id))):
        holder = key.rpartition("/")[0]
        try:
            for event in _parse(store.get_bytes(key) or b"", shown(key)):
                found[holder, event.seq] = event
        except StateError as error:
            problems.append(str(error))
    events = sorted(found.items(), key=lambda item: (item[1].wall, item[0]))
    return StoredStory(tuple(event for _, event in events), tuple(problems))


def _parse(data: bytes, name: str) -> Iterable[StoredEvent]:
    for line in data.splitlines():
        yield read(StoredEvent, decode(line, name), name)
