"""A queue of the kill matrix whose results go to a bucket, and what must be true of that.

The bucket is copied into the folder where ``kill_proof`` looks for results: what holds there holds
of what is stored.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kill_proof import Expected, check, stored, verdict
from kill_queues import Document, job, made, queue, retry
from kill_support import Build, World
from s3_endpoint import Endpoint

LIVE_LOGS = "150ms"
"""Between two looks at what jobs have written: parts of logs are always under way."""

_TALKS = "for n in 1 2 3 4 5 6; do echo line $n; work 0.07; done"

_MANY = 'mkdir -p "$PROOF/out/many"'

_SERVES = 'trap "echo served; exit" TERM; while :; do sleep 0.05; done'
"""In the background until the queue ends; it has the last word."""


def uploading(proof: Path) -> Document:
    """Three at a time; a large result, many small ones, one of a retry, one that is waited for."""
    jobs = [
        job("large", 'mkdir -p "$PROOF/out"; seq 1 3000000 | head -c 20000000 > "$PROOF/out/large"',
            result_paths=[str(proof / "out" / "large")]),
        job("many", f"{_MANY}; {_TALKS}; for n in {{1..24}}; do make many/$n; done",
            result_paths=[str(proof / "out" / "many" / "*")]),
        job("flaky", f"{_TALKS}; make flaky.txt; fail_first 2 3", retry=retry(3),
            result_paths=made("flaky", proof)),
        job("join", "make join.txt", "many", "flaky", result_paths=made("join", proof)),
        job("fails", f"{_TALKS}; end 3", "large", result_paths=made("fails", proof)),
        job("last", f"{_TALKS}", "join", "fails", run_if="always"),
    ]  # fmt: skip
    return queue("uploading", jobs, proof, max_parallel_jobs=3)


def uploading_chain(proof: Path) -> Document:
    """One after the other, each waits until the one before is stored; one leaves a server."""
    jobs = [
        job("server", f"({_SERVES}) &", keep_background=True),
        job("a", "make a.txt", result_paths=made("a", proof)),
        job("b", f"{_TALKS}; make b.txt", "a", result_paths=made("b", proof)),
        job("c", "fail_first 1 3; make c.txt", "b", retry=retry(2),
            result_paths=made("c", proof)),
        job("d", "seq 1 2000; make d.txt", "c", result_paths=made("d", proof)),
    ]  # fmt: skip
    return queue("chained", jobs, proof)


@dataclass
class S3World(World):
    """A world whose document names a bucket of its own. ``settings``: variables; "" for none."""

    endpoint: Endpoint | None = None
    bucket: str = ""
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        assert self.endpoint is not None
        ours = {"RUNNER_LIVE_LOG_INTERVAL": LIVE_LOGS}
        told = super().environment | self.endpoint.env | ours | self.settings
        return {name: value for name, value in told.items() if value}

    def run_words(self, *flags: str) -> list[str]:
        return ["run", str(self.path), *flags]

    def job_states(self) -> dict[str, dict[str, Any]]:
        """Every job's part of queue-state.json."""
        return {job["job_id"]: job for job in self.projection()["jobs"]}

    def key(self, name: str) -> str:
        """The whole key of what a queue calls ``name``."""
        return f"queues/{self.queue_id}/{name}"

    def in_s3(self, name: str) -> bytes:
        """What the bucket holds under that name."""
        assert self.endpoint is not None
        return self.endpoint.read(self.bucket, self.key(name))

    def said_by_runner(self) -> str:
        """What the commands have printed so far."""
        return (self.root / "output").read_text()

    def copy_bucket(self) -> None:
        """Copy all that is in the bucket to ``results``; nothing may be beside the queue's."""
        assert self.endpoint is not None
        prefix = f"queues/{self.queue_id}/"
        keys = self.endpoint.keys(self.bucket)
        own = {f"{prefix}queue.json", f"{prefix}queue-state.json"}
        below = (f"{prefix}jobs/", f"{prefix}events/")
        strays = [key for key in keys if not key.startswith(below) and key not in own]
        assert not strays, strays
        assert not self.endpoint.open_uploads(self.bucket)

        def copy(key: str) -> None:
            assert self.endpoint is not None
            path = self.results / key.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.endpoint.read(self.bucket, key))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(copy, keys))


@contextmanager
def s3_world(
    root: Path, build: Build, endpoint: Endpoint, settings: dict[str, str] | None = None
) -> Iterator[S3World]:
    """A world with a bucket; whatever happens, no process of it is left running."""
    bucket = endpoint.bucket()
    root.mkdir(exist_ok=True)
    made = S3World(
        root, lambda proof: {**build(proof), "result_s3_bucket": bucket},
        endpoint=endpoint, bucket=bucket, settings=settings or {},
    )  # fmt: skip
    try:
        yield made
    finally:
        made.close()


def expected_in_s3(world: S3World) -> Expected:
    """What an undisturbed run comes to and stores."""
    code = world.run()
    world.copy_bucket()
    told = Expected(verdict(world), stored(world), code)
    check(world, told)
    return told


def check_in_s3(world: S3World, wanted: Expected) -> None:
    """All that ``kill_proof`` wants, of what is in the bucket; and it can be fetched."""
    world.copy_bucket()
    check(world, wanted)
    parts = sorted(path for path in (world.results / "events").rglob("*") if path.is_file())
    lines = [json.loads(line) for part in parts for line in part.read_bytes().splitlines()]
    here = sqlite3.connect(f"file:{world.queue_dir}/state.db?mode=ro", uri=True)
    (last,) = here.execute("SELECT max(seq) FROM events").fetchone()
    here.close()
    assert {line["seq"] for line in lines} == set(range(1, last + 1)), "the story is whole"
    output = world.root / "got"
    code = world.start("results", world.queue_id, "--output", str(output)).wait(30)
    assert code == 0, (world.root / "output").read_text()
    for key, content in wanted.stored.items():
        assert (output / key.removeprefix("jobs/")).read_bytes() == content, key
