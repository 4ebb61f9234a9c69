"""What `launch` says to people: what it will do, what it has done, and what can be done next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from runner.cli.show.text import counted
from runner.model.document import QueueSpec
from runner.model.durations import format_duration
from runner.results.escape import shown
from runner.targets.ec2.launch.estimate import dollars, price_words
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.launcher import Launched
from runner.targets.ec2.launch.local_launches import Launch
from runner.targets.ec2.launch.plan import Facts, InstanceCandidate, disk_of, drops
from runner.targets.ec2.launch.workdir import mib
from runner.targets.ec2.launch.workdir_files import Choice
from runner.timestamps import rfc3339_seconds

T = TypeVar("T")

MOST_LEFT_OUT = 10
"""Files and folders that are named; of more it is said how many."""

DELAY = "5m0s"
"""The default of the setting `on_complete_delay`."""


def plan_lines(
    queue: QueueSpec,
    store: str,
    wanted: LaunchRequest,
    facts: Facts,
    tried: Sequence[InstanceCandidate],
) -> Iterator[str]:
    """The plan, ``Name: what``, a line each; what is tried in turn has a line for each."""
    first = tried[0]
    yield _line("Queue", f"{queue.queue_id}, {_jobs(queue)}, results in {store}")
    yield _line("Region", f"{facts.region}, zones {', '.join(_once(c.subnet.zone for c in tried))}")
    for name in _once(c.type for c in tried):
        yield _line("Type", f"{name} ({_size(facts, name)})")
    markets = _once(c.market for c in tried)
    yield _line("Market", ", then ".join(markets))
    for market in markets:
        for name in _once(c.type for c in tried):
            some = [c for c in tried if (c.type, c.market) == (name, market)]
            if some:
                words = price_words(facts, some[0], queue)
                yield _line("Price", f"{name} {market}: {words}")
    for image in _once(c.image for c in tried):
        yield _line("Image", f"{image.name} ({image.image_id}, {image.arch})")
    yield _line("Disk", f"{disk_of(wanted, first.image)} GiB, gp3, encrypted")
    yield _line("Role", f"instance profile {facts.profile}")
    yield from _ends(queue, wanted)
    for text in drops(wanted, facts):
        yield _line("Not tried", text)


def workdir_lines(choice: Choice) -> Iterator[str]:
    """What goes along of the work folder and what stays here, as lines of the plan."""
    (largest,) = choice.largest(1)
    told = f"{counted(len(choice.files), 'file')}, {mib(choice.size)} MiB, of {choice.folder}"
    if len(choice.files) > 1:
        told += f"; the largest is {shown(largest)}, {mib(choice.files[largest])} MiB"
    yield _line("Work folder", told)
    if not choice.git:
        yield _line("Careful", "it is in no git repository: all goes along but what is left out")
    # A folder of caches is nothing to look at; a file may be one that a job needs.
    left = sorted(choice.left_out, key=lambda each: each.path.endswith("/"))
    for each in left[:MOST_LEFT_OUT]:
        yield _line("Left out", f"{shown(each.path)}: {each.why}")
    if len(left) > MOST_LEFT_OUT:
        more = len(left) - MOST_LEFT_OUT
        yield _line("Left out", f"{more:,} more; --dry-run --json names all")
    if any(not each.path.endswith("/") for each in left):
        yield _line("Left out", "--include FILE ships one of these files all the same")


def _ends(queue: QueueSpec, wanted: LaunchRequest) -> Iterator[str]:
    yield _line("Ends", _by_itself(wanted))
    why = f" ({wanted.lifetime_why})" if wanted.lifetime_why else ""
    yield _line("At the latest", f"{format_duration(wanted.max_lifetime)} after the launch{why}")
    if wanted.max_lifetime < queue.global_timeout:
        limit = format_duration(queue.global_timeout)
        yield _line("Careful", f"that is shorter than the queue's global_timeout, {limit}")


def _by_itself(wanted: LaunchRequest) -> str:
    if wanted.on_complete == "none":
        return "not when the queue has ended (--on-complete none): it costs until you end it"
    what = "terminates" if wanted.on_complete == "terminate" else "stops (its disk costs on)"
    text = f"{what} {DELAY} after the queue has ended (`runner keep` holds it)"
    if wanted.keep_on_failure is not None:
        text += f", after a failure {format_duration(wanted.keep_on_failure)}"
    return text


def launched_lines(done: Launched) -> Iterator[str]:
    """What is there now, and the next commands."""
    machine, launch = done.machine, done.launch
    market = "spot" if machine.spot else "on-demand"
    yield f"{machine.instance_id} {machine.instance_type} {market} in {machine.zone}: launched"
    yield f"it ends by itself, at {rfc3339_seconds(launch.expires)} at the latest"
    if done.candidate is not None and done.candidate.price is not None:
        most = done.candidate.price * (launch.expires - launch.launched_at) / 3600
        now = " now" if machine.spot else ""
        hour = f"{dollars(done.candidate.price)} an hour{now}"
        yield f"it costs {hour}, {dollars(most)} until then; disk and traffic apart"
    yield "May I close my laptop? Yes: the machine needs it no more."
    yield ""
    yield f"runner-status {machine.instance_id}"
    yield f"runner logs JOB -f --on {machine.instance_id}"
    yield f"runner results {launch.queue_id}"


def untold(launch: Launch, error: Exception) -> str:
    """The least that must be known of a machine, where it can't be told or recorded."""
    return (
        f"{launch.instance_id} in {launch.region} is launched for queue '{launch.queue_id}', and "
        f"that isn't recorded on this computer: {error}\n"
        f"it ends by itself, at {rfc3339_seconds(launch.expires)} at the latest; end it with: "
        f"runner terminate {launch.instance_id} --region {launch.region}\n"
        "the same command again finds it by its tags, and records it"
    )


def _jobs(queue: QueueSpec) -> str:
    return f"{len(queue.jobs):,} jobs" if len(queue.jobs) > 1 else "1 job"


def _line(name: str, what: str) -> str:
    return f"{name + ':':<15}{what}"


def _size(facts: Facts, name: str) -> str:
    kind = facts.types[name]
    gpu = f", {kind.gpu} GPU" if kind.gpu else ""
    return f"{kind.vcpus} vCPU, {kind.memory_mib / 1024:g} GiB{gpu}, {kind.arch}"


def _once(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
