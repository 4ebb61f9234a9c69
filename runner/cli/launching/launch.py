"""One call of `launch`: what is asked, shown and done, in order."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from runner.aws.clients import region_of
from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError
from runner.cli import options
from runner.cli.launching import payload
from runner.cli.launching.payload import Workdir, bundles
from runner.cli.show import launch_text
from runner.cli.show.progress import progress_bar
from runner.cli.show.text import clean
from runner.errors import RunnerError, StateError, UsageError
from runner.model import lint
from runner.model.document import QueueSpec, dump_document
from runner.results.stores import open_store
from runner.service import runs_here
from runner.service.document_warnings import local_paths
from runner.service.result_stores import wanted
from runner.service.resume_from_store import look
from runner.targets.ec2.bucket import LaunchBucket, sha256_of
from runner.targets.ec2.index import Index
from runner.targets.ec2.launch.estimate import plan_view
from runner.targets.ec2.launch.launch_guard import LaunchGuard
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.launcher import Launched, Launcher, new_queue_id
from runner.targets.ec2.launch.local_launches import Launch, Launches
from runner.targets.ec2.launch.plan import InstanceCandidate, candidates
from runner.targets.ec2.launch.preflight import PreflightFacts, run_preflight
from runner.targets.ec2.launch.shipment import Payload
from runner.targets.ec2.launch.user_data import Shipped
from runner.targets.ec2.observe.queue_standing import QueueStanding
from runner.targets.ec2.queue_ref import QueueRef
from runner.timestamps import rfc3339_seconds

MOST_STORE = 256
"""Characters: where results go is a tag of the machine (EC2 User Guide, "Tag restrictions")."""

_NO_PART = ("batch_queue", "wait", "dry_run", "yes", "json", "end_others")
"""Flags that make a command no other command."""


class UntoldError(RunnerError):
    """A machine was launched, and could not be told or recorded as it should be."""


class Launching:
    """One call, with valid flags and document. ``queue`` gets its id where it has none."""

    verb = "launch"

    asks = False
    """Whether a person at a terminal is asked first: `--dry-run` is what shows the plan only."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        queue: QueueSpec,
        wanted: LaunchRequest,
        launches: Launches,
    ) -> None:
        assert queue.result_s3_bucket is not None
        self._arguments = arguments
        self._wanted = wanted
        self._ec2 = Ec2(region_of(wanted.region))
        self._bucket = LaunchBucket(queue.result_s3_bucket, self._ec2.region)
        self._guard = LaunchGuard(self._ec2, self._bucket, launches)
        self._launcher = Launcher(self._ec2, self._bucket, launches, self._guard, self.say)
        self._digest = ""
        self._launches = launches
        self._before: Launch | None = None
        self._queue = queue
        self._begun = False
        self._waited = False
        """Whether the queue's lease was waited for."""
        self._again = options.again(arguments)
        self._workdir: Workdir | None = None

    def say(self, line: str) -> None:
        """One line for people."""
        print(f"runner {self.verb}: {clean(line)}", file=sys.stderr, flush=True)

    def run(self) -> Launched | None:
        """None where nothing was to be launched, or the user said no."""
        try:
            given = self._arguments
            with payload.packed(given.workdir, given.include or (), self.say) as workdir:
                self._workdir = workdir
                packed = workdir.file if workdir is not None else None
                self._digest = _digest(given, self._queue, self._ec2.region, packed)
                with self._launches.locked(self._ref if self._queue.queue_id else self._digest):
                    return self._run(packed)
        except KeyboardInterrupt:
            if self._begun:
                self.say("cut off; the same command again goes on, and launches nothing twice")
            else:
                self.say("cut off: nothing was launched")
            raise

    def _run(self, packed: Path | None) -> Launched | None:
        self._before = self._launches.unfinished(self._digest)
        if (done := self._taken_up()) is not None:
            self._tell_if_lost(done)
            self._tell(done, None)
            return done
        self._queue = self._queue.with_id(self._queue.queue_id or self._new_id())
        facts, tried = self._looked()
        self._show(facts, tried)
        if self._arguments.dry_run:
            return None
        if not self._agreed():
            self.say("nothing was launched")
            return None
        done = self._launch(facts, tried, packed)
        self._tell_if_lost(done)
        self._tell(done, self._plan(facts, tried))
        return done

    def _tell_if_lost(self, done: Launched) -> None:
        """Repeated for a launch that was cut off: what is there already stays."""
        if self._wanted.notify_if_lost:
            from runner.targets.ec2.launch.lost_notice import place

            queue = self._queue.with_id(done.launch.queue_id)
            place(queue, done.launch, self._ec2.region, self.say)

    def _taken_up(self) -> Launched | None:
        """What a cut-off launch of the same command has come to."""
        if self._before is None or self._arguments.dry_run:
            return None
        self._begun = True
        done = self._launcher.taken_up(self._before)
        if done is None:
            self._begun = False
        return done

    def _looked(self) -> tuple[PreflightFacts, tuple[InstanceCandidate, ...]]:
        """Everything that can be wrong is seen here; nothing has been touched."""
        facts = run_preflight(self._wanted, self._ec2, self._bucket)
        found = [*lint.warnings(self._queue), *local_paths(self._queue)]
        facts.notes += [f"warning: {line}" for line in found]
        facts.notes += runs_here.notes(self._queue, here=False)
        facts.notes += [
            f"launch {each.launch} of '{each.queue_id}' was cut off at "
            f"{rfc3339_seconds(each.launched_at)} and may have a machine: `runner ls` shows it"
            for each in self._launches.cut_off(self._digest)
        ]
        tried = candidates(self._wanted, facts.facts)
        if self._arguments.bundle and len({each.image.arch for each in tried}) > 1:
            raise UsageError(
                "--bundle: the types are x86_64 and arm64, and a bundle is for one of them"
            )
        self._stand(facts)
        tried, notes = self._launcher.probe(self._wanted, facts.facts, tried)
        facts.notes += notes
        return facts, tried

    def _stand(self, facts: PreflightFacts) -> None:
        """See that the queue may be launched. Raises ConflictError."""
        again = self._again
        standing = self._guard.check(
            self._ref, self._digest, mends=again.mends, waited=self._waited
        )
        if standing is not None and again.mends:
            self._see_mendable(standing, facts)
        elif standing is not None:
            facts.notes.append(f"{self._store} has a run of it ({standing.status}): it goes on")

    def _see_mendable(self, standing: QueueStanding, facts: PreflightFacts) -> None:
        """See that the stored run can go on with this document. Raises ConflictError."""
        store = open_store(self._store)
        try:
            look(self._queue, self._again, store, facts.notes.append)
        finally:
            store.close()
        facts.notes.append(f"{self._store} has a run of it ({standing.status}): it is mended")

    def _launch(
        self, facts: PreflightFacts, tried: tuple[InstanceCandidate, ...], packed: Path | None
    ) -> Launched:
        with bundles(self._arguments.bundle, self._ec2.region, self.say) as bundle:
            given = vars(self._arguments)
            payload = Payload(self._queue, self._code(packed), bundle, given, self._again)
            self._begun = True
            shipment = self._launcher.ship(tried, payload, progress_bar, self._before)
        launch = self._launcher.begin(
            self._wanted, self._id, self._store, self._digest, shipment, self._before
        )
        self._make_way(facts)
        return self._launcher.ask(launch, self._wanted, facts.facts, tried, shipment)

    def _make_way(self, facts: PreflightFacts) -> None:
        """What is done before EC2 is asked, once all is shipped and remembered."""

    def _new_id(self) -> str:
        now = time.time()
        while self._is_known(new_queue_id(now)):
            now += 1
        return new_queue_id(now)

    def _is_known(self, queue_id: str) -> bool:
        """Whether another launch has this id, from here or from elsewhere; the index is claimed
        later, by one of two that ask in the same second."""
        queue = QueueRef(queue_id, str(wanted(self._queue.with_id(queue_id)).where))
        if self._launches.records(queue_id):
            return True
        try:
            return Index(self._bucket).read(queue).etag is not None
        except AwsError:
            # The preflight comes next, and says why.
            return False

    def _code(self, packed: Path | None) -> Path | Shipped | None:
        """What the machine's work folder is filled with."""
        return packed

    @property
    def _id(self) -> str:
        assert self._queue.queue_id is not None
        return self._queue.queue_id

    @property
    def _ref(self) -> QueueRef:
        return QueueRef(self._id, self._store)

    @property
    def _store(self) -> str:
        where = str(wanted(self._queue).where)
        if len(where) > MOST_STORE:
            raise UsageError(f"result_s3_prefix: {where} has more than {MOST_STORE} characters")
        return where

    # -- what the user sees ------------------------------------------------------------------

    def _show(self, facts: PreflightFacts, tried: tuple[InstanceCandidate, ...]) -> None:
        """A dry run's answer is the plan; otherwise it is talk."""
        out = sys.stdout if self._arguments.dry_run and not self._arguments.json else sys.stderr
        plan = launch_text.plan_lines(self._queue, self._store, self._wanted, facts.facts, tried)
        workdir = launch_text.workdir_lines(self._workdir.choice) if self._workdir else ()
        for line in (*plan, *workdir):
            print(clean(line), file=out)
        for note in facts.notes:
            self.say(note)
        if self._arguments.dry_run:
            self.say("nothing was launched: --dry-run; EC2 would permit it")
            if self._arguments.json:
                print(json.dumps(self._plan(facts, tried)))

    def _plan(self, facts: PreflightFacts, tried: tuple[InstanceCandidate, ...]) -> dict[str, Any]:
        where: dict[str, Any] = {"queue_id": self._id, "store": self._store}
        if self._workdir is not None:
            where["workdir"] = self._workdir.view(whole=self._arguments.dry_run)
        return {**where, **plan_view(self._wanted, facts.facts, tried, self._queue)}

    def _agreed(self) -> bool:
        if self._arguments.yes or not self.asks or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return True
        print("Go on there? [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _tell(self, done: Launched, plan: dict[str, Any] | None) -> None:
        """Raises UntoldError where the user's output or this laptop's disk can't be written."""
        try:
            if self._arguments.json:
                told = {"plan": plan} if plan else {}
                print(json.dumps({**done.launch.record.plain, **told}), flush=True)
            else:
                for line in launch_text.launched_lines(done):
                    print(clean(line), flush=True)
            # Only now: if the user was not told, the same command tells it.
            self._launcher.record_seen(done.launch)
        except (OSError, StateError) as error:
            raise UntoldError(launch_text.untold(done.launch, error)) from error


def _digest(
    arguments: argparse.Namespace, queue: QueueSpec, region: str, packed: Path | None
) -> str:
    """What makes two commands the same: the document, the flags, the work folder's files."""
    given = {name: value for name, value in vars(arguments).items() if name not in _NO_PART}
    code = sha256_of(packed) if packed else None
    text = json.dumps([dump_document(queue), region, given, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
