"""The queue document, all of it in one place for the floors above.

The records are in ``queue``; what can be done with them is in a module each. This one owns nothing.
"""

from __future__ import annotations

from runner.model.comparison import first_difference, job_difference
from runner.model.parser import parse_document, parse_stored, read_document
from runner.model.placement import ArraySpec, BatchSpec, Placement, ResourceSpec
from runner.model.queue import FIT, InputSpec, JobSpec, QueueSpec, ResultSpec, RetrySpec
from runner.model.schema import json_schema
from runner.model.serialization import dump_document

__all__ = [
    "FIT",
    "ArraySpec",
    "BatchSpec",
    "InputSpec",
    "JobSpec",
    "Placement",
    "QueueSpec",
    "ResourceSpec",
    "ResultSpec",
    "RetrySpec",
    "dump_document",
    "first_difference",
    "grace",
    "job_difference",
    "json_schema",
    "parse_document",
    "parse_stored",
    "read_document",
]

grace = QueueSpec.grace
"""``grace(queue, job)``, the same as ``queue.grace(job)``."""
