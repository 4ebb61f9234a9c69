"""One launch, from what was asked for to a machine: in an order that a cut at any point can't harm.

Shipped first, then remembered (here and in the bucket), then EC2 is asked; each request is on the
disk before it is sent. The same command after a cut goes on from what is remembered.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.aws.ec2 import ALIVE, Ec2, Machine
from runner.aws.faults import AwsError
from runner.core.again import RESUMED, Again
from runner.model.document import Queue
from runner.model.durations import format_duration
from runner.results.layout import Layout
from runner.results.stores import parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import Bucket
from runner.targets.ec2.ground import RECENT, Ground
from runner.targets.ec2.launches import Asked, Launch, Launches
from runner.targets.ec2.plan import BUNDLE_ARCH, SPOT, Candidate, Facts
from runner.targets.ec2.recipe import NAME as RECIPE
from runner.targets.ec2.recipe import recipe_of, sha256_of
from runner.targets.ec2.records import publish
from runner.targets.ec2.refusals import left_after, line, summary
from runner.targets.ec2.request import request, tags, token
from runner.targets.ec2.requesting import Asker, Refused, RefusedError, TokenTaken
from runner.targets.ec2.shipping import Progress, ship_bundles, ship_document, ship_workdir
from runner.targets.ec2.user_data import Boot, Shipped, user_data
from runner.targets.ec2.wish import Wish

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cargo:
    """What a launch ships. ``bundle``: builds, or finds, the bundle of an architecture.

    ``flags``: as they were given, for a replacement (see Recipe). ``again``: how a run that is
    stored is mended.
    """

    queue: Queue
    workdir: Path | Shipped | None
    bundle: Callable[[str], Path]
    flags: Mapping[str, Any] = field(default_factory=dict)
    again: Again = RESUMED


@dataclass(frozen=True, slots=True)
class Launched:
    """``candidate``: None where a machine was found that an earlier try had launched."""

    launch: Launch
    machine: Machine
    candidate: Candidate | None = None


class _Noted:
    """A launch with the request that it was sent last: on the disk before it is sent."""

    def __init__(self, launches: Launches, launch: Launch) -> None:
        self._launches = launches
        self.launch = launch

    def __call__(self, asked: Asked) -> None:
        """Raises StateError."""
        self.launch = self.launch.having(asked=asked)
        self._launches.write(self.launch)


class Launcher:
    """All that a launch does to the world. ``pause`` sleeps."""

    def __init__(
        self,
        ec2: Ec2,
        bucket: Bucket,
        launches: Launches,
        ground: Ground,
        say: Say,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ec2 = ec2
        self._bucket = bucket
        self._ground = ground
        self._launches = launches
        self._say = say
        self._asker = Asker(Ec2(ec2.region, attempts=1), ec2, say, pause)

    # -- what is there already ---------------------------------------------------------------

    def taken_up(self, before: Launch) -> Launched | None:
        """What a cut-off launch of the same command has come to, if it has come to anything.

        A request that may still be under way is sent again as it was, under its token.
        """
        own = self._ec2.machines({names.LAUNCH: before.launch}, ALIVE)
        if own:
            return Launched(self.finish(before, own[0]), own[0])
        if before.asked is None or time.time() - before.asked.at > RECENT:
            return None
        self._say(f"going on with launch {before.launch}, which was cut off")
        noted = _Noted(self._launches, before)
        answer = self._asker.ask(before.asked, noted, sent_before=True)
        if isinstance(answer, Machine) and not answer.gone:
            return Launched(self.finish(noted.launch, answer), answer)
        return None

    def probe(
        self, wish: Wish, facts: Facts, tried: tuple[Candidate, ...]
    ) -> tuple[tuple[Candidate, ...], list[str]]:
        """The candidates that EC2 doesn't refuse at once, and a note on each that it does.

        Raises RefusedError if none is left.
        """
        now = time.time()
        some = Launch("probe", "s3://probe", facts.region, new_launch(now), now, now + 3600)
        refusals: list[tuple[Candidate, AwsError]] = []
        while tried:
            error = self._asker.probe(_request(wish, facts, tried[0], some, 1, b""))
            if error is None:
                return tried, [f"not tried: {line(*refusal)}" for refusal in refusals]
            refusals.append((tried[0], error))
            tried = left_after(error, tried[0], tried, facts.types)
        raise RefusedError(summary(wish, refusals))

    # -- the launch --------------------------------------------------------------------------

    def begin(
        self, wish: Wish, queue_id: str, store: str, digest: str, before: Launch | None
    ) -> Launch:
        """Remember, on this laptop only, that it begins; ``before`` has come to nothing."""
        if before is not None:
            self.told(before)
        now = time.time()
        launch = Launch(
            queue_id=queue_id,
            store=store,
            region=self._ec2.region,
            launch=new_launch(now),
            launched_at=now,
            expires=float(int(now + wish.max_lifetime)),
            digest=digest,
        )
        self._launches.write(launch)
        return launch

    def run(
        self, launch: Launch, wish: Wish, facts: Facts, tried: tuple[Candidate, ...], cargo: Cargo,
        progress: Progress,
    ) -> Launched:  # fmt: skip
        """Ship, remember, ask. Raises RefusedError with EC2's words if nothing could be had,
        UnclearError, AwsError, UsageError."""
        arches = {candidate.type: _arch(candidate) for candidate in tried}
        document = ship_document(self._bucket, launch.launch, cargo.queue)
        workdir = ship_workdir(self._bucket, launch.launch, cargo.workdir, progress)
        recipe = recipe_of(cargo.flags, self._ec2.region, workdir).encode()
        self._bucket.put(names.launch_key(launch.launch, RECIPE), recipe)
        launch = launch.having(recipe=sha256_of(recipe))
        bundles = ship_bundles(self._bucket, arches.values(), cargo.bundle, self._say, progress)
        boots = {
            arch: user_data(boot(wish, launch, self._bucket, bundle, document, workdir, cargo))
            for arch, bundle in bundles.items()
        }
        self._ground.claim(launch)
        try:
            return self._ask_in_turn(launch, wish, facts, tried, lambda c: boots[arches[c.type]])
        except RefusedError:
            self._nothing_came_of(launch)
            raise

    def _ask_in_turn(
        self, launch: Launch, wish: Wish, facts: Facts, tried: tuple[Candidate, ...],
        boot_of: Callable[[Candidate], bytes],
    ) -> Launched:  # fmt: skip
        refusals: list[tuple[Candidate, AwsError]] = []
        noted = _Noted(self._launches, launch)
        number = 0
        while tried:
            candidate = tried[0]
            if refusals:
                self._say(line(*refusals[-1]))
                self._say(f"trying {candidate}")
            answer: Machine | Refused | TokenTaken = TokenTaken()
            while isinstance(answer, TokenTaken):
                number += 1
                made = _request(wish, facts, candidate, launch, number, boot_of(candidate))
                asked = Asked(number, time.time(), made)
                answer = self._asker.ask(asked, noted)
            if isinstance(answer, Machine):
                return Launched(self.finish(noted.launch, answer), answer, candidate)
            refusals.append((candidate, answer.error))
            tried = left_after(answer.error, candidate, tried, facts.types)
            if candidate.market == SPOT:
                self._cancel_left(launch)
        raise RefusedError(summary(wish, refusals))

    def _cancel_left(self, launch: Launch) -> None:
        """A persistent request that stayed open would launch a machine some day."""
        mine = {"Name": f"tag:{names.LAUNCH}", "Values": [launch.launch]}
        try:
            left = [each.request_id for each in self._ec2.spot_requests(Filters=[mine])
                    if each.alive and each.instance_id is None]  # fmt: skip
            self._ec2.cancel_spot(left)
        except AwsError as error:
            self._say(f"whether a spot request is left can't be seen: {error}; `runner reap` looks")

    def _nothing_came_of(self, launch: Launch) -> None:
        self.told(launch)
        with suppress(AwsError):  # others then wait for a while before they launch
            publish(self._bucket, launch.record, outcome="nothing was launched")

    def finish(self, launch: Launch, machine: Machine) -> Launch:
        """Remember the machine, here and in the bucket. Without the latter it is found by tag."""
        launch = launch.having(instance_id=machine.instance_id)
        self._launches.write(launch)
        try:
            publish(self._bucket, launch.record)
        except AwsError as error:
            self._say(f"the bucket's index could not be written ({error}): EC2's tags tell too")
        return launch

    def told(self, launch: Launch) -> None:
        """The user knows: the same command again is another launch."""
        self._launches.write(replace(launch, open=False, asked=None))


def _request(
    wish: Wish, facts: Facts, candidate: Candidate, launch: Launch, number: int, boot: bytes
) -> dict[str, Any]:
    return request(
        wish,
        candidate,
        profile=facts.profile,
        tags=tags(
            wish, launch.launch, launch.queue_id, launch.store, launch.expires, candidate.price
        ),
        token=token(launch.launch, number),
        expires=launch.expires,
        user_data=boot,
    )


def boot(
    wish: Wish, launch: Launch, bucket: Bucket, bundle: Shipped, document: Shipped,
    workdir: Shipped | None, cargo: Cargo,
) -> Boot:  # fmt: skip
    """What the machine is told. Its lifetime it reckons from ``expires``."""
    settings = {"on_complete": wish.on_complete}
    if wish.keep_on_failure is not None:
        settings["keep_on_failure"] = format_duration(wish.keep_on_failure)
    if wish.job_user is not None:
        settings["job_user"] = wish.job_user
    return Boot(
        region=bucket.region or launch.region,
        bucket=bucket.name,
        launch=launch.launch,
        queue_id=launch.queue_id,
        bundle=bundle,
        document=document,
        workdir=workdir,
        settings=settings,
        expires=int(launch.expires),
        keep_on_failure=int(wish.keep_on_failure or 0),
        state_key=f"{parse_s3(launch.store)[1]}/{Layout().state_key}",
        again=cargo.again.flags.split(),
    )


def new_launch(now: float) -> str:
    """A word that no other launch has; they sort by time."""
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def new_queue_id(now: float) -> str:
    """For a document without one."""
    return f"queue-{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}"


def _arch(candidate: Candidate) -> str:
    return BUNDLE_ARCH.get(candidate.image.arch, candidate.image.arch)
