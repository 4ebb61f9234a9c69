"""A queue's story in a store: added to, never stored twice, read in order whoever stored it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.stored_events import StoredEvent, last_stored, put_events, read_events

LAYOUT = Layout()


def event(seq: int, wall: float, name: str = "attempt_started") -> StoredEvent:
    return StoredEvent(seq, wall, name, "a", {"attempt": seq})


def test_parts_of_several_machines_are_one_story(tmp_path: Path) -> None:
    """After a spot machine's end nobody could tell what happened before it and after."""
    store = FolderStore(tmp_path)
    assert last_stored(store, LAYOUT, "run-1", "one") == 0
    put_events(store, LAYOUT, "run-1", "one", [event(1, 10.0), event(2, 20.0)])
    put_events(store, LAYOUT, "run-1", "two", [event(1, 30.0)])
    put_events(store, LAYOUT, "run-1", "one", [event(3, 40.0)])
    put_events(store, LAYOUT, "run-1", "one", [event(3, 40.0), event(4, 50.0)])
    put_events(store, LAYOUT, "run-2", "one", [event(1, 5.0)])
    assert last_stored(store, LAYOUT, "run-1", "one") == 4
    story = read_events(store, LAYOUT, "run-1")
    assert [each.wall for each in story.events] == [10.0, 20.0, 30.0, 40.0, 50.0]
    assert story.events[0] == event(1, 10.0) and not story.problems


@pytest.mark.parametrize("data", [b"{", b"[]\n", b'{"seq": 1}\n', b"\xff\n", b'{"seq": -1}\n'])
def test_what_is_no_story_is_named(tmp_path: Path, data: bytes) -> None:
    """One damaged object would hide all that happened."""
    store = FolderStore(tmp_path)
    put_events(store, LAYOUT, "r", "one", [event(1, 10.0)])
    store.put_bytes(LAYOUT.events_key("r", "two", 1, 1), data)
    story = read_events(store, LAYOUT, "r")
    assert story.events == (event(1, 10.0),)
    (told,) = story.problems
    assert "events/r/two/" in told
