"""One try to tell one target: which service it is, and what its answer means.

Owns that nothing secret is in what is said of a failure. Blocks, for as long as it is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from runner.aws.errors import AwsError, ErrorKind
from runner.aws.platform import on_ec2
from runner.core.lost_notices import GROUP, schedule_names
from runner.core.notice_forms import Message, body, encoded, subject, text, webhook_body
from runner.engine.secret_fetches import find_region
from runner.model.notify import EVENTBRIDGE, EXEC, is_reference, is_topic, url_fault
from runner.rights import Rights

TRY = 10.0
"""Seconds of one try."""

USER_AGENT = "queue-runner"
IDEMPOTENCY_KEY = "Idempotency-Key"


_PASSING = frozenset(
    {ErrorKind.PASSING, ErrorKind.CONFLICT, ErrorKind.EXPIRED, ErrorKind.QUOTA, ErrorKind.CAPACITY}
)
_PASSING_STATUS = frozenset({408, 409, 425, 429})
WITHDRAW_TRIES = 4

_SAID = 120
"""Characters of a receiver's own words that are repeated."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of a try. ``error`` None: the target has it, and ``told`` is what it said.

    ``hopeless``: as things stand the next try fails, too. ``after``: seconds until the receiver
    wants to be asked again.
    """

    told: str = ""
    error: str | None = None
    hopeless: bool = False
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Sender:
    """As whom notices are sent. ``environment``: of a program's, and where the region is found;
    ``rights`` are asked at each try: a job's user may be made later. ``lost_notice``: as the
    setting says."""

    environment: Mapping[str, str] = field(repr=False)
    rights: Callable[[], Rights | None]
    lost_notice: bool = False

    def withdraw(self, results: str) -> None:
        """Remove what would tell that the queue was lost. Blocks, for a minute at worst; what can't
        be removed tells in vain, and is told here."""
        from runner.aws.scheduler import Schedules

        for tries in range(1, WITHDRAW_TRIES + 1):
            try:
                schedules = Schedules(find_region(self.environment))
                for name in schedule_names(results):
                    if not schedules.delete(name, GROUP):
                        return
                return
            except AwsError as error:
                import structlog

                log = structlog.get_logger()
                log.warning("lost_notice_stays", results=results, why=str(error))
                if error.kind not in _PASSING:
                    return
            time.sleep(2.0**tries)

    def deliver(self, target: str, message: Message) -> Attempt:
        """Tell a target once. Blocks for TRY seconds, or while a host's name is looked up."""
        try:
            if target.startswith(EXEC):
                return self._run(target.removeprefix(EXEC), message)
            if is_topic(target):
                return _publish(target, message)
            if target.startswith(EVENTBRIDGE):
                region = find_region(self.environment)
                return _put_event(target.removeprefix(EVENTBRIDGE), region, message)
            if is_reference(target):
                return self._post_to_secret(target, message)
            return _post(target, message)
        except AwsError as error:
            hopeless = error.kind not in _PASSING
            if error.kind is ErrorKind.NO_CREDENTIALS:
                hopeless = not on_ec2(self.environment)
            return Attempt(error=str(error), hopeless=hopeless)

    def _post_to_secret(self, reference: str, message: Message) -> Attempt:
        from runner.aws.secrets import SecretError, Secrets

        begun = time.monotonic()
        try:
            (url,) = Secrets(lambda: find_region(self.environment)).read({"to": reference}).values()
        except SecretError as error:
            return Attempt(error=str(error), hopeless=not error.passing)
        url = url.strip()
        if fault := url_fault(url):
            return Attempt(error=f"{reference}: what is kept there {fault}", hopeless=True)
        return _post(url, message, max(1.0, TRY - (time.monotonic() - begun)))

    def _run(self, path: str, message: Message) -> Attempt:
        from runner.host.programs import run_program

        notice = message.notice
        environment = {
            **self.environment,
            "QUEUE_ID": message.queue_id,
            "RUNNER_NOTICE_ID": notice.id,
            "RUNNER_NOTICE_EVENT": notice.event,
        }
        rights = self.rights()
        error = run_program(path, encoded(body(message)), environment, rights, TRY)
        return Attempt("exit status 0", error)


def _publish(topic: str, message: Message) -> Attempt:
    from runner.aws.sns import publish

    told = f"{text(message)}\n\n{encoded(body(message)).decode()}"
    sent = publish(topic, subject(message), told, message.notice.id, message.queue_id[:128], TRY)
    return Attempt(f"message {sent}")


def _put_event(bus: str, region: str | None, message: Message) -> Attempt:
    from runner.aws.event_bus import put_event

    kind = f"Queue {message.notice.event}"
    return Attempt(f"event {put_event(bus, region, kind, encoded(body(message)).decode(), TRY)}")


def _post(url: str, message: Message, seconds: float = TRY) -> Attempt:
    from runner.host.webhooks import NoAnswerError, post

    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": USER_AGENT,
        IDEMPOTENCY_KEY: message.notice.id,
    }
    try:
        answer = post(url, webhook_body(url, message), headers, seconds)
    except NoAnswerError as error:
        return Attempt(error=str(error))
    said = " ".join(answer.text.split())
    said = "".join(c for c in said if c.isprintable())[:_SAID]
    # A receiver may repeat what it was asked.
    said = "" if any(part in said for part in _parts(url)) else said
    told = f"HTTP {answer.status}" + (f": {said}" if said else "")
    if 200 <= answer.status < 300:
        return Attempt(told)
    if 300 <= answer.status < 400:
        return Attempt(error=f"HTTP {answer.status}: redirects are not followed", hopeless=True)
    passing = answer.status >= 500 or answer.status in _PASSING_STATUS
    return Attempt(error=told, hopeless=not passing, after=answer.retry_after)


def _parts(url: str) -> list[str]:
    """What of a URL may be secret: the longer parts of its path and query."""
    rest = url.partition("://")[2].partition("/")[2]
    for sign in "?&=#":
        rest = rest.replace(sign, "/")
    return [part for part in rest.split("/") if len(part) >= 6]
