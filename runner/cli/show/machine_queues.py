"""What is told before a machine is ended: every queue that is on it, or waits for it.

A queue that isn't finished ends only where it, or its machine, was named, or with ``--end-others``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.errors import ConflictError

if TYPE_CHECKING:
    from runner.targets.ec2.observe.machine_queues import MachineQueues
    from runner.targets.ec2.queue_ref import QueueRef

FLAG = "--end-others"


def add_flag(parser: argparse.ArgumentParser) -> None:
    """For what may end queues that nobody named."""
    parser.add_argument(
        FLAG,
        action="store_true",
        help="even if other queues on the machine have not ended",
    )


def describe(found: MachineQueues) -> list[str]:
    """Its queues and their states, a line each; then what may hide more."""
    lines = [f"  {queue}" for queue in found.queues] or ["  no queue of it is known"]
    return [*lines, *(f"  {doubt}" for doubt in found.doubts)]


def check(found: Sequence[MachineQueues], named: Sequence[QueueRef], *, others: bool) -> None:
    """See that nothing unfinished ends that isn't in ``named``, but with the flag.

    Raises ConflictError.
    """
    lines = [
        f"{one.owned.id} has queue '{queue.queue.queue_id}' too{_where(queue.queue, named)}, "
        "which is not finished "
        f"({queue.status or 'state unknown'})"
        for one in found
        for queue in one.unfinished_but(named)
    ]
    if lines and not others:
        raise ConflictError("\n".join([*lines, f"nothing was ended; {FLAG} ends it all the same"]))


def _where(queue: QueueRef, named: Sequence[QueueRef]) -> str:
    """Of a queue that has a named one's id, in another store."""
    same = any(one.queue_id == queue.queue_id for one in named)
    return f" (of {queue.store})" if same else ""
