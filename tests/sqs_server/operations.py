"""The operations: a request as botocore's model allows it becomes an answer, or ``Refused``."""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from botocore import xform_name

from .queue import DEFAULTS, Message, Queue
from .refusals import Refused, invalid, no_queue
from .rudeness import Rudeness

Document = dict[str, Any]

LARGEST = 1_048_576
"""Bytes of a message, and of all of a batch."""

IN_FLIGHT = 120_000
DELETED_S = 60.0
"""Seconds for which a deleted queue's name can't be used again."""

POLL = 0.01
"""Seconds between two looks of a receive that waits."""

_BAD = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}(\.fifo)?")
_ENTRY = re.compile(r"[A-Za-z0-9_-]{1,80}")


class Operations:
    """``base``: the server's URL. ``lock`` guards everything here."""

    def __init__(self, base: str, account: str, region: str, seed: int) -> None:
        self.lock = threading.RLock()
        self.queues: dict[str, Queue] = {}
        self.rude = Rudeness()
        self.offset = 0.0
        self.counts_lag = 0.0
        self.in_flight_limit = IN_FLIGHT
        self.rng = random.Random(seed)
        self.closed = False
        self._base = base
        self._account = account
        self._region = region
        self._deleted: dict[str, float] = {}
        self._counted: dict[str, tuple[float, dict[str, str]]] = {}
        self._moves: dict[str, Document] = {}

    def now(self) -> float:
        """Seconds since the epoch, by the server's clock."""
        return time.time() + self.offset

    def call(self, operation: str, request: Document) -> Document:
        """The answer. Raises ``Refused``."""
        found: Callable[[Document], Document] | None = getattr(
            self, f"_do_{xform_name(operation)}", None
        )
        if found is None:
            raise Refused("UnsupportedOperation", f"{operation} is none of the tests' server's")
        if operation == "ReceiveMessage":
            return found(request)
        with self.lock:
            return found(request)

    # -- queues ------------------------------------------------------------------------------

    def _queue(self, request: Mapping[str, Any], member: str = "QueueUrl") -> Queue:
        name = str(request[member]).rpartition("/")[2].rpartition(":")[2]
        if name not in self.queues:
            raise no_queue()
        queue = self.queues[name]
        queue.expire(self.now())
        self._bury(queue)
        return queue

    def _bury(self, queue: Queue) -> None:
        """What was received too often goes to the dead-letter queue, as old as it was."""
        for each in queue.dead(self.now()):
            assert queue.redrive is not None
            target = self.queues.get(queue.redrive[0].rpartition(":")[2])
            if target is None:
                return
            del queue.messages[each.id]
            each.source, each.handle = queue.arn, None
            target.add(each)

    def _do_create_queue(self, request: Document) -> Document:
        name, given = request["QueueName"], dict(request.get("Attributes") or {})
        if not _NAME.fullmatch(name):
            raise invalid("Can only include alphanumeric characters, hyphens, or underscores.")
        if (at := self._deleted.get(name)) is not None and self.now() - at < DELETED_S:
            raise Refused(
                "QueueDeletedRecently",
                "You must wait 60 seconds after deleting a queue before you can create another "
                "with the same name.",
            )
        if name in self.queues:
            there = self.queues[name]
            if any(there.attributes.get(k, DEFAULTS.get(k)) != v for k, v in given.items()):
                raise Refused(
                    "QueueNameExists",
                    "A queue already exists with the same name and a different value for attribute",
                )
            return {"QueueUrl": there.url}
        url = f"{self._base}/{self._account}/{name}"
        arn = f"arn:aws:sqs:{self._region}:{self._account}:{name}"
        tags = dict(request.get("tags") or {})
        self.queues[name] = Queue(name, url, arn, given, tags, self.now())
        return {"QueueUrl": url}

    def _do_get_queue_url(self, request: Document) -> Document:
        return {"QueueUrl": self._queue(request, "QueueName").url}

    def _do_list_queues(self, request: Document) -> Document:
        prefix = request.get("QueueNamePrefix", "")
        found = [q.url for name, q in sorted(self.queues.items()) if name.startswith(prefix)]
        most = request.get("MaxResults", 1000)
        start = int(request.get("NextToken") or 0)
        answer: Document = {"QueueUrls": found[start : start + most]} if found[start:] else {}
        if request.get("MaxResults") and len(found) > start + most:
            answer["NextToken"] = str(start + most)
        return answer

    def _do_delete_queue(self, request: Document) -> Document:
        queue = self._queue(request)
        del self.queues[queue.name]
        self._deleted[queue.name] = self.now()
        return {}

    def _do_purge_queue(self, request: Document) -> Document:
        self._queue(request).purge(self.now())
        return {}

    def _do_get_queue_attributes(self, request: Document) -> Document:
        queue = self._queue(request)
        found = {
            **DEFAULTS,
            **queue.attributes,
            **self._counts(queue),
            "QueueArn": queue.arn,
            "CreatedTimestamp": str(int(queue.created)),
        }
        asked = request.get("AttributeNames") or []
        if "All" not in asked:
            found = {name: value for name, value in found.items() if name in asked}
        return {"Attributes": found} if found else {}

    def _counts(self, queue: Queue) -> dict[str, str]:
        now = self.now()
        at, before = self._counted.get(queue.name, (float("-inf"), {}))
        if now - at >= self.counts_lag:
            before = {
                "ApproximateNumberOfMessages": str(len(queue.visible(now))),
                "ApproximateNumberOfMessagesNotVisible": str(queue.in_flight(now)),
                "ApproximateNumberOfMessagesDelayed": str(queue.delayed(now)),
            }
            self._counted[queue.name] = now, before
        return before

    def _do_set_queue_attributes(self, request: Document) -> Document:
        self._queue(request).attributes.update(request["Attributes"])
        return {}

    def _do_tag_queue(self, request: Document) -> Document:
        self._queue(request).tags.update(request["Tags"])
        return {}

    def _do_untag_queue(self, request: Document) -> Document:
        tags = self._queue(request).tags
        for key in request["TagKeys"]:
            tags.pop(key, None)
        return {}

    def _do_list_queue_tags(self, request: Document) -> Document:
        tags = self._queue(request).tags
        return {"Tags": tags} if tags else {}

    def _do_list_dead_letter_source_queues(self, request: Document) -> Document:
        dead = self._queue(request).arn
        return {
            "queueUrls": [q.url for q in self.queues.values() if q.redrive and q.redrive[0] == dead]
        }

    # -- messages ----------------------------------------------------------------------------

    def _message(self, queue: Queue, request: Mapping[str, Any]) -> Message:
        body = request["MessageBody"]
        if not body:
            raise Refused("MissingParameter", "The request must contain the parameter MessageBody.")
        if found := _BAD.search(body):
            raise Refused(
                "InvalidMessageContents", f"Invalid binary character {ord(found[0]):#x} was found"
            )
        if _size(request) > int(queue.attribute("MaximumMessageSize")):
            raise invalid("One or more parameters are invalid. Reason: Message must be shorter")
        delay = request.get("DelaySeconds", int(queue.attribute("DelaySeconds")))
        if not 0 <= delay <= 900:
            raise invalid(f"Value {delay} for parameter DelaySeconds is invalid.")
        now = self.now()
        return Message(
            str(uuid.UUID(int=self.rng.getrandbits(128), version=4)),
            body,
            dict(request.get("MessageAttributes") or {}),
            now,
            now + delay,
            request.get("MessageGroupId"),
        )

    def _send(self, queue: Queue, request: Mapping[str, Any]) -> Document:
        message = self._message(queue, request)
        queue.send(message, self.now(), self.rude, self.rng)
        return {"MessageId": message.id, "MD5OfMessageBody": _md5(message.body)}

    def _do_send_message(self, request: Document) -> Document:
        return self._send(self._queue(request), request)

    def _do_send_message_batch(self, request: Document) -> Document:
        if sum(_size(each) for each in request["Entries"]) > LARGEST:
            raise Refused("BatchRequestTooLong", "Batch requests cannot be longer than 1048576")
        queue = self._queue(request)
        return self._batch(request, lambda entry: self._send(queue, entry))

    def _do_delete_message(self, request: Document) -> Document:
        queue = self._queue(request)
        queue.delete(request["ReceiptHandle"], self.now(), self.rude, self.rng)
        return {}

    def _do_delete_message_batch(self, request: Document) -> Document:
        url = request["QueueUrl"]
        return self._batch(
            request, lambda entry: self._do_delete_message({**entry, "QueueUrl": url})
        )

    def _do_change_message_visibility(self, request: Document) -> Document:
        queue, seconds = self._queue(request), request["VisibilityTimeout"]
        if not 0 <= seconds <= 43_200:
            raise invalid(f"Value {seconds} for parameter VisibilityTimeout is invalid.")
        handle = request["ReceiptHandle"]
        queue.change_visibility(handle, seconds, self.now(), self.rude, self.rng)
        return {}

    def _do_change_message_visibility_batch(self, request: Document) -> Document:
        url = request["QueueUrl"]
        return self._batch(
            request, lambda entry: self._do_change_message_visibility({**entry, "QueueUrl": url})
        )

    def _batch(self, request: Document, do: Callable[[Document], Document]) -> Document:
        entries = request["Entries"]
        if not entries:
            raise Refused("EmptyBatchRequest", "There should be at least one entry in the request.")
        if len(entries) > 10:
            raise Refused("TooManyEntriesInBatchRequest", "Maximum number of entries is 10.")
        ids = [each["Id"] for each in entries]
        if len(set(ids)) < len(ids):
            raise Refused("BatchEntryIdsNotDistinct", f"Id {max(ids, key=ids.count)} repeated.")
        if not all(_ENTRY.fullmatch(each) for each in ids):
            raise Refused("InvalidBatchEntryId", "A batch entry id can only contain alphanumerics")
        done: list[Document] = []
        failed: list[Document] = []
        for entry in entries:
            fails = self.rng.random() < self.rude.entry
            try:
                if not fails or self.rng.random() < self.rude.kept:
                    found = do(entry)
            except Refused as refused:
                failed.append(_failed(entry, refused.query_code, refused.message, True))
                continue
            if fails:
                failed.append(_failed(entry, "InternalError", "An internal error", False))
            else:
                done.append({"Id": entry["Id"], **found})
        return {"Successful": done, "Failed": failed}

    def _do_receive_message(self, request: Document) -> Document:
        most = request.get("MaxNumberOfMessages", 1)
        if not 1 <= most <= 10:
            raise invalid(f"Value {most} for parameter MaxNumberOfMessages is invalid.")
        with self.lock:
            queue = self._queue(request)
            wait = request.get(
                "WaitTimeSeconds", int(queue.attribute("ReceiveMessageWaitTimeSeconds"))
            )
        if not 0 <= wait <= 20:
            raise invalid(f"Value {wait} for parameter WaitTimeSeconds is invalid.")
        until = time.monotonic() + wait
        while True:
            with self.lock:
                queue = self._queue(request)
                taken = self._take(queue, request, most, wait)
            if taken or time.monotonic() >= until or self.closed:
                return {"Messages": [_received(each, request) for each in taken]} if taken else {}
            time.sleep(POLL)

    def _take(self, queue: Queue, request: Document, most: int, wait: float) -> list[Message]:
        now = self.now()
        full = queue.in_flight(now) >= self.in_flight_limit
        if full and not wait:
            raise Refused("OverLimit", "Too many messages in flight for this queue.", 403)
        if full or (not wait and self.rng.random() < self.rude.short):
            return []
        visibility = request.get("VisibilityTimeout", int(queue.attribute("VisibilityTimeout")))
        return queue.receive(most, visibility, now, self.rude, self.rng)

    # -- moving back -------------------------------------------------------------------------

    def _do_start_message_move_task(self, request: Document) -> Document:
        """Moves all at once; the service takes its time."""
        try:
            source = self._queue(request, "SourceArn")
        except Refused:
            raise Refused("ResourceNotFoundException", "The resource doesn't exist.", 404) from None
        if not any(q.redrive and q.redrive[0] == source.arn for q in self.queues.values()):
            raise invalid("Source queue must be configured as a Dead Letter Queue.")
        moved, now = 0, self.now()
        for each in list(source.visible(now)):
            arn = request.get("DestinationArn") or each.source
            target = self.queues.get(str(arn).rpartition(":")[2])
            if target is None:
                continue
            del source.messages[each.id]
            made = self._message(target, {"MessageBody": each.body})
            made.attributes = each.attributes
            target.add(made)
            moved += 1
        handle = uuid.UUID(int=self.rng.getrandbits(128)).hex
        self._moves[handle] = {
            "Status": "COMPLETED",
            "SourceArn": source.arn,
            "ApproximateNumberOfMessagesMoved": moved,
            "StartedTimestamp": int(now * 1000),
        }
        return {"TaskHandle": handle}

    def _do_list_message_move_tasks(self, request: Document) -> Document:
        found = [each for each in self._moves.values() if each["SourceArn"] == request["SourceArn"]]
        return {"Results": found[::-1][: request.get("MaxResults", 1)]}


def _failed(entry: Document, code: str, text: str, sender: bool) -> Document:
    return {"Id": entry["Id"], "SenderFault": sender, "Code": code, "Message": text}


def _size(request: Mapping[str, Any]) -> int:
    attributes = request.get("MessageAttributes") or {}
    more = sum(len(k) + len(json.dumps(v)) for k, v in attributes.items())
    return len(request["MessageBody"].encode("utf-8", "surrogatepass")) + more


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _received(message: Message, request: Document) -> Document:
    told = {
        "ApproximateReceiveCount": str(message.receives),
        "SentTimestamp": str(int(message.sent * 1000)),
        "ApproximateFirstReceiveTimestamp": str(int((message.first_received or 0) * 1000)),
        "SenderId": "AIDATESTS",
    }
    if message.group:
        told["MessageGroupId"] = message.group
    if message.source:
        told["DeadLetterQueueSourceArn"] = message.source
    asked = request.get("MessageSystemAttributeNames") or request.get("AttributeNames") or []
    found: Document = {
        "MessageId": message.id,
        "ReceiptHandle": message.handle,
        "MD5OfBody": _md5(message.body),
        "Body": message.body,
    }
    if chosen := {k: v for k, v in told.items() if "All" in asked or k in asked}:
        found["Attributes"] = chosen
    names = request.get("MessageAttributeNames") or []
    if kept := {k: v for k, v in message.attributes.items() if k in names or "All" in names}:
        found["MessageAttributes"] = kept
    return found
