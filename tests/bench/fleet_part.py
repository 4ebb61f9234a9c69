"""One part of the fleet alone, as one of its clients: ``fleet_part.py KIND SECONDS [WORD…]``.

Prints how many rounds a second it did. ``claims ADDRESS``: claim and finish; ``sqs``: send, then
receive and delete, the sending not counted; ``s3``: put and get small objects, each a round.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable


def claims(address: str) -> Callable[[], object]:
    from runner.fleet.database import open_database
    from runner.fleet.records import Metrics

    database = open_database(address)
    job = database.job("j").id
    worker = database.register(job, "bench")

    def once() -> None:
        task = database.tasks.claim_next(job, worker, uuid.uuid4().hex, 300)
        assert task is not None
        database.job("j")
        assert database.tasks.finish(task, Metrics(duration_ms=1.0))

    return once


def sqs() -> Callable[[], object]:
    from runner.aws.sqs import Sqs

    client = Sqs("us-east-1")
    url = client.create(f"part-{uuid.uuid4().hex}", {})
    for _ in range(1000):
        client.send(url, ['{"task": 1, "key": "W/I"}'] * 10)

    def once() -> None:
        (message,) = client.receive(url, 1, 1, 300)
        client.delete(url, message.handle)

    return once


def s3() -> Callable[[], object]:
    from runner.results.s3.store import S3Store

    store, key = S3Store("bench", f"part-{uuid.uuid4().hex}"), iter(range(10**9))

    def once() -> None:
        number = next(key)
        if number % 2:
            store.get_bytes(f"k{number - 1}")
        else:
            store.put_bytes(f"k{number}", b"x" * 300)

    return once


def main(kind: str, seconds: str, *words: str) -> None:
    once = {"claims": claims, "sqs": sqs, "s3": s3}[kind](*words)
    once()
    begun, rounds = time.perf_counter(), 0
    while (took := time.perf_counter() - begun) < float(seconds):
        once()
        rounds += 1
    print(rounds / took)


if __name__ == "__main__":
    main(*sys.argv[1:])
