"""Many queues, a few at a time, each killed again and again, until there were enough kills."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from kill_support import Build
from scale import SEED

AT_ONCE = 4

Story = Callable[[int, Build, random.Random], int]
"""A queue's number, what builds it, and the dice of its instants; returns how many kills it had."""


def tell(queues: Sequence[Build], kills: int, each: int, story: Story) -> None:
    """Tell the story of one queue after another. ``each``: kills of one, as a rule."""
    numbers = iter(range(10_000))
    done: list[int] = []
    begun: list[int] = []
    failed = threading.Event()

    def work() -> None:
        while sum(done) + each * (len(begun) - len(done)) < kills and not failed.is_set():
            begun.append(number := next(numbers))
            build = queues[number % len(queues)]
            try:
                done.append(story(number, build, random.Random(f"{SEED}-{number}")))
            except BaseException as error:
                failed.set()
                error.add_note(f"{build.__name__} {number}, SEED={SEED}")
                raise

    # Who leaves while others are under way counts on what they do as a rule: look once more.
    while sum(done) < kills and not failed.is_set():
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for worker in [pool.submit(work) for _ in range(AT_ONCE)]:
                worker.result()
    print(f"{sum(done)} kills in {len(done)} queues, SEED={SEED}")
