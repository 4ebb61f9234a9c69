"""What a job needs where it runs, and how it is put there: records of a document's rarer fields.

Most documents use none of them: all their jobs share one empty ``Placement``, so that a job costs
the same with and without these fields. Every record can be a key, so that equal ones are shared.
They are named tuples: to make a dataclass takes a millisecond, and every verb would start later.
"""

from __future__ import annotations

from typing import NamedTuple

IMAGE_PULLS = ("missing", "always", "never")

STAGINGS = ("containers", "in-image", "none")
"""Who carries a job's files on AWS Batch: containers beside it, its own image, nobody."""

SHELL = ("/bin/bash", "-c")
"""What a command is given to, where a document says nothing."""

STRICT = "strict"
STRICT_SHELL = ("/bin/bash", "-euo", "pipefail", "-c")
"""What it is given to where it says ``strict``: the first failure ends it, also one in a pipe."""


class ResourceSpec(NamedTuple):
    """What one attempt needs of a machine.

    ``memory``: bytes by attempt, the last one for all later ones; () says nothing. ``gpus`` None:
    the devices are left as they are, 0: they are hidden. ``pools``: sorted names and amounts.
    """

    cpus: float = 1.0
    memory: tuple[int, ...] = ()
    gpus: int | None = None
    pools: tuple[tuple[str, int], ...] = ()

    def memory_of(self, attempt: int) -> int | None:
        """Bytes for the n-th attempt, from 1; None: the document says nothing."""
        return self.memory[min(attempt, len(self.memory)) - 1] if self.memory else None


class BatchSpec(NamedTuple):
    """What concerns AWS Batch only. ``shm`` and ``ephemeral_storage`` are in bytes.

    ``tags``: sorted names and values. ``share``: the share identifier of a fair-share queue;
    ``priority``: within it; ``queue``: the job queue, instead of the whole document's. ``staging``:
    one of ``STAGINGS``; None: the first.
    """

    share: str | None = None
    priority: int | None = None
    tags: tuple[tuple[str, str], ...] = ()
    shm: int | None = None
    ephemeral_storage: int | None = None
    queue: str | None = None
    staging: str | None = None


class Placement(NamedTuple):
    """Where and in what a command runs. None: nothing is said, and the queue's holds.

    ``image`` "": in none, though the queue names one. ``mounts`` are as the document has them.
    """

    resources: ResourceSpec | None = None
    image: str | None = None
    mounts: tuple[str, ...] | None = None
    image_options: tuple[str, ...] | None = None
    image_pull: str | None = None
    shell: tuple[str, ...] | None = None
    batch: BatchSpec | None = None

    def over(self, queues: Placement) -> Placement:
        """The same, with what it says nothing of taken from the queue's."""
        if self is NO_PLACEMENT or self == queues:
            return queues
        return Placement(
            *(
                mine if mine is not None else theirs
                for mine, theirs in (
                    (self.resources, queues.resources),
                    (self.image, queues.image),
                    (self.mounts, queues.mounts),
                    (self.image_options, queues.image_options),
                    (self.image_pull, queues.image_pull),
                    (self.shell, queues.shell),
                    (self.batch, queues.batch),
                )
            )  # type: ignore[arg-type]
        )


NO_PLACEMENT = Placement()
"""Of a job or queue that says nothing; shared by all of them."""


class ArraySpec(NamedTuple):
    """A job of ``size`` elements. ``parallel``: how many may run at once, None: as many as fit.

    ``stop``: after an element has failed for good no other starts. ``elementwise``, sorted: the
    dependencies that are waited for element by element (`x[]`); ``depends_on`` has them without [].
    """

    size: int
    parallel: int | None = None
    stop: bool = False
    elementwise: tuple[str, ...] = ()
