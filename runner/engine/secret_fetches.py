"""Secrets on their way to an attempt that is about to start.

Owns which are under way, how long they may hold their place, and when they are tried again. Their
values are nowhere but in this process's memory, from the answer until they are handed to a shim.

Why after the attempt's intent is durable, and not before it as inputs are: a value is to be as
young as its attempt, and the order of starts is to stay the document's. So a job keeps the place it
was given as long as one try takes. An intent without a claim costs nothing to take back: a try that
fails for now, a signal, a pause and a dead daemon all end as a start that never was (``voided``),
which costs no attempt number, and after a wait with its reason the next one asks anew.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from runner.aws.clients import configured_region
from runner.aws.errors import ErrorKind
from runner.aws.secrets import SecretError, Secrets
from runner.core.actions import StartAttempt
from runner.core.attempts import FETCHING_SECRETS
from runner.engine.backoff import backoff
from runner.host.metadata import InstanceMetadata

THREADS = 16

PATIENCE = 15.0
"""Seconds that a try may take: credentials of an assumed role may themselves have to be fetched."""

APART = 0.1
"""Seconds from one try to the next when thousands of jobs lack their secrets: each is a commit."""

CREDENTIAL_TRIES = 5
"""A metadata service that is busy looks the same as none: so often it is asked for credentials, and
for the region."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Here they are."""

    values: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delayed:
    """They can't be had now, so not for so many seconds."""

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SecretRefused:
    """They never can, as things stand."""

    message: str


Fetched = Ready | Delayed | SecretRefused


@dataclass(slots=True)
class _Fetch:
    work: asyncio.Future[Ready]
    timer: asyncio.TimerHandle


class SecretFetches:
    """``environment``: the base of the jobs' own; ``then`` is told of each attempt once."""

    def __init__(
        self, environment: Mapping[str, str], then: Callable[[StartAttempt, Fetched], None]
    ) -> None:
        self._then = then
        self._secrets = Secrets(lambda: find_region(environment))
        self._loop = asyncio.get_running_loop()
        self._call_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="secrets")
        self._under_way: dict[str, _Fetch] = {}
        self._tries: dict[int, int] = {}

    def begin(self, action: StartAttempt, wanted: Mapping[str, str]) -> None:
        """Ask for the values of variables, by their references."""
        work = self._loop.run_in_executor(self._call_threads, self._read, wanted)
        timer = self._loop.call_later(PATIENCE, self._too_long, action)
        self._under_way[action.token] = _Fetch(work, timer)
        work.add_done_callback(lambda done: self._ended(action, done))

    def _read(self, wanted: Mapping[str, str]) -> Ready:
        """In a thread. Values go from hand to hand in what shows none in its repr."""
        return Ready(self._secrets.read(wanted))

    def call_off(self, token: str) -> bool:
        """Nobody wants them any more; False if they were not under way."""
        fetch = self._under_way.pop(token, None)
        if fetch is None:
            return False
        fetch.timer.cancel()
        fetch.work.cancel()
        return True

    def _too_long(self, action: StartAttempt) -> None:
        if self.call_off(action.token):
            self._then(action, self._delayed(action.job, f"no answer for {PATIENCE:.0f}s"))

    def _ended(self, action: StartAttempt, done: asyncio.Future[Ready]) -> None:
        if done.cancelled() or not self.call_off(action.token):
            return
        self._then(action, self._judged(action.job, done))

    def _judged(self, job: int, done: asyncio.Future[Ready]) -> Fetched:
        error = done.exception()
        if error is None:
            self._tries.pop(job, None)
            return done.result()
        if not isinstance(error, SecretError):
            # A bug; its words may hold a value.
            return SecretRefused(f"secrets: an error of runner's own: {type(error).__name__}")
        absent = error.kind is ErrorKind.NO_CREDENTIALS
        if error.passing or (absent and self._tries.get(job, 0) + 1 < CREDENTIAL_TRIES):
            return self._delayed(job, str(error))
        self._tries.pop(job, None)
        return SecretRefused(f"secret {error}")

    def _delayed(self, job: int, why: str) -> Delayed:
        tries = self._tries[job] = self._tries.get(job, 0) + 1
        seconds = max(backoff(tries), APART * len(self._tries))
        return Delayed(f"{FETCHING_SECRETS}: {why}", seconds)

    def close(self) -> None:
        """Ask for nothing more. A call under way ends by itself, and nobody hears of it."""
        for token in list(self._under_way):
            self.call_off(token)
        self._call_threads.shutdown(wait=False, cancel_futures=True)


def find_region(environment: Mapping[str, str]) -> str | None:
    """The region as jobs are told it, else of our own settings, else where the machine is."""
    told = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    return told or configured_region() or InstanceMetadata.from_environment(os.environ).region()
