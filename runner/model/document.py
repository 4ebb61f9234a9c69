"""The queue document, all of it in one place for the floors above.

The records are in ``queue``; what can be done with them is in a module each. This one owns nothing.
"""

from __future__ import annotations

from runner.model.comparing import first_difference, job_difference
from runner.model.dumping import dump_document
from runner.model.parsing import parse_document, parse_stored, read_document
from runner.model.queue import InputSpec, JobSpec, QueueSpec, ResultSpec, RetrySpec
from runner.model.schema import json_schema

__all__ = [
    "InputSpec",
    "JobSpec",
    "QueueSpec",
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
