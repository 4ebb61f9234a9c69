"""Queries that are answered from the state folder, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.service.looks import LOOKS, Place
from runner.service.shelf import Shelf
from runner.service.views import Stored


class StateFolder(Place):
    """The queues of a state folder, as they are stored."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.who = "nobody"
        self.stored = Stored(shelf.paths)

    def session_of(self, name: str) -> None:
        """See Place: a command that only reads works on no queue."""

    def outlook(self, name: str, owner: str | None) -> Mapping[str, str]:
        """See Place."""
        return {}

    def answer(self, request: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a query, as a daemon of this folder would give it."""
        found = LOOKS[request](self, dict(fields))
        return found() if callable(found) else found
