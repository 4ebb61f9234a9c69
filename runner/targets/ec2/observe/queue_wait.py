"""Waiting for the end of a queue elsewhere, cheaply, through whatever happens to AWS meanwhile.

Owns how often is asked: S3 every five seconds (no body while nothing is new), EC2 every minute, SSM
every five minutes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runner.aws.errors import AwsError, ErrorKind
from runner.errors import RunnerError
from runner.targets.ec2.observe import reachability
from runner.targets.ec2.observe.reachability import AwsAway

if TYPE_CHECKING:
    from runner.targets.ec2.connection import Ec2Connection
    from runner.targets.stored_status import Seen

Answer = dict[str, Any]

S3_EVERY = 5.0
"""Seconds between two looks at S3 during a wait."""

EC2_EVERY = 60.0
"""Seconds between two questions to EC2 during a wait."""

BOOT_EVERY = 10.0
"""The same while the machine boots."""

SSM_EVERY = 300.0
"""Seconds between two questions to SSM during a wait; where S3 has nothing, EC2_EVERY."""


PASSES = (ErrorKind.EXPIRED, ErrorKind.NO_CREDENTIALS, ErrorKind.PASSING)
"""Kinds of failed calls that a wait outlasts: time, or a new login, mends them."""


class QueueWait:
    """Waits on behalf of a connection."""

    def __init__(self, there: Ec2Connection) -> None:
        self._there = there
        self._said: set[str] = set()
        self._booting = False

    def wait(self, timeout: float) -> Answer:
        """The summary, as soon as the queue has ended or no process works on it, or after
        ``timeout`` seconds.

        There was a query before. One that fails doesn't end the waiting: the queue goes on.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            time.sleep(max(0.0, min(S3_EVERY, left)))  # reason: S3 has no notifications
            answer = self._cheap()
            queue = answer["queue"]
            if left <= S3_EVERY or not (queue.get("worker") or queue.get("queued")):
                return answer

    def _cheap(self) -> Answer:
        try:
            answer = self._look()
            self._said.clear()
            return answer
        except AwsError as error:
            if error.kind not in PASSES:
                raise
            return self.last_answer(error)
        except AwsAway as error:
            return self.last_answer(error)

    def _look(self) -> Answer:
        there = self._there
        seen = self._stored()
        if seen is not None and seen.ended:
            there.found()
            if there.through.boot(seen) is None:
                return there.stored_page(seen, {"limit": 0})
        there.stand(newer_than=BOOT_EVERY if self._booting else EC2_EVERY)
        every = SSM_EVERY if seen is not None else EC2_EVERY
        quiet = time.monotonic() - there.asked > every
        if there.live and quiet and (seen is None or seen.age_now > every):
            return there.query("status", limit=0)
        booting = there.through.answer("status", {"limit": 0}, seen)
        self._booting = booting is not None
        if booting is not None:
            return booting
        if seen is not None:
            return there.stored_page(seen, {"limit": 0})
        if there.live and there.last is not None:
            return there.last
        return there.query("status", limit=0)

    def _stored(self) -> Seen | None:
        """What S3 has; None if these credentials may not read it."""
        try:
            return self._there.stored()
        except AwsError as error:
            if error.kind in PASSES:
                raise
            self._say(f"S3 can't be asked: {error}")
            return None

    def last_answer(self, error: RunnerError) -> Answer:
        """The last answer again: AWS can't be asked now, but the queue goes on. Raises ``error``
        if there was none."""
        if (last := self._there.last) is None:
            raise error
        self._there.forget_clients()
        advice = reachability.advice_of(error) if isinstance(error, AwsError) else ()
        self._say("; ".join([str(error).split("\n")[0], *advice, "still waiting"]))
        return last

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._there.say(text)
