"""The document of one firing of a schedule: the schedule's, with an id and a place of its own."""

from __future__ import annotations

from dataclasses import replace

from runner.model.queue import QueueSpec

PARENT = "queues"
"""Where results go of a document without a prefix: as for any queue."""


def parent_of(queue: QueueSpec) -> str:
    """The key prefix below which each firing has its own."""
    return queue.result_s3_prefix or PARENT


def of_firing(queue: QueueSpec, queue_id: str) -> QueueSpec:
    """The schedule's document as a firing runs it; its results go below ``parent/queue_id``."""
    return replace(queue, queue_id=queue_id, result_s3_prefix=f"{parent_of(queue)}/{queue_id}")
