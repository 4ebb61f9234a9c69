"""What a verb's flags say about where a queue is: the input of the registry."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError
from runner.model.messages import quoted

if TYPE_CHECKING:
    from runner.model.settings import Settings

_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
"""A queue_id, or the name of a queue that ``--fresh`` has set aside."""


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """The words and flags that choose a target. None: not given.

    ``word``: a verb's first argument, a queue or a machine. ``target``: the kind of place that
    ``--target`` names. ``on``: the machine, or the queue whose
    machine it is, as ``--on`` has it. ``settings`` loads this machine's settings; it is called by
    the target of this machine only. ``say`` is told notes for people.
    """

    settings: Callable[[], Settings]
    say: Callable[[str], None]
    word: str | None = None
    on: str | None = None
    queue: str | None = None
    region: str | None = None
    bucket: str | None = None
    target: str | None = None
    state_dir: str | None = None
    log_dir: str | None = None

    @property
    def names_store(self) -> bool:
        """Whether the word, or ``on``, is the address of a result store."""
        words = (self.word, self.on)
        return any(word is not None and word.lower().startswith("s3://") for word in words)


def checked_queue(name: Any, where: str) -> str | None:
    """A name that a queue may have, or None. Raises UsageError that says where it was given."""
    if name is None:
        return None
    if not isinstance(name, str) or not _QUEUE.fullmatch(name):
        raise UsageError(f"{where}: {quoted(str(name))} can't be the id of a queue")
    return name
