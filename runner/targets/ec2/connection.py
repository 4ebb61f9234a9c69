"""A queue on a machine on EC2: over SSM while the machine runs, else from what S3 has.

Implements QueueConnection (targets/port). Owns how often AWS is asked.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from runner.aws.errors import AwsError
from runner.aws.ssm import Ssm
from runner.errors import ExitCode, NotFoundError, RunnerError, UnreachableError, UsageError
from runner.service.queries import has_news
from runner.targets import stored_status
from runner.targets.ec2.launch.local_launches import Launches
from runner.targets.ec2.observe import machine_lookup, reachability
from runner.targets.ec2.observe.answer_origin import instance_view, origin_of
from runner.targets.ec2.observe.boot_wait import ThroughBoot
from runner.targets.ec2.observe.machine_lookup import ResolvedTarget, Target
from runner.targets.ec2.observe.queue_wait import EC2_EVERY, QueueWait
from runner.targets.ec2.observe.reachability import AwsAway, Reachability
from runner.targets.ec2.observe.ssm_requester import (
    NotInstalled,
    NotKnown,
    NotReached,
    SsmRequester,
)
from runner.targets.port import Answer, NoResultsError, Say, Stopped, StoredResults, TargetTraits
from runner.targets.stored_status import Seen, StoredStatus

TRAITS = TargetTraits(
    name="EC2",
    elsewhere=True,
    # `resume` sees the old machine end before it asks for the next.
    returns_within=180.0,
    # SSM passes some 20 KB in a second.
    log_tail=256 * 1024,
    stored_copy=True,
    sources="EC2 and S3",
)

KNOWN = 5.0
"""Seconds for which EC2's answer is used again by repeated queries."""

FOLLOW = (1.0, 10.0)
"""Seconds between two queries for a log that doesn't grow: at first, and at most."""

_ABOUT_NO_QUEUE = ("queues", "ping", "stop", "submit", "keep")


class Ec2Connection:
    """See QueueConnection. The machine is looked for in EC2 when it is first needed.

    ``target``: the instance or the queue that was named; ``queue``: one of the machine's queues, if
    another than the target's may be meant. ``say`` is told notes for people.
    """

    traits = TRAITS
    holds_requests = True

    def __init__(self, target: Target, queue: str | None, say: Say = lambda line: None) -> None:
        self.target = target
        self.say = say
        self._queue = queue or target.queue_id
        self._named = queue is not None
        self._other_queue = queue is not None and queue != target.queue_id
        self._lock = threading.Lock()
        self._record = machine_lookup.remembered(target)
        self._found: ResolvedTarget | None = None
        self._found_at = 0.0
        self._requester: SsmRequester | None = None
        self._stored: StoredStatus | None = None
        self._storing = threading.Lock()
        self._reachability: Reachability | None = None
        self._pause = FOLLOW[0]
        self._waiting = QueueWait(self)
        self.through = ThroughBoot(self)
        self.asked = 0.0
        """When SSM was last asked about the queue's state (monotonic)."""
        self.last: Answer | None = None

    def wait_through_boot(self, say: Say) -> None:
        """See QueueConnection."""
        self.through.say = say

    # -- what is known -----------------------------------------------------------------------

    def found(self, *, newer_than: float | None = None) -> ResolvedTarget:
        """The machine, as EC2 had it at most so many seconds ago. See machine_lookup.find."""
        with self._lock:
            old = newer_than is not None and time.monotonic() - self._found_at > newer_than
            if self._found is None or old:
                found = self.through.find(self._record)
                self._found_at = time.monotonic()
                if found.trouble is None or self._found is None:
                    self._found = found
            return self._found

    @property
    def word(self) -> str:
        """See QueueConnection."""
        return self.target.word

    @property
    def live(self) -> bool:
        """See QueueConnection: true as long as it has not been tried."""
        return self._reachability is None

    @property
    def diagnosis(self) -> list[str]:
        """See QueueConnection."""
        if self._reachability is None:
            return []
        return [self._reachability.why, *self._reachability.advice]

    def locate(self) -> None:
        """See QueueConnection. Raises AwsError, AmbiguousError."""
        self.found()

    def results(self) -> StoredResults:
        """See QueueConnection: by this computer's record of the launch, the machine's tags, or the
        index in a bucket. Raises AwsError, AmbiguousError."""
        if not (store := self._store()):
            raise NoResultsError(
                f"where {self.queue_id or self.word} stores its results isn't known: "
                "give s3://BUCKET/PREFIX"
            )
        return StoredResults(store, None)

    def _remembered_store(self) -> str | None:
        record = self._record
        if self._other_queue:
            found = Launches.of_user(os.environ).records(self._queue or "")
            record = found[0] if len(found) == 1 else None
        return record.store if record else None

    def _store(self) -> str | None:
        """Where the queue's results are. What a launch noted doesn't change: EC2 needn't be asked
        for that, and may have forgotten the machine."""
        if store := self._remembered_store():
            return store
        found = self.found()
        return found.store if self._queue in (None, found.queue_id) else None

    def stored(self) -> Seen | None:
        """What S3 has of the queue; None if that is nothing. At once where this computer remembers
        the launch, else when EC2 has told. Raises AwsError, NotFoundError, StateError."""
        if not (store := self._store()):
            return None
        with self._storing:
            if self._stored is None or self._stored.store != store:
                self._stored = StoredStatus(store)
            return self._stored.read()

    def facts(self) -> Answer:
        """The instance, for programs."""
        return instance_view(self._found, time.time()) if self._found is not None else {}

    # -- queries -----------------------------------------------------------------------------

    def query(self, request: str, /, **fields: Any) -> Answer:
        """See QueueConnection: the machine's answer, else what S3 has."""
        if request == "wait":
            return self._waiting.wait(fields.get("timeout") or 0.0)
        if request == "plan":  # SSM would be slow
            return stored_status.plan(self._store(), fields)
        follow = fields.pop("follow", None)
        answer = self._live(request, fields) or self._from_store(request, fields)
        if request == "logs" and follow:
            self._let_time_pass(answer, follow)
        return answer

    def _live(self, request: str, fields: Answer) -> Answer | None:
        """The machine's answer; None if it can't be had: then ``diagnosis`` tells."""
        found = self.found(newer_than=KNOWN if self._reachability else EC2_EVERY)
        self._reachability = reachability.of_machine(found, time.time())
        if self._reachability is not None:
            return None
        self.asked = time.monotonic()
        try:
            answer = self._ask(request, fields)
        except (NotReached, NotInstalled, NotKnown, AwsError) as error:
            self._reachability = self._why(error)
            return None
        except RunnerError as error:
            if error.exit_code is not ExitCode.NOT_FOUND or request not in ("status", "logs"):
                raise
            said = f"{found.instance_id} says: {error}"
            if not self._stands_in() and not self.through.waits():
                raise NotFoundError(said) from None
            self._reachability = Reachability(said)
            return None
        if "queue" in answer:
            source = {"from": "ssm", "age_seconds": 0, "at": answer.pop("now", None)}
            answer["queue"] |= {"source": source}
            answer["queue"] |= {"instance": self.facts()}
            self.last = {"queue": answer["queue"]}
        return answer

    def _stands_in(self) -> bool:
        """Whether S3 may know what the machine doesn't (yet, or any more)."""
        try:
            return self.stored() is not None
        except RunnerError:
            return False

    def _ask(self, request: str, fields: Answer) -> Answer:
        found = self.found()
        assert found.instance_id is not None
        with self._lock:
            requester = self._requester
            if requester is None or requester.instance_id != found.instance_id:
                requester = SsmRequester(Ssm(found.region), found.instance_id)
                self._requester = requester
        named = self._queue and request not in _ABOUT_NO_QUEUE
        about = {"queue": self._queue} if named else {}
        return requester.ask(request, **about, **fields)

    @property
    def queue_id(self) -> str | None:
        """The queue that is asked about; None as long as only its machine is known."""
        return self._queue or (self._found.queue_id if self._found is not None else None)

    @property
    def last_found(self) -> ResolvedTarget | None:
        """The machine as it was found last, without asking."""
        return self._found

    def _why(self, error: Exception) -> Reachability:
        found = self.found(newer_than=KNOWN)
        now = time.time()
        if (gone := reachability.of_machine(found, now)) is not None:
            return gone  # meanwhile
        if found.machine is None:
            trouble = error if isinstance(error, AwsError) else found.trouble
            return Reachability(str(error), reachability.advice_of(trouble) if trouble else ())
        match error:
            case NotReached():
                try:
                    ping = Ssm(found.region).ping(found.machine.instance_id)
                except AwsError as failed:
                    return Reachability(str(error), reachability.advice_of(failed))
                return reachability.of_ping(found.machine, ping, now)
            case NotInstalled():
                return reachability.not_installed(found, found.machine, now)
            case AwsError():
                return Reachability(f"SSM can't be asked: {error}", reachability.advice_of(error))
        return Reachability(str(error), ("ask again in a minute",))

    # -- out of S3 ---------------------------------------------------------------------------

    def _from_store(self, request: str, fields: Answer) -> Answer:
        seen = self._seen(request)
        if (booting := self.through.answer(request, fields, seen)) is not None:
            return booting
        if seen is None:
            raise self._no_answer(request)
        match request:
            case "status":
                return self.stored_page(seen, fields)
            case "job":
                return stored_status.job(seen, fields["job"])
            case "logs":
                assert self._stored is not None
                answer = self._stored.logs(fields)
                attended = not self._origin(seen).keys().isdisjoint({"worker", "queued"})
                return {**answer, "attended": attended}
        raise UnreachableError("\n".join(self.diagnosis))

    def _seen(self, request: str) -> Seen | None:
        try:
            return self.stored() if request in ("status", "job", "logs") else None
        except AwsError as error:
            lines = [*self.diagnosis, f"and S3 can't be asked: {error}"]
            raise AwsAway("\n".join(lines)) from None

    def _no_answer(self, request: str) -> UnreachableError:
        """Why there is no answer. Raises LaunchFailedError where there will be none."""
        boot = self.through.boot(None) if request in ("status", "job", "logs") else None
        told = [boot.check().told] if boot is not None else []
        lines = [*told, *self.diagnosis, *self._nothing(request)]
        away = self._found is not None and self._found.trouble is not None
        return (AwsAway if away else UnreachableError)("\n".join(lines))

    def _nothing(self, request: str) -> list[str]:
        if request not in ("status", "job", "logs"):
            return []
        store = self._found.store if self._found else None
        return [f"nothing of it is in {store} yet" if store else "where it stores is not known"]

    def stored_status(self, states: Sequence[str] | None) -> Answer | None:
        """See QueueConnection. Raises NotFoundError, StateError for what is no state."""
        try:
            seen = self.stored()
        except AwsError:
            return None
        return self.stored_page(seen, {"status": states}) if seen is not None else None

    def stored_page(self, seen: Seen, fields: Mapping[str, Any]) -> Answer:
        """What ``status`` answers, by what S3 has."""
        answer = stored_status.page(seen, fields)
        answer["queue"] |= self._origin(seen)
        return answer

    def _origin(self, seen: Seen) -> Answer:
        return origin_of(seen, self._found, self._reachability, time.time())

    # -- queries that go on ------------------------------------------------------------------

    def _let_time_pass(self, answer: Answer, follow: float) -> None:
        """Sleep while a log may grow: the longer, the longer nothing has come."""
        if has_news(answer):
            self._pause = FOLLOW[0]
        else:
            time.sleep(min(self._pause, follow))  # reason: nothing can be held over SSM
            self._pause = min(FOLLOW[1], 2 * self._pause)

    def status_despite(self, error: RunnerError) -> Answer:
        """See QueueConnection. Raises ``error`` also if there was no answer before."""
        if not isinstance(error, AwsError | AwsAway):
            raise error
        return self._waiting.last_answer(error)

    def stand(self, *, newer_than: float) -> None:
        """See how the machine is, by EC2 alone."""
        self._reachability = reachability.of_machine(self.found(newer_than=newer_than), time.time())

    def forget_clients(self) -> None:
        """Make new clients: after a new login there are new keys."""
        with self._lock:
            self._requester = None

    def reconnect(self) -> None:
        """See QueueConnection."""
        time.sleep(max(0.0, KNOWN - (time.monotonic() - self._found_at)))  # reason: EC2's limits
        self.found(newer_than=0)

    def check_running(self) -> ResolvedTarget:
        """The machine, if it runs. Raises UnreachableError: what EC2 says, and what to do."""
        found = self.found()
        if (standing := reachability.of_machine(found, time.time())) is not None:
            raise _unreachable(standing)
        return found

    # -- actions -----------------------------------------------------------------------------

    def act(self, request: str, /, **fields: Any) -> Answer:
        """See QueueConnection. The error says what to do instead."""
        self.check_running()
        try:
            return self._ask(request, fields)
        except NotKnown as error:
            told = "it may have been done all the same: look with runner status"
            raise NotKnown(f"{error}\n{told}") from None
        except (NotReached, NotInstalled) as error:
            raise type(error)(_words(self._why(error))) from None
        except AwsError as error:
            raise _unreachable(self._why(error)) from None

    def submit(self, text: str, again: str, batch: Mapping[str, str] | None = None) -> Answer:
        """See QueueConnection: the document goes by way of S3; this computer remembers where."""
        if batch is not None:
            raise UsageError(
                "a machine on EC2 runs its queues itself: `runner launch --target batch` has a "
                "queue driven on AWS Batch"
            )
        from runner.targets.ec2.launch.placement import place

        def hand_over(url: str, sha256: str) -> Answer:
            return self.act("submit", s3=url, sha256=sha256, again=again)

        return place(self.check_running(), json.loads(text), text, hand_over, self.say)

    def keep(self, seconds: float | None, *, release: bool) -> Answer:
        """See QueueConnection."""
        return self.act("keep", seconds=seconds, release=release or None)

    def stop(self, *, detach: bool, say: Say) -> Stopped:
        """See QueueConnection: only the beginning of it can be seen. Raises UsageError where a
        queue was named: the service is one for all of them."""
        if self._named:
            raise UsageError("--on stops the service there: not with --queue")
        answer = self.act("stop", detach=detach or None)
        return Stopped(f"the service on {self.word} is stopping", answer)

    def close(self) -> None:
        """See QueueConnection: nothing is held."""


def _unreachable(standing: Reachability) -> UnreachableError:
    return UnreachableError(_words(standing))


def _words(standing: Reachability) -> str:
    return "\n".join([standing.why, *standing.advice])
