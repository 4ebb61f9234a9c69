"""One launch, from what was asked for to a machine: in an order that a cut at any point can't harm.

Shipped first, then remembered here: from then on another can be made like it. Then it is claimed in
the bucket, and EC2 is asked; each request is on the disk before it is sent. The same command after
a cut goes on from what is remembered.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from runner.aws.ec2 import ALIVE, Ec2, Machine
from runner.aws.errors import AwsError
from runner.errors import ConflictError, StateError
from runner.model.durations import format_duration
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.end.end_marker import Agreed
from runner.targets.ec2.end.termination import end
from runner.targets.ec2.index import ClaimedError
from runner.targets.ec2.launch.instance_requester import (
    InstanceRefused,
    InstanceRequester,
    LaunchRefusedError,
    TokenTaken,
)
from runner.targets.ec2.launch.launch_guard import LaunchGuard
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.local_launches import Launch, Launches, SentRequest
from runner.targets.ec2.launch.plan import SPOT, Facts, InstanceCandidate
from runner.targets.ec2.launch.refusals import left_after, line, summary
from runner.targets.ec2.launch.run_instances import request, tags, token
from runner.targets.ec2.launch.shipment import (
    Payload,
    Say,
    Shipment,
    boot_config,
    bundle_arch,
    ship,
)
from runner.targets.ec2.launch.shipping import Progress
from runner.targets.ec2.launch.user_data import user_data
from runner.targets.ec2.observe.machines import Owned
from runner.targets.ec2.observe.queue_machines import RECENT
from runner.targets.ec2.queue_ref import QueueRef


@dataclass(frozen=True, slots=True)
class Launched:
    """``candidate``: None where a machine was found that an earlier try had launched."""

    launch: Launch
    machine: Machine
    candidate: InstanceCandidate | None = None


class _Noted:
    """A launch with the request that it was sent last: on the disk before it is sent."""

    def __init__(self, launches: Launches, launch: Launch) -> None:
        self._launches = launches
        self.launch = launch

    def __call__(self, asked: SentRequest) -> None:
        """Raises StateError."""
        self.launch = self.launch.having(asked=asked)
        self._launches.write(self.launch)


class Launcher:
    """All that a launch does to the world. ``pause`` sleeps."""

    def __init__(
        self,
        ec2: Ec2,
        bucket: LaunchBucket,
        launches: Launches,
        guard: LaunchGuard,
        say: Say,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ec2 = ec2
        self._bucket = bucket
        self._guard = guard
        self._launches = launches
        self._say = say
        self._requester = InstanceRequester(
            Ec2(ec2.region, attempts=1), ec2, say, pause, guard.renew
        )

    # -- what is there already ---------------------------------------------------------------

    def taken_up(self, before: Launch) -> Launched | None:
        """What a cut-off launch of the same command has come to, if it has come to anything.

        A request that may still be under way is sent again as it was, under its token.
        """
        own = self._ec2.machines({names.LAUNCH: before.launch}, ALIVE)
        if own:
            return Launched(self._taken_up(before, own[0]), own[0])
        if before.asked is None:
            return None
        if time.time() - before.asked.at > RECENT:
            self._cancel_left(before)  # of a launch that nothing else goes on with
            return None
        if not self._guard.take_up(before):
            return None
        self._say(f"going on with launch {before.launch}, which was cut off")
        noted = _Noted(self._launches, before)
        answer = self._requester.ask(before.asked, noted, sent_before=True)
        if isinstance(answer, Machine) and not answer.gone:
            return Launched(self._taken_up(noted.launch, answer), answer)
        self._cancel_left(noted.launch)
        self._nothing_came_of(noted.launch)
        return None

    def probe(
        self, wanted: LaunchRequest, facts: Facts, tried: tuple[InstanceCandidate, ...]
    ) -> tuple[tuple[InstanceCandidate, ...], list[str]]:
        """The candidates that EC2 doesn't refuse at once, and a note on each that it does.

        Raises LaunchRefusedError if none is left.
        """
        now = time.time()
        some = Launch("probe", "s3://probe", facts.region, new_launch(now), now, now + 3600)
        refusals: list[tuple[InstanceCandidate, AwsError]] = []
        while tried:
            error = self._requester.probe(_request(wanted, facts, tried[0], some, 1, b""))
            if error is None:
                return tried, [f"not tried: {line(*refusal)}" for refusal in refusals]
            refusals.append((tried[0], error))
            tried = left_after(error, tried[0], tried, facts.types)
        raise LaunchRefusedError(summary(wanted, refusals))

    # -- the launch --------------------------------------------------------------------------

    def ship(
        self,
        tried: tuple[InstanceCandidate, ...],
        payload: Payload,
        progress: Progress,
        before: Launch | None,
    ) -> Shipment:
        """Put into the bucket what a machine is to be given, and how it is asked for.

        ``before``: a launch of the same command that was cut off, and has come to nothing. Raises
        AwsError, UsageError; nothing knows of it yet.
        """
        word = _word(before, time.time())
        return ship(self._bucket, self._ec2.region, word, tried, payload, self._say, progress)

    def begin(
        self, wanted: LaunchRequest, queue_id: str, store: str, digest: str, shipment: Shipment,
        before: Launch | None,
    ) -> Launch:  # fmt: skip
        """Remember, on this laptop only, what is about to be launched; ``before`` as in ``ship``.

        Raises StateError, ConflictError where another command's request is in doubt.
        """
        if before is not None and before.launch != shipment.launch:
            self.record_seen(before)
        self._see_no_doubt(QueueRef(queue_id, store), digest)
        now = time.time()
        launch = Launch(
            queue_id=queue_id,
            store=store,
            region=self._ec2.region,
            launch=shipment.launch,
            launched_at=now,
            expires=_expires(now, wanted),
            digest=digest,
            options_sha256=shipment.options_sha256,
        )
        self._launches.write(launch)
        return launch

    def _see_no_doubt(self, queue: QueueRef, digest: str) -> None:
        """Its record is all that leads to the machine of a request whose answer was lost."""
        own = self._launches.read(queue)
        if own is None or not own.open or own.asked is None or own.digest == digest:
            return
        if own.instance_id is None and time.time() - own.asked.at < RECENT:
            raise ConflictError(
                f"launch {own.launch} of '{queue.queue_id}' was cut off, and what came of it isn't "
                "known yet\nthe same command again, with its flags, goes on with it; any other: in "
                f"{format_duration(RECENT)}"
            )

    def ask(
        self,
        launch: Launch,
        wanted: LaunchRequest,
        facts: Facts,
        tried: tuple[InstanceCandidate, ...],
        shipment: Shipment,
    ) -> Launched:  # fmt: skip
        """Claim the queue, and ask EC2.

        Raises LaunchRefusedError with EC2's words if every candidate was refused, UnclearError,
        ConflictError, AwsError, StateError.
        """
        # Its time counts from here: to send the bundle, or to end another machine, took a while.
        now = time.time()
        launch = launch.having(launched_at=now, expires=_expires(now, wanted))
        self._launches.write(launch)
        boots = {
            arch: user_data(boot_config(wanted, launch, self._bucket, bundle, shipment))
            for arch, bundle in shipment.bundles.items()
        }
        self._guard.claim(launch)
        try:
            return self._ask_in_turn(launch, wanted, facts, tried, lambda c: boots[bundle_arch(c)])
        except LaunchRefusedError:
            self._nothing_came_of(launch)
            raise

    def _ask_in_turn(
        self,
        launch: Launch,
        wanted: LaunchRequest,
        facts: Facts,
        tried: tuple[InstanceCandidate, ...],
        boot_of: Callable[[InstanceCandidate], bytes],
    ) -> Launched:  # fmt: skip
        refusals: list[tuple[InstanceCandidate, AwsError]] = []
        noted = _Noted(self._launches, launch)
        number = 0
        while tried:
            candidate = tried[0]
            if refusals:
                self._say(line(*refusals[-1]))
                self._say(f"trying {candidate}")
            answer: Machine | InstanceRefused | TokenTaken = TokenTaken()
            while isinstance(answer, TokenTaken):
                number += 1
                made = _request(wanted, facts, candidate, launch, number, boot_of(candidate))
                asked = SentRequest(number, time.time(), made)
                answer = self._requester.ask(asked, noted)
            if isinstance(answer, Machine):
                if answer.gone:
                    raise LaunchRefusedError(
                        f"EC2 launched {answer.instance_id}, and it has ended already: "
                        f"{answer.why or 'EC2 does not say why'}"
                    )
                return Launched(self._settled(noted.launch, answer), answer, candidate)
            refusals.append((candidate, answer.error))
            tried = left_after(answer.error, candidate, tried, facts.types)
            if candidate.market == SPOT:
                self._cancel_left(launch)
        raise LaunchRefusedError(summary(wanted, refusals))

    def _cancel_left(self, launch: Launch) -> None:
        """A persistent spot request that stayed open would launch a machine some day."""
        mine = {"Name": f"tag:{names.LAUNCH}", "Values": [launch.launch]}
        try:
            left = [each.request_id for each in self._ec2.spot_requests(Filters=[mine])
                    if each.alive and each.instance_id is None]  # fmt: skip
            self._ec2.cancel_spot(left)
        except AwsError as error:
            self._say(f"whether a spot request is left can't be seen: {error}; `runner reap` looks")

    def _nothing_came_of(self, launch: Launch) -> None:
        with suppress(AwsError, ClaimedError):  # others then wait for a while before they launch
            self._guard.settle(launch, "nothing was launched")
        try:
            self.record_seen(launch)
        except StateError as error:
            self._say(f"that nothing was launched can't be recorded here: {error}")

    def finish(self, launch: Launch, machine: Machine) -> Launch:
        """Remember the machine, here and in the bucket. Without either it is found by tag.

        Raises ClaimedError if another launch has claimed the queue since.
        """
        launch = launch.having(instance_id=machine.instance_id)
        try:
            self._launches.write(launch)
        except StateError as error:
            self._say(f"{machine.instance_id} can't be recorded here: {error}")
        try:
            self._guard.settle(launch)
        except AwsError as error:
            self._say(f"the bucket's index could not be written ({error}): EC2's tags tell too")
        return launch

    def _taken_up(self, before: Launch, machine: Machine) -> Launch:
        """As ``finish``, of a launch that was cut off. Raises ConflictError."""
        try:
            return self.finish(before, machine)
        except ClaimedError as error:
            raise ConflictError(
                f"{machine.instance_id} was launched here, and another launch has claimed "
                f"'{before.queue_id}' since ({error.by.claim}): `runner ls` shows both; end one"
            ) from error

    def _settled(self, launch: Launch, machine: Machine) -> Launch:
        """As ``finish``; but a machine of a moment ago, for a queue that another launch has claimed
        while this computer slept, is ended: nothing is lost with it. Raises ConflictError."""
        try:
            return self.finish(launch, machine)
        except ClaimedError as error:
            own = Agreed(named=[launch.ref], lines={})
            ended = end(self._ec2, Owned(self._ec2.region, machine), own)
            for note in ended.notes:
                self._say(note)
            with suppress(StateError):
                self.record_seen(launch)
            again = f"end it: runner terminate {machine.instance_id}"
            came = (
                f"could not be ended: {ended.error}\n{again}" if ended.error else "was ended again"
            )
            raise ConflictError(
                f"another launch has claimed '{launch.queue_id}' meanwhile ({error.by.claim}): "
                f"{machine.instance_id}, which was launched here, {came}"
            ) from error

    def record_seen(self, launch: Launch) -> None:
        """The user knows: the same command again is another launch. Raises StateError."""
        self._launches.write(replace(launch, open=False, asked=None))


def _request(
    wanted: LaunchRequest,
    facts: Facts,
    candidate: InstanceCandidate,
    launch: Launch,
    number: int,
    boot: bytes,
) -> dict[str, Any]:
    return request(
        wanted,
        candidate,
        profile=facts.profile,
        tags=tags(
            wanted, launch.launch, launch.queue_id, launch.store, launch.expires, candidate.price
        ),
        token=token(launch.launch, number),
        expires=launch.expires,
        user_data=boot,
    )


def new_launch(now: float) -> str:
    """A word that no other launch has; they sort by time."""
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def _word(before: Launch | None, now: float) -> str:
    """A launch that was cut off before it asked EC2 for anything is gone on with: its claim of the
    queue stands. One of long ago isn't, for what came after it has the later word."""
    if before is not None and before.asked is None and 0 <= now - before.launched_at < RECENT:
        return before.launch
    return new_launch(now)


def new_queue_id(now: float) -> str:
    """For a document without one."""
    return f"queue-{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}"


def _expires(now: float, wanted: LaunchRequest) -> float:
    return float(int(now + wanted.max_lifetime))
