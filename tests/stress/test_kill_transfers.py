"""`upload` and `results` are SIGKILLed at random instants, and called again: the same outcome."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3_endpoint import Endpoint, env_for
from s3_faults import PART, FaultProxy, Match, Slow
from world import World

KILLS = 40
"""Random instants for each of the two."""

SIZE = 40_000_000
RATE = 30e6
"""Bytes of the large file, and a second: all of it takes longer than one life does."""

AWAY = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "RUNNER_UPLOAD_TIMEOUT": "200ms"}

FILES = 60


@pytest.fixture
def proxy(endpoint: Endpoint) -> Iterator[FaultProxy]:
    proxy = FaultProxy(endpoint.port)
    yield proxy
    proxy.close()


def document(world: World, bucket: str) -> str:
    make = f"mkdir out; for i in $(seq {FILES}); do echo $i > out/$i; done"
    command = f"{make}; head -c {SIZE} /dev/urandom > out/large; echo said"
    job = {"job_id": "a", "command": command, "timeout": "5m", "result_paths": ["out/**"]}
    return world.document(job, result_s3_bucket=bucket)


def killed_at_random(world: World, dice: random.Random, most: float, *words: str) -> bool:
    """Whether it was killed before its end; else it must have ended well."""
    process = world.start(*words)
    deadline = time.monotonic() + dice.uniform(0.3, most)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)  # reason: the random instant is what is tried
    if process.poll() is not None:
        assert process.returncode == 0, world.stderr[-2000:]
        return False
    process.kill()
    process.wait()
    return True


def test_upload_killed_and_called_again(
    world: World,
    endpoint: Endpoint,
    proxy: FaultProxy,
    scaled: Callable[[int], int],
    seed: int,
) -> None:
    """A killed `runner upload` would lose or double results, send them again, or leave parts."""
    dice, kills, rounds = random.Random(seed), scaled(KILLS), 0
    proxy.fail(PART, Slow(RATE), times=1_000_000)
    while kills > 0:
        bucket, began = endpoint.bucket(), len(proxy.requests)
        fresh = ["--fresh"] if rounds else []
        world.env.update(env_for(proxy.url))
        for name in (world.home / "out").glob("*"):
            name.unlink()
        if rounds:
            (world.home / "out").rmdir()
        done = world.call("run", document(world, bucket), *fresh, env=AWAY)
        assert done.returncode == 105, done
        while kills > 0 and killed_at_random(world, dice, 4.0, "upload"):
            kills -= 1
        assert world.call("upload").returncode == 0
        check(world, endpoint, bucket, world.home / "out")
        sent = [r for r in proxy.requests[began:] if PART(r)]
        told = f"{len(sent)} parts sent of {-(-SIZE // (8 << 20))}"
        rounds += 1
        print(f"round {rounds}: {told}; {kills} kills left")
    assert not list((world.state / "queues/q/uploads").glob("*")), "a record is left"


def check(world: World, endpoint: Endpoint, bucket: str, here: Path) -> None:
    """All of it is stored, whole, and nothing else."""
    keys = set(endpoint.keys(bucket, "queues/q/jobs/"))
    names = {f"queues/q/jobs/a/{name}" for name in os.listdir(here)}
    own = {f"queues/q/jobs/a/{name}" for name in ("stdout.log", "stderr.log", "manifest.json")}
    assert keys == names | own
    for name in os.listdir(here):
        stored = endpoint.read(bucket, f"queues/q/jobs/a/{name}")
        assert stored == (here / name).read_bytes(), name
    assert endpoint.open_uploads(bucket) == []
    assert world.jobs()["a"]["results_uploaded"] is True


def test_results_killed_and_called_again(
    world: World,
    endpoint: Endpoint,
    proxy: FaultProxy,
    scaled: Callable[[int], int],
    seed: int,
) -> None:
    """A killed `runner results` would leave half a file that counts, or begin anew each time."""
    bucket, dice, kills = endpoint.bucket(), random.Random(seed), scaled(KILLS)
    world.env.update(env_for(proxy.url))
    assert world.call("run", document(world, bucket)).returncode == 0
    where, round_ = f"s3://{bucket}/queues/q", 0
    while kills > 0:
        round_ += 1
        output = world.home / f"got-{round_}"
        fetched = len(proxy.seen(Match("GET", key=r".*/jobs/a/\d+")))
        words = ("results", where, "--output", str(output))
        while kills > 0 and killed_at_random(world, dice, 2.5, *words):
            kills -= 1
            for path in output.rglob("*"):
                if path.is_file() and not path.name.startswith(".runner-tmp-"):
                    same(path, world.home / "out" / path.name)
        assert world.call(*words).returncode == 0
        got = {path.name for path in (output / "a").iterdir()}
        assert got == {*os.listdir(world.home / "out"), "stdout.log", "stderr.log"}
        for path in (output / "a").iterdir():
            same(path, world.home / "out" / path.name)
        asked = len(proxy.seen(Match("GET", key=r".*/jobs/a/\d+"))) - fetched
        print(f"round {round_}: {asked} fetches of {FILES} small files; {kills} kills left")


def same(path: Path, made: Path) -> None:
    """A file in place is as the job made it."""
    if made.exists():
        assert path.read_bytes() == made.read_bytes(), path
