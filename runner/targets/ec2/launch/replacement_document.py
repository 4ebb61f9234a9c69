"""The document that a replacement goes on with: as the machine before had it, if a person gave it.

Jobs can write where a machine stores its queue's document, and a person would launch a machine for
what they wrote. They can't write what a launch or a submit from elsewhere has shipped: it counts
only if it is one of these.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from runner.errors import ConflictError, NotFoundError, UsageError
from runner.model.comparison import first_difference
from runner.model.document import QueueSpec, dump_document, parse_stored
from runner.model.json_reader import MAX_BYTES
from runner.model.messages import quoted
from runner.results.layout import Layout
from runner.results.stores import parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.launch.firing_document import of_firing
from runner.targets.ec2.launch.submitted_document import submitted_key


def document_of(
    bucket: LaunchBucket, store: str, launch: str, queue_id: str, submitted: str | None = None
) -> QueueSpec:
    """The queue's document. ``launch``: the newest one's word, "" if nobody knows. ``submitted``:
    the sha256 of what was submitted to the launch's machine, if that is known. Blocks.

    Raises ConflictError for one that nobody has launched or submitted from elsewhere, and for
    another queue's; NotFoundError; AwsError.
    """
    prefix = parse_s3(store)[1]
    key = f"{prefix}/{Layout.document_key}" if prefix else Layout.document_key
    launched = _read(bucket, names.launch_key(launch, Layout.document_key)) if launch else None
    last = _read(bucket, key)
    if last is not None:
        _check_id(last, f"s3://{bucket.name}/{key}", queue_id)
    # A machine that was launched for another queue has got this one by a submit.
    if launched is not None and names.split_firing(launch) is not None:
        launched = _of_schedule(launched, queue_id)
    if launched is not None and launched.queue_id not in (None, queue_id):
        launched = None
    if last is None and launched is None and launch and submitted:
        # The machine has ended before it stored anything of it.
        sent = submitted_key(launch, submitted)
        if (found := _read(bucket, sent)) is not None:
            _check_id(found, f"s3://{bucket.name}/{sent}", queue_id)
            return found.with_id(queue_id)
    if last is None and launched is None:
        raise NotFoundError(f"{store} has no document of '{queue_id}', and its launch neither")
    found = last or launched
    assert found is not None
    found = found.with_id(queue_id)
    differs = _differs(launched, found)
    if differs is None or _was_submitted(bucket, launch, found):
        return found
    raise ConflictError(
        f"s3://{bucket.name}/{key} is not what was launched, nor submitted from a laptop: "
        f"{differs}\njobs can write there: nothing was ended or launched\n"
        "say what is meant: --batch-queue FILE --update"
    )


def _of_schedule(queue: QueueSpec, queue_id: str) -> QueueSpec | None:
    """A schedule's document as that firing has it; None for another schedule's."""
    found = names.split_firing(queue_id)
    return of_firing(queue, queue_id) if found and found[0] == queue.queue_id else None


def _read(bucket: LaunchBucket, key: str) -> QueueSpec | None:
    raw = bucket.get(key, MAX_BYTES + 1)
    if raw is None:
        return None
    try:
        return parse_stored(raw)
    except UsageError as error:
        raise ConflictError(f"s3://{bucket.name}/{key} can't be read: {error}") from error


def _check_id(queue: QueueSpec, place: str, queue_id: str) -> None:
    if queue.queue_id not in (None, queue_id):
        raise ConflictError(f"{place} is of another queue, {quoted(str(queue.queue_id))}")


def _differs(launched: QueueSpec | None, found: QueueSpec) -> str | None:
    """How it differs from what was launched, in words; None if it doesn't."""
    if launched is None:
        return "nothing tells of a launch for it"
    return first_difference(launched.with_id(str(found.queue_id)), found)


def _was_submitted(bucket: LaunchBucket, launch: str, queue: QueueSpec) -> bool:
    """Whether a person has sent this very document to the launch's machine."""
    if not launch:
        return False
    for sent in (queue, replace(queue, queue_id=None)):
        sha256 = hashlib.sha256(dump_document(sent).encode()).hexdigest()
        if bucket.has(submitted_key(launch, sha256)):
            return True
    return False
