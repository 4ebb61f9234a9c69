"""How a verb reaches a queue, wherever the queue is driven.

Owns the protocol ``QueueConnection``, what a target says about its connections as data
(``TargetTraits``), and the errors that every target raises in the same way. It knows no target:
each is a folder beside this file, and ``registry`` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runner.errors import ExitCode, RunnerError, UsageError

HOLD_SECONDS = 20.0
"""How long one ``wait``, or one ``logs`` with ``follow``, is held at most before it is answered."""

Answer = dict[str, Any]
"""A JSON object. Its required fields and their types, by request, are in ``control/answers``."""

Say = Callable[[str], None]
"""Told a line for people, without line breaks."""


class AmbiguousError(UsageError):
    """A word names queues of several result stores; the message lists them."""


class NoResultsError(RunnerError):
    """The queue is known, but where its results are stored is not, or they are stored nowhere."""

    exit_code = ExitCode.NOT_FOUND


@dataclass(frozen=True, slots=True)
class TargetTraits:
    """What holds for every connection to a target.

    ``name`` as in "and on EC2". ``elsewhere``: another computer drives the queue, so it goes on
    when this one is switched off, and its jobs don't see this computer's files.
    ``returns_within``: seconds that a process which has worked on the queue has to come back, or
    to be replaced, before a verb that waits gives up. ``log_tail``: bytes of a log that are
    fetched, counted from its end, where the user gives no limit; None for all. ``stored_copy``: a
    copy of the state is kept where it can be read sooner than the process that drives the queue
    answers (``QueueConnection.stored_status``). ``sources`` names what is asked, for people.
    """

    name: str
    elsewhere: bool
    returns_within: float
    log_tail: int | None
    stored_copy: bool
    sources: str


@dataclass(frozen=True, slots=True)
class StoredResults:
    """Where a queue's results are: ``s3://bucket/prefix`` or a folder's path, and of which run.

    ``run_id`` None: of the run that is stored there.
    """

    store: str
    run_id: str | None


@dataclass(frozen=True, slots=True)
class Stopped:
    """What came of a stop: a line for people, and the same as data."""

    told: str
    data: Mapping[str, Any]


class QueueConnection(Protocol):
    """A connection to one queue, or to the current queue of a machine.

    It is lazy: nothing is asked before a method needs it. All methods block. ``query`` and
    ``stored_status`` may be called from two threads at once. Every method raises RunnerError: a
    NotFoundError for an unknown queue, job, attempt or log, and an UnreachableError where no
    process answers that is needed, both with the same meaning for every target.
    """

    @property
    def traits(self) -> TargetTraits:
        """What holds for every connection to this target."""

    @property
    def word(self) -> str:
        """The word by which the user named the queue or its machine; "" for the current queue."""

    @property
    def live(self) -> bool:
        """Whether a process that works on queues answers there, as far as is known."""

    @property
    def holds_requests(self) -> bool:
        """Whether ``wait``, and ``logs`` with ``follow``, return only when there is news or their
        time is over. If not, the caller has to let time pass between two requests."""

    @property
    def diagnosis(self) -> list[str]:
        """Why no process answers there: a line with the reason, then lines with what to do. Empty
        while one answers, and where there is nothing to add."""

    def wait_through_boot(self, say: Say) -> None:
        """From now on a query waits for a machine that boots, and follows the queue to a machine
        that replaces it. ``say`` is told how that goes. A query raises LaunchFailedError for a boot
        that has failed."""

    def locate(self) -> None:
        """See that the target has the queue. Raises NotFoundError if it hasn't."""

    def query(self, request: str, /, **fields: Any) -> Answer:
        """The answer to a request that changes nothing: ``queues``, ``status``, ``job``, ``logs``
        or ``wait``. Where no process answers, it is read from what is stored.

        - ``queues``: ``{"queues": [{"queue_id", "status", …}, …]}``.
        - ``status`` (``after``: a number of a job, ``limit``: jobs at most, 0 for none, ``status``:
          a list of states, ``brief``: a table's fields will do): ``{"queue": {…}, "jobs": [{…}, …],
          "after": N}``; ``after`` is there where more jobs follow. ``queue`` tells by ``worker``
          which process works on it, by ``queued`` what it waits for; from elsewhere it also has
          ``source`` and ``instance``.
        - ``job`` (``job``): ``{"job": {…}, "story": [{"wall", "event", …}, …]}``.
        - ``logs`` (``job``, ``attempt``, ``offsets``: where to begin by stream, in bytes, negative
          from the end, ``lines``, ``since``: seconds since the epoch, ``to_come``, ``follow``:
          seconds to be held): ``{"job", "attempt", "newest", "status", "ended", "attended",
          "running", "streams": {"stdout": {"data": base64, "offset", "size"}, …}}``; ``offset`` is
          where the piece ends.
        - ``wait`` (``timeout``: seconds): as ``status`` with ``limit=0``, once the queue has ended,
          no process works on it any more, or the time is over.

        Times are RFC 3339 in UTC, durations seconds. Raises UnreachableError if nothing can be
        told.
        """

    def stored_status(self, states: Sequence[str] | None) -> Answer | None:
        """What the stored copy of the state tells, as ``status`` does, with the jobs in
        ``states``; None where there is none, or it can't be read now. Asks no process."""

    def status_despite(self, error: RunnerError) -> Answer:
        """The last answer to ``status`` again, if ``error`` tells nothing about the queue because
        the target's own API was away for a while. Raises ``error`` in all other cases."""

    def act(self, request: str, /, **fields: Any) -> Answer:
        """The answer to ``cancel``, ``retry``, ``pause``, ``unpause``, ``upload``, ``close``,
        ``stop`` or ``keep``; it comes when the change is durable. For a queue: ``{"queue": {…}}``,
        as in ``status``.

        Raises UsageError for a refused request, and UnreachableError if no answer came: the message
        says so where the request may have been carried out all the same.
        """

    def submit(self, text: str, again: str, batch: Mapping[str, str] | None = None) -> Answer:
        """Hand over a document, as JSON, once it has been validated. ``again``: what becomes of a
        queue that exists (``core/again``); ``batch``: its jobs run on AWS Batch, see
        ``BatchRequest``. The answer has ``queue_id``, ``created`` and ``status``;
        it comes when the queue is durable. Raises UnreachableError."""

    def keep(self, seconds: float | None, *, release: bool) -> Answer:
        """Hold the machine for ``seconds`` from now on (None: until it is released), or release it.
        The answer's ``machine`` tells what becomes of it, or is None."""

    def stop(self, *, detach: bool, say: Say) -> Stopped:
        """Stop the process that works on queues there; its jobs are interrupted, or with ``detach``
        left running. ``say`` is told what is waited for. Raises UnreachableError if none runs."""

    def results(self) -> StoredResults:
        """Where the queue's results are. Raises NoResultsError if they are stored nowhere."""

    def reconnect(self) -> None:
        """Look again for a process that answers. May block for a few seconds."""

    def close(self) -> None:
        """Give the connection back. The queue goes on."""
