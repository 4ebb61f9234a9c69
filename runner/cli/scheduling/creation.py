"""One call of `schedule create`: what is asked, shown and done, in order."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.aws.clients import region_of
from runner.aws.ec2 import Ec2
from runner.aws.scheduler import Schedule, Schedules
from runner.cli.launching.payload import Workdir, bundles, packed
from runner.cli.scheduling import schedule_text
from runner.cli.show import launch_text
from runner.cli.show.progress import progress_bar
from runner.cli.show.text import clean
from runner.cli.verbs.launch import read_launch
from runner.errors import ConflictError, ExitCode, UsageError
from runner.model import lint
from runner.model.document import QueueSpec, dump_document
from runner.model.durations import format_duration
from runner.model.messages import quoted
from runner.model.recurrence.expressions import Cron, Rate, parse_expression
from runner.model.recurrence.firing_times import next_firings, zone_of
from runner.service import runs_here
from runner.service.document_warnings import local_paths
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket, sha256_of
from runner.targets.ec2.launch.estimate import plan_view
from runner.targets.ec2.launch.launch_guard import LaunchGuard
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.launcher import Launcher
from runner.targets.ec2.launch.local_launches import Launches
from runner.targets.ec2.launch.plan import InstanceCandidate, candidates
from runner.targets.ec2.launch.preflight import PreflightFacts, run_preflight
from runner.targets.ec2.launch.shipment import Payload
from runner.targets.ec2.schedules.schedule_account import ScheduleAccount, look_at_account
from runner.targets.ec2.schedules.schedule_creation import (
    ScheduleRequest,
    make_schedule,
    see_it_fits,
)
from runner.targets.ec2.schedules.schedule_input import NOTICES, unfit_tags
from runner.timestamps import rfc3339_seconds

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
"""A queue's id begins with it, and the Scheduler takes 64 characters."""

_SOME_TIME = "2026-11-28T02:00:00Z"

_NO_PART = ("file", "batch_queue", "dry_run", "yes", "json", "wait", "here", "region", "name",
            "subverb", "execute_subverb")  # fmt: skip


def create(arguments: argparse.Namespace) -> int:
    """Raises UsageError with all that is wrong, before anything was touched."""
    if arguments.wait:
        raise UsageError("--wait: is for a launch; a schedule's machines come when it fires")
    if arguments.notify_if_lost:
        raise UsageError("--notify-if-lost: is for a launch; `schedule ls` shows what came of each")
    when, zone = timing(arguments)
    queue, wanted = read_launch(arguments)
    _refuse_choices(wanted)
    name = name_of(arguments, queue)
    _check_places(name, queue)
    call = _Call(arguments, name, queue, wanted, when, zone)
    with packed(arguments.workdir, arguments.include or (), call.say) as workdir:
        call.run(workdir)
    return ExitCode.DONE


def timing(arguments: argparse.Namespace) -> tuple[Cron | Rate, str]:
    """What `--cron` and `--timezone` say. Raises UsageError."""
    errors, when = [], None
    if arguments.cron is None:
        errors.append('--cron: is required, such as "0 2 * * *" or "rate(6 hours)"')
    else:
        try:
            when = parse_expression(arguments.cron)
        except ValueError as error:
            errors.append(f"--cron: {error}")
    zone = arguments.timezone or "UTC"
    try:
        zone_of(zone)
    except ValueError as error:
        errors.append(f"--timezone: {error}")
    if errors:
        raise UsageError("\n".join(errors))
    assert when is not None
    return when, zone


def name_of(arguments: argparse.Namespace, queue: QueueSpec) -> str:
    """Raises UsageError for what can't be one."""
    stem = re.sub(r"[^0-9A-Za-z._-]+", "-", Path(arguments.batch_queue).stem).strip("-._")
    name = arguments.name or queue.queue_id or stem
    if not _NAME.fullmatch(name) or name.startswith(NOTICES):
        raise UsageError(
            f"--name: {quoted(name)} can't be the name of a schedule: up to 64 letters, digits and "
            f"- _ . which begin with a letter or digit, and not with {NOTICES}"
        )
    return str(name)


def _refuse_choices(wanted: LaunchRequest) -> None:
    """One firing is one call to EC2, which takes one of each."""
    errors = []
    if len(wanted.types) > 1:
        errors.append("--instance-type: several types are not for a schedule yet: give one")
    if len(wanted.subnets) > 1:
        errors.append("--subnet: several subnets, or zones, are not for a schedule yet: give one")
    if wanted.fallback:
        errors.append("--fallback-on-demand: is not for a schedule yet: spot, or on demand")
    if tags := unfit_tags(wanted.tags):
        raise UsageError("\n".join(tags))
    if errors:
        why = "a firing is one call to EC2 by EventBridge Scheduler, which tries nothing else"
        raise UsageError("\n".join([*errors, why]))


def _check_places(name: str, queue: QueueSpec) -> None:
    from runner.targets.ec2.launch.firing_document import of_firing

    fired = of_firing(queue, names.fired(name, _SOME_TIME))
    store = f"s3://{queue.result_s3_bucket}/{fired.result_s3_prefix}"
    if len(store) > 256:
        raise UsageError(f"result_s3_prefix: a firing's {store} has more than 256 characters")


class _Call:
    """One call, with valid flags and document."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        name: str,
        queue: QueueSpec,
        wanted: LaunchRequest,
        when: Cron | Rate,
        zone: str,
    ) -> None:
        assert queue.result_s3_bucket is not None
        if not when.aws:
            raise UsageError(
                "--cron: a day of the month and a day of the week together mean either of them, "
                "which EventBridge can't say: make two schedules"
            )
        self._arguments = arguments
        self._name = name
        self._queue = queue.with_id(name)
        self._wanted = wanted
        self._when = when
        self._zone = zone
        self._overlap = arguments.overlap or "allow"
        self._region = region_of(wanted.region)
        self._ec2 = Ec2(self._region)
        self._bucket = LaunchBucket(queue.result_s3_bucket, self._region)
        self._schedules = Schedules(self._region)

    def say(self, line: str) -> None:
        """One line for people."""
        print(f"runner schedule create: {clean(line)}", file=sys.stderr, flush=True)

    def run(self, workdir: Workdir | None) -> None:
        """All of it; nothing is touched before all is known to be right."""
        there = self._schedules.find(self._name)
        facts, account = self._looked()
        asked = self._asked(facts, workdir)
        see_it_fits(asked, account, self._bucket.name, self._region)
        if there is not None:
            self._see_same(there, asked)
            self._tell(there, asked, facts, new=False)
            return
        self._show(asked, facts, account, workdir)
        if self._arguments.dry_run:
            return
        code = workdir.file if workdir is not None else None
        with bundles(self._arguments.bundle, self._region, self.say) as bundle:
            payload = Payload(asked.queue, code, bundle, vars(self._arguments))
            made = make_schedule(
                asked, payload, account, self._bucket, self._region, self.say, progress_bar
            )
        self._tell(made, asked, facts, new=True)

    def _looked(self) -> tuple[PreflightFacts, ScheduleAccount]:
        """As `launch` looks, and at what the Scheduler needs."""
        account = look_at_account(self._region)
        if account.missing:
            told = [f"there is not {each}" for each in account.missing]
            raise UsageError("\n".join([*told, "make them, once: runner setup --schedules"]))
        facts = run_preflight(self._wanted, self._ec2, self._bucket)
        found = [*lint.warnings(self._queue), *local_paths(self._queue)]
        facts.notes += [f"warning: {line}" for line in found]
        facts.notes += runs_here.notes(self._queue, here=False)
        facts.notes += account.notes
        return facts, account

    def _asked(self, facts: PreflightFacts, workdir: Workdir | None) -> ScheduleRequest:
        launches = Launches.of_user(os.environ)
        guard = LaunchGuard(self._ec2, self._bucket, launches)
        launcher = Launcher(self._ec2, self._bucket, launches, guard, self.say)
        tried, notes = launcher.probe(
            self._wanted, facts.facts, candidates(self._wanted, facts.facts)
        )
        facts.notes += notes
        return ScheduleRequest(
            name=self._name,
            queue=self._queue,
            expression=self._when.aws,
            timezone=self._zone,
            overlap=self._overlap,
            wanted=self._wanted,
            candidate=self._chosen(tried, facts),
            profile=facts.facts.profile,
            digest=self._digest(workdir),
        )

    def _chosen(
        self, tried: tuple[InstanceCandidate, ...], facts: PreflightFacts
    ) -> InstanceCandidate:
        first = tried[0]
        if not self._wanted.subnets and len({each.subnet.zone for each in tried}) > 1:
            facts.notes.append(
                f"each firing is in {first.subnet.zone} ({first.subnet.subnet_id}); --subnet "
                "chooses another zone"
            )
        return first

    def _digest(self, workdir: Workdir | None) -> str:
        """What makes two commands the same."""
        given = {key: value for key, value in vars(self._arguments).items() if key not in _NO_PART}
        code = sha256_of(workdir.file) if workdir is not None else None
        told = [self._name, dump_document(self._queue), self._region, given, code]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def _see_same(self, there: Schedule, asked: ScheduleRequest) -> None:
        if there.description != asked.description:
            raise ConflictError(
                f"there is a schedule {self._name} in {self._region} already, made by another "
                f"command: runner schedule show {self._name}\ngive another --name, or delete it "
                f"first: runner schedule delete {self._name}"
            )

    # -- what the user sees ------------------------------------------------------------------

    def _show(
        self,
        asked: ScheduleRequest,
        facts: PreflightFacts,
        account: ScheduleAccount,
        workdir: Workdir | None,
    ) -> None:
        out = sys.stdout if self._arguments.dry_run and not self._arguments.json else sys.stderr
        lines = [
            *schedule_text.when_lines(self._when, self._zone, self._overlap, self._next()),
            *launch_text.plan_lines(
                asked.queue, f"{asked.parent}/{self._name}-TIME", self._wanted, facts.facts,
                (asked.candidate,),
            ),
            *(launch_text.workdir_lines(workdir.choice) if workdir is not None else ()),
        ]  # fmt: skip
        for line in lines:
            print(clean(line), file=out)
        for note in [*facts.notes, *schedule_text.unchecked(asked)]:
            self.say(note)
        if self._arguments.dry_run:
            self.say("nothing was made: --dry-run; EC2 would permit a launch of yours")
            if self._arguments.json:
                print(json.dumps(self._view(asked, facts)))

    def _next(self) -> list[float]:
        now = time.time()
        return next_firings(self._when, zone_of(self._zone), now, 5, now)

    def _view(self, asked: ScheduleRequest, facts: PreflightFacts) -> dict[str, Any]:
        plan = plan_view(self._wanted, facts.facts, (asked.candidate,), asked.queue)
        return {
            "name": self._name,
            "region": self._region,
            "expression": asked.expression,
            "timezone": self._zone,
            "overlap": self._overlap,
            "store": asked.parent,
            "launch": asked.launch,
            "next": [rfc3339_seconds(each) for each in self._next()],
            "plan": plan,
        }

    def _tell(
        self, made: Schedule, asked: ScheduleRequest, facts: PreflightFacts, *, new: bool
    ) -> None:
        if self._arguments.json:
            print(json.dumps({**self._view(asked, facts), "created": new}), flush=True)
            return
        if not new:
            state = "" if made.enabled else ", paused"
            print(f"schedule {self._name} is there already, as asked for{state}")
            return
        print(f"schedule {self._name} in {self._region}: made")
        following = self._next()
        if following:
            local = datetime.fromtimestamp(following[0], zone_of(self._zone))
            print(f"it fires first at {local:%Y-%m-%d %H:%M %Z} ({rfc3339_seconds(following[0])})")
            print(f"its queue is then: {names.fired(self._name, rfc3339_seconds(following[0]))}")
        life = format_duration(self._wanted.max_lifetime)
        print(f"each machine ends by itself, at the latest {life} after its first boot")
        print("May I close my laptop? Yes: nothing of it is needed.")
        print(f"\nrunner schedule show {self._name}\nrunner schedule run-now {self._name}")
