"""S3 at its worst: whatever can go wrong with a request does, with four requests in ten."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from s3_endpoint import Endpoint, env_for
from s3_faults import (
    EXPIRED,
    INTERNAL,
    SLOW_DOWN,
    Answer,
    Fault,
    FaultProxy,
    Hang,
    Match,
    Request,
    ResetAnswer,
    ResetRequest,
    Truncate,
    WrongETag,
)
from world import World

RATE = 0.4
FILES = 400
SIZE = 1 << 30
WITHIN = 300.0
"""Seconds from the job's end to the run's."""
SENT = 1.7
"""Bytes that may be sent for each that is stored."""

KINDS: tuple[Fault, ...] = (
    INTERNAL,
    SLOW_DOWN,
    Answer(429, "TooManyRequests"),
    Answer(409, "ConditionalRequestConflict"),
    Answer(412, "PreconditionFailed"),
    EXPIRED,
    ResetRequest(),
    ResetAnswer(),
    Truncate(),
    WrongETag(),
    Hang(),
)


class Chaos:
    """Draws a fault for so many requests of each hundred; counts them by kind."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.drawn: dict[str, int] = {}
        self.requests = 0

    def __call__(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests += 1
            if self._random.random() >= RATE:
                return None
            fault = self._random.choice(KINDS)
            if isinstance(fault, ResetRequest):
                fault = ResetRequest(self._random.randrange(8 << 20))
            name = getattr(fault, "code", type(fault).__name__)
            self.drawn[name] = self.drawn.get(name, 0) + 1
            return fault


def test_all_gets_there_and_nothing_twice(
    world: World, endpoint: Endpoint, scaled: Callable[[int], int], seed: int
) -> None:
    """On a bad day of S3's a night's results would not be stored, or cost their traffic many times
    over, or leave parts that are paid for for ever."""
    bucket, proxy, chaos = endpoint.bucket(), FaultProxy(endpoint.port), Chaos(seed)
    files, size = scaled(FILES), max(20 << 20, scaled(SIZE))
    make = f"mkdir out; for i in $(seq {files}); do echo $i > out/$i; done"
    large = f"head -c {size} /dev/urandom > out/large"
    wait = "touch began; until [ -e go ]; do sleep 0.05; done"
    job = {"job_id": "a", "command": f"{make}; {large}; {wait}", "timeout": "5m"}
    document = world.document({**job, "result_paths": ["out/**"]}, result_s3_bucket=bucket)
    world.env.update(env_for(proxy.url))
    try:
        run = world.start("run", document)
        until(lambda: (world.home / "began").exists(), 120)
        proxy.draw, before = chaos, proxy.taken
        began = time.monotonic()
        (world.home / "go").touch()
        code = run.wait(2 * WITHIN)
        took = time.monotonic() - began
        stored = sum(endpoint.keys(bucket).values())
        ratio = (proxy.taken - before) / stored
        told = f"{files} files and {size >> 20} MiB in {took:.0f} s, {ratio:.2f} of their bytes"
        print(f"{told}; {chaos.requests} requests, {sum(chaos.drawn.values())} faults")
        print(chaos.drawn)
        large = Match(key=r".*/large")
        asked = Counter((r.method, *sorted({"uploads", "uploadId", "partNumber"} & {*r.query}))
                        for r in proxy.seen(large))  # fmt: skip
        print(dict(asked))
        assert code == 0, world.stderr[-3000:]
        check(world.home / "out", endpoint, bucket)
        assert endpoint.open_uploads(bucket) == []
        assert took <= WITHIN and ratio <= SENT, told
        parts = {(r.key, r.query["partNumber"]) for r in proxy.seen(Match(query=("partNumber",)))}
        assert len(parts) == -(-size // (8 << 20))
    finally:
        proxy.close()


def check(folder: Path, endpoint: Endpoint, bucket: str) -> None:
    """Each file is in the bucket, byte for byte."""
    for name in os.listdir(folder):
        with (folder / name).open("rb") as file:
            here = hashlib.file_digest(file, "sha256").hexdigest()
        body = endpoint.client().get_object(Bucket=bucket, Key=f"queues/q/jobs/a/{name}")["Body"]
        there = hashlib.sha256()
        for chunk in body.iter_chunks(1 << 20):
            there.update(chunk)
        assert there.hexdigest() == here, name


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
