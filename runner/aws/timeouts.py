"""Several calls to AWS at once under one patience: what is silent until its end is told, and left.

boto3's limits are of one attempt: three at a server that takes a connection and says nothing are a
minute (connect and read timeouts, each as often as it is tried again).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from runner.aws.errors import AwsError, ErrorKind

PATIENCE = 7.0
"""Seconds for the answers to whoever sits at a terminal and waits."""

SILENT = "NoAnswer"
"""The code of the AwsError."""

T = TypeVar("T")


def together(
    questions: Sequence[Callable[[], T]], patience: float = PATIENCE
) -> list[T | Exception]:
    """What each returned or raised, in their order; AwsError for those silent after ``patience``
    seconds. Their threads end by boto3's own limits, and keep no process from its end."""
    answers: queue.SimpleQueue[tuple[int, T | Exception]] = queue.SimpleQueue()

    def ask(number: int, question: Callable[[], T]) -> None:
        try:
            answers.put((number, question()))
        except Exception as error:
            answers.put((number, error))

    for number, question in enumerate(questions):
        threading.Thread(target=ask, args=(number, question), daemon=True).start()
    silence = AwsError(ErrorKind.PASSING, SILENT, f"no answer within {patience:.0f} s")
    found: list[T | Exception] = [silence] * len(questions)
    deadline = time.monotonic() + patience
    for _ in questions:
        try:
            number, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[number] = answer
    return found


def within(patience: float, question: Callable[[], T]) -> T:
    """One answer. Raises what the question raises, AwsError if it is silent for so many seconds."""
    (answer,) = together([question], patience)
    if isinstance(answer, Exception):
        raise answer
    return answer
