"""What comes between an attempt's intent and its shim: former results out of its way, its secrets.

Owns the order of the two. Until both are done nothing of the attempt is on record but its intent,
so that whatever cuts them off costs no attempt.
"""

from __future__ import annotations

from collections.abc import Callable

from runner.core import events as ev
from runner.core.actions import StartAttempt
from runner.core.scheduler import Scheduler
from runner.engine.context import EngineContext
from runner.engine.result_clearing import ResultClearing
from runner.engine.secret_fetches import Delayed, Fetched, Ready, SecretFetches, SecretRefused

AGAIN_AFTER = 5.0
"""Seconds after which a start that the system refused (no memory, no room) is tried again."""

_NONE = Ready({})


class StartPreparation:
    """Of one session; ``then`` is told of each attempt once, unless it is called off before."""

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        post: Callable[[ev.Event], None],
        then: Callable[[StartAttempt, Fetched], None],
    ) -> None:
        self._scheduler = scheduler
        self._then = then
        self._clearing = ResultClearing(context, scheduler, post, self._on_cleared)
        self._secrets = SecretFetches(context.environment, then)

    def begin(self, action: StartAttempt) -> None:
        """Have an attempt made ready: at once, where nothing is to be done for it."""
        if not self._clearing.begin(action):
            self._find_secrets(action)

    def _on_cleared(self, action: StartAttempt, error: Exception | None) -> None:
        if error is None and self._scheduler.may_start:
            self._find_secrets(action)
        elif error is None:
            # Paused, or the machine is about to go: it had not begun, and doesn't now.
            self._then(action, Delayed("nothing may start any more", 0.0))
        elif isinstance(error, OSError) and not isinstance(error, PermissionError):
            self._then(action, Delayed(f"could not be started: {error}", AGAIN_AFTER))
        else:
            self._then(action, SecretRefused(f"former results can't be moved aside: {error}"))

    def _find_secrets(self, action: StartAttempt) -> None:
        document = self._scheduler.document
        if secrets := document.secrets(document.jobs[action.job]):
            self._secrets.begin(action, secrets)
        else:
            self._then(action, _NONE)

    def call_off(self, token: str) -> bool:
        """Nobody wants the attempt any more; False if nothing was under way for it."""
        return self._clearing.call_off(token) or self._secrets.call_off(token)

    def stop(self) -> None:
        """Begin nothing more, and end what is under way."""
        self._clearing.stop()
        self._secrets.close()

    def join(self) -> None:
        """Wait until no file is moved any more. Blocks; after ``stop``."""
        self._clearing.join()
