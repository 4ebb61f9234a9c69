"""The machine that had the queue before: seen at its end, before another takes the queue up.

EC2 is asked first: it knows. Only if it can't answer the lease is waited for, which the machine
renews in the result store as long as it works on the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError
from runner.errors import ConflictError
from runner.results.layout import Layout
from runner.results.lease import parse_lease
from runner.results.store import ResultStore
from runner.targets.ec2.end.end_marker import Agreed
from runner.targets.ec2.end.termination import EndWait, NotEndedError, end_all
from runner.targets.ec2.observe.machines import Owned
from runner.targets.ec2.observe.queue_machines import Doubt, Holder

Say = Callable[[str], None]

UNKNOWN = 120.0
"""Seconds that are waited where no lease says how long it is valid: one that is about to be taken
for the first time would be seen."""

LAST_WORDS = 180.0
"""Seconds in which a machine that ends stores what its jobs have saved, and is terminated."""

EVERY = 5.0


def see_ended(
    holders: Sequence[Holder],
    agreed: Mapping[str, Agreed],
    doubts: Sequence[Doubt],
    store: ResultStore,
    say: Say,
    waiting: EndWait | None = None,
) -> None:
    """End them, or wait until none of them can still hold the queue. Blocks, for minutes.

    ``agreed``: what else may end with each, by its id. ``doubts``: those that end with the lease.
    Raises NotEndedError for a machine that EC2 doesn't end, ConflictError for one that was left for
    what is on it, StoreError where nobody can tell.
    """
    waiting = waiting or EndWait()
    alive = [(holder.ec2, holder.owned, agreed[holder.owned.id]) for holder in holders]
    all_ended = end_all(alive, waiting)
    for ended in all_ended:
        for note in ended.notes:
            say(note)
        if ended.error is None and ended.done:
            say(f"{', '.join(ended.done)}: ended")
    failed = [one for one in all_ended if one.error is not None]
    if failed:
        told = [f"{one.owned.id} could not be ended: {one.error}" for one in failed]
        kind = ConflictError if all(one.refused for one in failed) else NotEndedError
        raise kind("\n".join([*told, "nothing was launched"]))
    for ec2, owned, _ in alive:
        _see_terminated(ec2, owned, say, waiting)
    if doubts:
        for doubt in doubts:
            say(doubt.why)
        wait_for_lease(store, say, waiting)


def _see_terminated(ec2: Ec2, owned: Owned, say: Say, waiting: EndWait) -> None:
    """It may be storing what its jobs have saved; whoever begins before that begins without it."""
    if owned.machine is None:
        return
    until, told = waiting.clock() + LAST_WORDS, False
    while waiting.clock() < until:
        try:
            machine = ec2.machine(owned.id)
        except AwsError:
            return  # it was seen to shut down; the rest is a courtesy
        if machine is None or machine.state == "terminated":
            return
        if not told:
            say(f"{owned.id} shuts down, and stores what its jobs have saved …")
            told = True
        waiting.sleep(EVERY)


def wait_for_lease(store: ResultStore, say: Say, waiting: EndWait) -> None:
    """Until nobody has renewed it for as long as it is valid, or it was given back.

    By our own clock from when it was seen: theirs may be wrong. Raises StoreError.
    """
    seen: str | None = None
    due = float("-inf")
    while True:
        found = store.get_versioned(Layout.lease_key)
        held = parse_lease(found)
        if held is not None and held.released:
            return
        version = found.version if found is not None else ""
        if version != seen:
            seen = version
            valid = held.valid_for if held is not None else UNKNOWN
            who = held.who if held is not None else "no machine, as far as the store knows,"
            say(f"{who} holds the queue's lease: waiting {valid:.0f} s for it to run out …")
            due = waiting.clock() + valid
        if waiting.clock() >= due:
            return
        waiting.sleep(min(EVERY, max(0.1, due - waiting.clock())))
