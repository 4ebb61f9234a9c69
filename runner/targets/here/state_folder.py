"""Queries that are answered from the state folder, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.service.queries import QueryContext
from runner.service.query_table import QUERIES
from runner.service.queue_repository import QueueRepository
from runner.service.views import StoredViews


class StateFolder(QueryContext):
    """The queues of a state folder, as they are stored."""

    def __init__(self, repository: QueueRepository) -> None:
        self.repository = repository
        self.who = "nobody"
        self.stored = StoredViews(repository.paths)

    def session_of(self, name: str) -> None:
        """See QueryContext: a command that only reads works on no queue."""

    def pending_action(self, name: str, owner: str | None) -> Mapping[str, str]:
        """See QueryContext."""
        return {}

    def answer(self, request: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a query, as a daemon of this folder would give it."""
        found = QUERIES[request](self, dict(fields))
        return found() if callable(found) else found
