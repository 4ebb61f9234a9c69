"""A queue on AWS Batch: looked at in its result store, acted on by way of its control channel.

Implements QueueConnection (targets/port). The coordinator is a Batch job that no network leads to:
Batch tells whether it lives, and the store what it has done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from runner.aws.errors import AwsError, ErrorKind
from runner.control.protocol import decode_answer, encode_request
from runner.core.run_mode import RESUME
from runner.errors import NotFoundError, RunnerError, UnreachableError, UsageError
from runner.results.control_channel import MOST_BYTES, ControlChannel
from runner.results.layout import Layout
from runner.results.store import StoreError
from runner.results.stores import open_store
from runner.service.queries import has_news
from runner.targets import stored_status
from runner.targets.batch.coordinator_state import CoordinatorState, look_at
from runner.targets.batch.launch_record import BatchLaunch
from runner.targets.batch.resolve import BatchWord, FoundLaunch, resolve
from runner.targets.port import Answer, Say, Stopped, StoredResults, TargetTraits
from runner.targets.stored_status import Seen, StoredStatus

TRAITS = TargetTraits(
    name="AWS Batch",
    elsewhere=True,
    # One that Batch starts again is waited for anyway, as long as that takes.
    returns_within=60.0,
    # Each piece of a stored log is cut out of the whole.
    log_tail=256 * 1024,
    stored_copy=False,
    sources="S3 and Batch",
)

ANSWER_WITHIN = 30.0
"""Seconds that a coordinator has for an answer: it looks every five."""

ANSWER_EVERY = 1.0
S3_EVERY = 5.0
BATCH_EVERY = 60.0
"""Seconds between two looks at an answer, at the stored state, and at the coordinator's job."""

FOLLOW = (1.0, 10.0)
"""Seconds between two queries for a log that doesn't grow: at first, and at most."""

ACTIONS = ("cancel", "retry", "release", "pause", "unpause", "stop")


class BatchConnection:
    """See QueueConnection. Nothing is asked before it is needed. ``say`` is told notes."""

    traits = TRAITS
    holds_requests = True

    def __init__(self, named: BatchWord, say: Say = lambda line: None) -> None:
        self._named = named
        self._say = say
        self._launch: FoundLaunch | None = None
        self._stored: StoredStatus | None = None
        self._state: CoordinatorState | None = None
        self._looked = float("-inf")
        self._pause = FOLLOW[0]
        self._last: Answer | None = None

    # -- what is known -----------------------------------------------------------------------

    @property
    def word(self) -> str:
        """See QueueConnection."""
        return self._named.word

    @property
    def live(self) -> bool:
        """See QueueConnection: true as long as it has not been looked."""
        return self._state is None or self._state.lives

    @property
    def diagnosis(self) -> list[str]:
        """See QueueConnection."""
        return [] if self._state is None else list(self._state.told)

    def wait_through_boot(self, say: Say) -> None:
        """See QueueConnection: a coordinator that has not started yet is what the queue waits
        for."""

    def locate(self) -> None:
        """See QueueConnection. Raises AwsError, AmbiguousError."""
        launch = self._found()
        if self._seen() is None and not self._coordinator(None).known:
            raise NotFoundError(f"there is nothing of a queue in {launch.store}")

    def results(self) -> StoredResults:
        """See QueueConnection."""
        return StoredResults(self._found().store, None)

    def _found(self) -> BatchLaunch:
        if self._launch is None:
            self._launch = resolve(self._named)
        return self._launch.launch

    def _ended(self, seen: Seen | None) -> bool:
        """Whether the queue has ended, and no later launch is about to mend it."""
        if seen is None or not seen.ended:
            return False
        launch = self._found()
        assert self._launch is not None
        later = time.monotonic() - self._launch.stored < seen.age_now
        if launch.again == RESUME or not later:
            return True
        return not self._look_again(ended=False, newer_than=S3_EVERY).standing

    def _look_again(self, *, ended: bool, newer_than: float) -> CoordinatorState:
        if self._state is None or time.monotonic() - self._looked > newer_than:
            self._state = look_at(self._found(), self.word, ended=ended)
            self._looked = time.monotonic()
        return self._state

    def _seen(self) -> Seen | None:
        store = self._found().store
        if self._stored is None:
            self._stored = StoredStatus(store)
        return self._stored.read()

    def _coordinator(
        self, seen: Seen | None, *, newer_than: float = BATCH_EVERY
    ) -> CoordinatorState:
        """How the coordinator is, as it was at most so many seconds ago."""
        return self._look_again(ended=self._ended(seen), newer_than=newer_than)

    # -- queries -----------------------------------------------------------------------------

    def query(self, request: str, /, **fields: Any) -> Answer:
        """See QueueConnection. Raises AwsError, StoreError where S3 doesn't answer."""
        match request:
            case "status":
                return self._status(fields)
            case "wait":
                return self._wait(fields.get("timeout") or 0.0)
            case "job":
                return self._job(fields["job"])
            case "logs":
                return self._logs(fields)
            case "plan":
                options, launch = self._found().options or {}, self._found()
                place = {"job_queue": options.get("job_queue"), "region": launch.region}
                answer = stored_status.plan(launch.store, fields)
                if (most := options.get("max_parallel")) is not None:
                    answer["most"] = most or None
                return {**answer, "batch": place}
            case "queues":
                queue = self._status({"limit": 0})["queue"]
                return {"queues": [{name: queue[name] for name in ("queue_id", "status")}]}
        raise UsageError(f"{request} is not asked of a queue on AWS Batch")

    def _status(self, fields: Mapping[str, Any], *, newer_than: float = S3_EVERY) -> Answer:
        launch, seen = self._found(), self._seen()
        state = self._coordinator(seen, newer_than=newer_than)
        if seen is None:
            if not state.known:
                raise NotFoundError(f"there is nothing of a queue in {launch.store}")
            answer = stored_status.nothing_yet("status", launch.queue_id, fields, None)
            source: Answer = {"from": "s3", "age_seconds": 0, "at": None}
        else:
            answer = stored_status.page(seen, fields)
            source = {"from": "s3", "age_seconds": round(seen.age_now, 1), "at": seen.at}
        ended = self._ended(seen)
        answer["queue"] |= {"source": source | state.source(ended=ended)}
        if not ended:
            answer["queue"] |= state.standing
            if seen is not None and seen.ended:
                # What is stored is from before the launch that is to mend it.
                about = next(iter(state.standing.values()))
                told = f"{about}, which is to run again what failed"
                answer["queue"] |= {"worker": told, "mending": True}
        self._last = {"queue": answer["queue"]}
        return answer

    def _wait(self, timeout: float) -> Answer:
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            time.sleep(max(0.0, min(S3_EVERY, left)))  # reason: S3 has no notifications
            try:
                answer = self._status({"limit": 0}, newer_than=BATCH_EVERY)
            except RunnerError as error:
                answer = self.status_despite(error)
            queue = answer["queue"]
            if left <= S3_EVERY or not (queue.get("worker") or queue.get("queued")):
                return answer

    def _job(self, name: str) -> Answer:
        seen = self._required()
        answer = stored_status.job(seen, name)
        return {**answer, "story": stored_status.story(self._found().store, seen, name)}

    def _logs(self, fields: Answer) -> Answer:
        follow = fields.pop("follow", None)
        seen = self._seen()
        state = self._coordinator(seen)
        if seen is None:
            answer = stored_status.nothing_yet("logs", self._found().queue_id, fields, None)
        else:
            assert self._stored is not None
            answer = self._stored.logs(fields)
        answer["attended"] = bool(state.standing) and not self._ended(seen)
        if follow:
            self._let_time_pass(answer, follow)
        return answer

    def _let_time_pass(self, answer: Answer, follow: float) -> None:
        """Sleep while a log may grow: the longer, the longer nothing has come."""
        if has_news(answer):
            self._pause = FOLLOW[0]
        else:
            time.sleep(min(self._pause, follow))  # reason: S3 has no notifications
            self._pause = min(FOLLOW[1], 2 * self._pause)

    def _required(self) -> Seen:
        if (seen := self._seen()) is not None:
            return seen
        launch = self._found()
        state = self._coordinator(None)
        raise NotFoundError("\n".join([f"nothing is in {launch.store} yet", *state.told]))

    def stored_status(self, states: Sequence[str] | None) -> None:
        """See QueueConnection: what ``status`` tells is from there already."""

    def status_despite(self, error: RunnerError) -> Answer:
        """See QueueConnection. Raises ``error`` also if there was no answer before."""
        passes = isinstance(error, StoreError) or (
            isinstance(error, AwsError) and error.kind in _PASSES
        )
        if not passes or self._last is None:
            raise error
        return self._last

    # -- actions -----------------------------------------------------------------------------

    def act(self, request: str, /, **fields: Any) -> Answer:
        """See QueueConnection. Raises UnreachableError where no coordinator lives, and where none
        answers in time: then the request still stands."""
        if request not in ACTIONS:
            raise UsageError(f"{request} is not for a queue on AWS Batch")
        launch, seen = self._found(), self._seen()
        state = self._coordinator(seen, newer_than=0.0)
        if not state.standing:
            ended = self._ended(seen)
            lines = _over(launch, self.word, seen) if ended else state.told
            raise UnreachableError("\n".join(lines))
        line = encode_request(request, **fields)
        if len(line) > MOST_BYTES:
            raise UsageError(f"the request has {len(line):,} bytes: at most 64 KiB")
        return self._ask(launch, request, line)

    def _ask(self, launch: BatchLaunch, request: str, line: bytes) -> Answer:
        store = open_store(launch.store)
        channel = ControlChannel(store)
        try:
            request_id = channel.ask(line)
            deadline = time.monotonic() + ANSWER_WITHIN
            while (answer := channel.answer_to(request_id)) is None:
                if time.monotonic() >= deadline:
                    raise UnreachableError(self._no_answer(launch, request, request_id))
                time.sleep(ANSWER_EVERY)  # reason: S3 has no notifications
            try:
                channel.forget(request_id)
            except StoreError:
                pass  # the coordinator removes it
            return decode_answer(answer)
        finally:
            store.close()

    def _no_answer(self, launch: BatchLaunch, request: str, request_id: str) -> str:
        state = self._coordinator(None, newer_than=0.0)
        key = Layout().control_request_key(request_id)
        return "\n".join([
            f"the coordinator has not answered within {ANSWER_WITHIN:.0f} s: {request} still "
            f"stands, and is carried out when it looks (to take it back, remove "
            f"{launch.store}/{key})",
            *state.told,
        ])  # fmt: skip

    def submit(self, text: str, again: str, batch: Mapping[str, str] | None = None) -> Answer:
        """See QueueConnection."""
        raise UsageError(
            "a coordinator on AWS Batch drives one queue: `runner launch --target batch` starts "
            "another"
        )

    def keep(self, seconds: float | None, *, release: bool) -> Answer:
        """See QueueConnection."""
        raise UsageError("a queue on AWS Batch has no machine that could be held")

    def stop(self, *, detach: bool, say: Say) -> Stopped:
        """See QueueConnection: the coordinator ends; `runner resume` starts another."""
        answer = self.act("stop", detach=detach or None)
        return Stopped(f"the coordinator of {self._found().queue_id} is stopping", answer)

    def reconnect(self) -> None:
        """See QueueConnection."""
        time.sleep(max(0.0, S3_EVERY - (time.monotonic() - self._looked)))  # reason: Batch's limits
        self._looked = float("-inf")

    def close(self) -> None:
        """See QueueConnection: nothing is held."""


_PASSES = (ErrorKind.EXPIRED, ErrorKind.NO_CREDENTIALS, ErrorKind.PASSING)


def _over(launch: BatchLaunch, word: str, seen: Seen | None) -> list[str]:
    status = "" if seen is None else seen.state["status"]
    return [
        f"queue '{launch.queue_id}' has ended: it is {status}, and no coordinator drives it",
        f"`runner resume {word} --retry-failed` runs again what failed",
    ]
