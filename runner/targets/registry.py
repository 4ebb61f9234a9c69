"""The targets, in order, and which of them a request means.

The one place where words and flags become a connection. A new target is a folder with a connection
and a ``QueueTarget``, and one line in ``TARGETS``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Protocol, TypeVar

from runner.errors import NotFoundError, RunnerError, UsageError
from runner.model.messages import quoted
from runner.targets.batch.target import BatchTarget
from runner.targets.ec2.target import Ec2Target
from runner.targets.here.target import HereTarget
from runner.targets.port import AmbiguousError, QueueConnection
from runner.targets.request import TargetRequest

T = TypeVar("T")


class QueueTarget(Protocol):
    """A place where queues are driven. Its module is imported by every verb: it imports the
    connection only in ``connect``."""

    @property
    def name(self) -> str:
        """As in "and on EC2"."""

    def matches(self, request: TargetRequest) -> bool:
        """Whether the flags, the form of the word or what this computer remembers mean this target.
        Where several do, the first does. Nobody is asked for it."""

    def may_have(self, request: TargetRequest) -> bool:
        """Whether a queue that no target matches is to be looked for here. Pure."""

    def connect(self, request: TargetRequest) -> QueueConnection:
        """A connection that has asked nothing yet. Raises UsageError for flags of other targets."""


TARGETS: tuple[QueueTarget, ...] = (HereTarget(), BatchTarget(), Ec2Target())
"""In the order in which a queue that no target matches is looked for."""


def connect(request: TargetRequest) -> QueueConnection:
    """The connection that is meant; nothing has been started.

    A word that matches no target is looked for in one after the other. Raises UsageError, and
    NotFoundError with what each of them said.
    """
    target = _matching(request)
    if target is not None:
        return target.connect(request)
    there, _ = _search(request, lambda connection: connection.locate())
    return there


def ask(request: TargetRequest, question: Callable[[QueueConnection], T]) -> T:
    """The answer of the connection that is meant, which is closed again. Raises as ``connect``."""
    target = _matching(request)
    if target is not None:
        with closing(target.connect(request)) as there:
            return question(there)
    there, answer = _search(request, question)
    there.close()
    return answer


def _matching(request: TargetRequest) -> QueueTarget | None:
    if request.word is not None and request.on is not None:
        raise UsageError(f"give {quoted(request.word)}, or --on: not both")
    return next((target for target in TARGETS if target.matches(request)), None)


def _search(
    request: TargetRequest, question: Callable[[QueueConnection], T]
) -> tuple[QueueConnection, T]:
    """The first target that knows the queue, and its answer."""
    errors: list[tuple[str, RunnerError]] = []
    for target in TARGETS:
        if not target.may_have(request):
            continue
        there = target.connect(request)
        try:
            return there, question(there)
        except RunnerError as error:
            there.close()
            # Whatever a later target says: the queue is not where it was looked for before.
            unknown = bool(errors) or isinstance(error, NotFoundError)
            if isinstance(error, AmbiguousError) or not unknown:
                raise
            errors.append((target.name, error))
        except BaseException:
            there.close()
            raise
    (_, first), *others = errors
    if not others:
        raise first
    told = [f"and on {name}: {error}" for name, error in others]
    raise NotFoundError("\n".join([str(first), *told]))
