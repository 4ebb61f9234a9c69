"""What `launch` says to people: what it will do, what it has done, and what can be done next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from runner.model.document import Queue
from runner.model.durations import format_duration
from runner.targets.ec2.launch import Launched
from runner.targets.ec2.plan import Candidate, Facts, drops
from runner.targets.ec2.request import rfc3339
from runner.targets.ec2.sums import price_words
from runner.targets.ec2.wish import Wish

T = TypeVar("T")

_ENDS = {
    "terminate": "it terminates",
    "stop": "it stops (its disk is kept, and costs)",
    "none": "it stays",
}


def plan_lines(
    queue: Queue, store: str, wish: Wish, facts: Facts, tried: Sequence[Candidate]
) -> Iterator[str]:
    """The plan, ``Name: what``, a line each; what is tried in turn has a line for each."""
    first = tried[0]
    yield _line("Queue", f"{queue.queue_id}, {len(queue.jobs)} jobs, results in {store}")
    yield _line("Region", f"{facts.region}, zones {', '.join(_once(c.subnet.zone for c in tried))}")
    for name in _once(c.type for c in tried):
        yield _line("Type", f"{name} ({_size(facts, name)})")
    for market in _once(c.market for c in tried):
        for name in _once(c.type for c in tried):
            some = [c for c in tried if (c.type, c.market) == (name, market)]
            if some:
                words = price_words(facts, some[0], queue)
                yield _line("Price", f"{name} {market}: {words} (without disk and traffic)")
    for image in _once(c.image for c in tried):
        yield _line("Image", f"{image.name} ({image.image_id}, {image.arch}, {image.source})")
    yield _line("Disk", f"{max(wish.disk, first.image.size)} GiB, gp3, encrypted")
    yield _line("Role", f"instance profile {facts.profile}")
    yield from _ends(queue, wish)
    for text in drops(wish, facts):
        yield _line("Not tried", text)


def _ends(queue: Queue, wish: Wish) -> Iterator[str]:
    failed = "a failure or success"
    if wish.keep_on_failure is not None:
        failed = f"success, {format_duration(wish.keep_on_failure)} after a failure"
    yield _line("Ends", f"{_ENDS[wish.on_complete]} 5m0s after {failed} (`runner keep` holds it)")
    why = f" ({wish.lifetime_why})" if wish.lifetime_why else ""
    yield _line("At the latest", f"{format_duration(wish.max_lifetime)} after the launch{why}")
    if wish.max_lifetime < queue.global_timeout:
        limit = format_duration(queue.global_timeout)
        yield _line("Careful", f"that is shorter than the queue's global_timeout, {limit}")


def launched_lines(done: Launched, queue_id: str) -> Iterator[str]:
    """What is there now, and the next commands."""
    machine, launch = done.machine, done.launch
    market = "spot" if machine.spot else "on-demand"
    yield f"{machine.instance_id} {machine.instance_type} {market} in {machine.zone}: launched"
    yield f"it ends by itself, at {rfc3339(launch.expires)} at the latest"
    yield "May I close my laptop? Yes: the machine needs it no more."
    yield ""
    yield f"runner-status {machine.instance_id}"
    yield f"runner logs JOB -f --on {machine.instance_id}"
    yield f"runner results {queue_id}"


def _line(name: str, what: str) -> str:
    return f"{name + ':':<15}{what}"


def _size(facts: Facts, name: str) -> str:
    kind = facts.types[name]
    gpu = f", {kind.gpu} GPU" if kind.gpu else ""
    return f"{kind.vcpus} vCPU, {kind.memory_mib / 1024:g} GiB{gpu}, {kind.arch}"


def _once(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
