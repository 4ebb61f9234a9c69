"""A machine on EC2 as who answers a verb: over SSM while it runs, out of S3 when it doesn't.

Has the interface of a connection on this machine (cli/connect), so that verbs don't know the
difference. Owns how often AWS is asked. Its calls block; two threads may look at once.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from runner.aws.faults import AwsError
from runner.aws.ssm import Ssm
from runner.errors import ExitCode, NotFoundError, RunnerError, UnreachableError
from runner.service.looks import has_news
from runner.targets.ec2 import condition, finding, stored_state
from runner.targets.ec2.asking import Asker, NotInstalled, NotKnown, NotReached
from runner.targets.ec2.condition import Condition
from runner.targets.ec2.cost import cost_of, price_in
from runner.targets.ec2.finding import Found, Target
from runner.targets.ec2.launches import Launches
from runner.targets.ec2.stored_state import Seen, StoredState
from runner.targets.ec2.through_boot import ThroughBoot
from runner.targets.ec2.waiting import EC2_EVERY, Waiting

Answer = dict[str, Any]

KNOWN = 5.0
"""Seconds for which EC2's answer is believed while somebody looks again and again."""

FOLLOW = (1.0, 10.0)
"""Seconds between two looks at a log in which nothing comes: at first, and at most."""


class AwsAway(UnreachableError):
    """Neither the machine nor S3 could be asked: that says nothing about the queue."""


class Remote:
    """The machine that a word means. Nothing is asked before something is looked at.

    ``say`` is told, in words, what a person should know who waits.
    """

    patient = True

    def __init__(
        self, target: Target, queue: str | None, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.target = target
        self.say = say
        self._queue = queue or target.queue_id
        self._other_queue = queue is not None and queue != target.queue_id
        self._lock = threading.Lock()
        self._record = finding.remembered(target)
        self._found: Found | None = None
        self._found_at = 0.0
        self._asker: Asker | None = None
        self._stored: StoredState | None = None
        self._storing = threading.Lock()
        self._condition: Condition | None = None
        self._pause = FOLLOW[0]
        self._waiting = Waiting(self)
        self.through = ThroughBoot(self)
        self.asked = 0.0
        """When SSM was last asked how the queue stands."""
        self.last: Answer | None = None

    def wait_through_boot(self, say: Callable[[str], None]) -> None:
        """From now on a look waits for a machine that boots, and goes on with one that replaces it.

        ``say`` is told how the boot goes. A look raises LaunchFailedError for one that has failed.
        """
        self.through.say = say

    # -- what is known -----------------------------------------------------------------------

    def found(self, *, newer_than: float | None = None) -> Found:
        """The machine, as EC2 had it at most so many seconds ago. See finding.find."""
        with self._lock:
            old = newer_than is not None and time.monotonic() - self._found_at > newer_than
            if self._found is None or old:
                found = self.through.find(self._record)
                self._found_at = time.monotonic()
                if found.trouble is None or self._found is None:
                    self._found = found
            return self._found

    @property
    def live(self) -> bool:
        """Whether the machine has answered, or nobody has tried yet."""
        return self._condition is None

    @property
    def why_not(self) -> list[str]:
        """Why nobody answers there, and what to do; nothing if somebody does."""
        if self._condition is None:
            return []
        return [self._condition.why, *self._condition.advice]

    def _remembered_store(self) -> str | None:
        record = self._record
        if self._other_queue:
            found = Launches.of_user(os.environ).records(self._queue or "")
            record = found[0] if len(found) == 1 else None
        return record.store if record else None

    def stored(self) -> Seen | None:
        """What S3 has of the queue; None if that is nothing. At once where this computer remembers
        the launch, else when EC2 has told. Raises AwsError, NotFoundError, StateError."""
        if not (store := self._remembered_store()):
            found = self.found()
            store = found.store if self._queue in (None, found.queue_id) else None
        if not store:
            return None
        with self._storing:
            if self._stored is None or self._stored.store != store:
                self._stored = StoredState(store)
            return self._stored.read()

    def facts(self) -> Answer:
        """The instance for programs."""
        found = self._found
        if found is None:
            return {}
        told: Answer = {"instance_id": found.instance_id, "region": found.region}
        if (machine := found.machine) is not None:
            spent = cost_of(machine, price_in(machine.tags), time.time(), found.launched)
            told |= {
                "state": machine.state,
                "why": machine.why or None,
                "instance_type": machine.instance_type,
                "zone": machine.zone,
                "spot": machine.spot,
                "hours": None if spent.hours is None else round(spent.hours, 4),
                "price_per_hour": spent.price,
                "cost": None if spent.dollars is None else round(spent.dollars, 4),
                "cost_since_restart": spent.at_least or None,
            }
        return {name: value for name, value in told.items() if value is not None}

    # -- looking -----------------------------------------------------------------------------

    def look(self, request: str, /, **fields: Any) -> Answer:
        """The machine's answer, else what S3 has. Raises UnreachableError if that is nothing."""
        if request == "wait":
            return self._waiting.wait(fields.get("timeout") or 0.0)
        follow = fields.pop("follow", None)
        answer = self._live(request, fields) or self._from_store(request, fields)
        if request == "logs" and follow:
            self._be_patient(answer, follow)
        return answer

    def _live(self, request: str, fields: Answer) -> Answer | None:
        """The machine's answer; None if it can't be had: then ``why_not`` tells."""
        found = self.found(newer_than=KNOWN if self._condition else EC2_EVERY)
        self._condition = condition.of_machine(found, time.time())
        if self._condition is not None:
            return None
        self.asked = time.monotonic()
        try:
            answer = self._ask(request, fields)
        except (NotReached, NotInstalled, NotKnown, AwsError) as error:
            self._condition = self._why(error)
            return None
        except RunnerError as error:
            if error.exit_code is not ExitCode.NOT_FOUND or request not in ("status", "logs"):
                raise
            said = f"{found.instance_id} says: {error}"
            if not self._stands_in() and not self.through.waits():
                raise NotFoundError(said) from None
            self._condition = Condition(said)
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
            asker = self._asker
            if asker is None or asker.instance_id != found.instance_id:
                asker = Asker(Ssm(found.region), found.instance_id)
                self._asker = asker
        about = {} if request in ("queues", "ping", "stop", "submit", "keep") else self._about()
        return asker.ask(request, **about, **fields)

    @property
    def queue_id(self) -> str | None:
        """The queue that is asked about; None as long as only its machine is known."""
        return self._queue or (self._found.queue_id if self._found is not None else None)

    @property
    def last_found(self) -> Found | None:
        """The machine as it was found last, without asking."""
        return self._found

    def _about(self) -> Answer:
        return {"queue": self._queue} if self._queue else {}

    def _why(self, error: Exception) -> Condition:
        found = self.found(newer_than=KNOWN)
        now = time.time()
        if (gone := condition.of_machine(found, now)) is not None:
            return gone  # meanwhile
        if found.machine is None:
            trouble = error if isinstance(error, AwsError) else found.trouble
            return Condition(str(error), condition.advice_of(trouble) if trouble else ())
        match error:
            case NotReached():
                try:
                    ping = Ssm(found.region).ping(found.machine.instance_id)
                except AwsError as failed:
                    return Condition(str(error), condition.advice_of(failed))
                return condition.of_ping(found.machine, ping, now)
            case NotInstalled():
                return condition.not_installed(found, found.machine, now)
            case AwsError():
                return Condition(f"SSM can't be asked: {error}", condition.advice_of(error))
        return Condition(str(error), ("ask again in a minute",))

    # -- out of S3 ---------------------------------------------------------------------------

    def _from_store(self, request: str, fields: Answer) -> Answer:
        seen = self._seen(request)
        if (booting := self.through.answer(request, fields, seen)) is not None:
            return booting
        if seen is None:
            raise self._nobody(request)
        match request:
            case "status":
                answer = stored_state.page(seen, fields)
                self._mark(answer["queue"], seen)
                return answer
            case "job":
                return stored_state.job(seen, fields["job"])
            case "logs":
                assert self._stored is not None
                answer = self._stored.logs(fields)
                worker: Answer = {}
                self._mark(worker, seen)
                return {**answer, "attended": "worker" in worker or "queued" in worker}
        raise UnreachableError("\n".join(self.why_not))

    def _seen(self, request: str) -> Seen | None:
        try:
            return self.stored() if request in ("status", "job", "logs") else None
        except AwsError as error:
            lines = [*self.why_not, f"and S3 can't be asked: {error}"]
            raise AwsAway("\n".join(lines)) from None

    def _nobody(self, request: str) -> UnreachableError:
        """Why there is no answer. Raises LaunchFailedError where there will be none."""
        boot = self.through.boot(None) if request in ("status", "job", "logs") else None
        told = [boot.check().told] if boot is not None else []
        lines = [*told, *self.why_not, *self._nothing(request)]
        away = self._found is not None and self._found.trouble is not None
        return (AwsAway if away else UnreachableError)("\n".join(lines))

    def _nothing(self, request: str) -> list[str]:
        if request not in ("status", "job", "logs"):
            return []
        store = self._found.store if self._found else None
        return [f"nothing of it is in {store} yet" if store else "where it stores is not known"]

    def picture(self, seen: Seen, limit: int | None = None) -> Answer:
        """What ``status`` answers, by what S3 has."""
        answer = stored_state.page(seen, {"limit": limit})
        self._mark(answer["queue"], seen)
        return answer

    def _mark(self, queue: Answer, seen: Seen) -> None:
        """Say where it comes from, and who works on it, as far as EC2 knows."""
        source: Answer = {"from": "s3", "age_seconds": round(seen.age_now, 1), "at": seen.at}
        if (standing := self._condition) is not None:
            if self._found is not None:
                # What to do depends on whether the queue has ended.
                known = condition.of_machine(self._found, time.time(), ended=seen.ended)
                standing = known or standing
            source |= {"why": standing.why, "next": list(standing.advice)}
        queue |= {"source": source, "instance": self.facts()}
        if seen.ended:
            return
        if self._found is None:
            queue["worker"] = "its machine (EC2 is being asked)"
            return
        machine = self._found.machine
        if machine is None and self._found.trouble is not None:
            queue["worker"] = "its machine, for all that is known"
            return
        if machine is None or machine.gone:
            return
        if machine.state in ("pending", "running"):
            queue["worker"] = f"{machine.instance_id}, as far as S3 and EC2 know"
        elif machine.spot:
            queue["queued"] = f"EC2, for {machine.instance_id}"

    # -- in the long run ---------------------------------------------------------------------

    def _be_patient(self, answer: Answer, follow: float) -> None:
        """Let time pass in which a log grows: more, the longer nothing has come."""
        if has_news(answer):
            self._pause = FOLLOW[0]
        else:
            time.sleep(min(self._pause, follow))  # reason: nothing can be held over SSM
            self._pause = min(FOLLOW[1], 2 * self._pause)

    def in_spite_of(self, error: RunnerError) -> Answer:
        """The last answer again: AWS can't be asked now, but the queue goes on. Raises ``error``
        if there was none."""
        return self._waiting.in_spite_of(error)

    def stand(self, *, newer_than: float) -> None:
        """See how the machine is, by EC2 alone."""
        self._condition = condition.of_machine(self.found(newer_than=newer_than), time.time())

    def forget(self) -> None:
        """Make new clients: who has logged in again has new keys."""
        with self._lock:
            self._asker = None

    def renew(self) -> None:
        """Look again whether somebody answers there."""
        time.sleep(max(0.0, KNOWN - (time.monotonic() - self._found_at)))  # reason: EC2's limits
        self.found(newer_than=0)

    def check_running(self) -> Found:
        """The machine, if it runs. Raises UnreachableError: what EC2 says, and what to do."""
        found = self.found()
        if (standing := condition.of_machine(found, time.time())) is not None:
            raise _unreachable(standing)
        return found

    # -- acting ------------------------------------------------------------------------------

    def act(self, request: str, /, **fields: Any) -> Answer:
        """The answer to a request that acts. Raises UnreachableError with what to do instead."""
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

    def submit(self, text: str, again: str) -> Answer:
        """Ship the document by way of S3, and have the machine take it; remember where it went."""
        from runner.targets.ec2.placing import place

        def hand_over(url: str, sha256: str) -> Answer:
            return self.act("submit", s3=url, sha256=sha256, again=again)

        return place(self.check_running(), json.loads(text), text, hand_over, self.say)

    def keep(self, seconds: float | None, *, release: bool) -> Answer:
        """See cli/connect."""
        return self.act("keep", seconds=seconds, release=release or None)

    def close(self) -> None:
        """Nothing is held."""


def _unreachable(standing: Condition) -> UnreachableError:
    return UnreachableError(_words(standing))


def _words(standing: Condition) -> str:
    return "\n".join([standing.why, *standing.advice])
