"""Making a schedule: what is shipped for it, and the call that makes it. Blocks.

Shipped first; the Scheduler has it last, with all that its firings need. The word of a schedule is
of what was asked for: the same command after a cut ships the same to the same place.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from runner.aws.scheduler import SCHEDULED_TIME, Schedule, Schedules
from runner.model.document import QueueSpec, dump_document
from runner.model.durations import format_duration
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.launch import run_instances
from runner.targets.ec2.launch.firing_document import parent_of
from runner.targets.ec2.launch.launch_options import NAME as OPTIONS_NAME
from runner.targets.ec2.launch.launch_options import launch_options_of, sha256_of
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.plan import InstanceCandidate
from runner.targets.ec2.launch.shipment import Payload, Say, bundle_arch
from runner.targets.ec2.launch.shipping import Progress, ship_bundles
from runner.targets.ec2.launch.user_data import BootConfig, BootFiring, Shipped, user_data
from runner.targets.ec2.schedules.schedule_account import ScheduleAccount
from runner.targets.ec2.schedules.schedule_input import TARGET, input_of, token_of


@dataclass(frozen=True, slots=True)
class ScheduleRequest:
    """A schedule as it was asked for. ``digest``: of all of it, the command's word."""

    name: str
    queue: QueueSpec
    expression: str
    timezone: str
    overlap: str
    wanted: LaunchRequest
    candidate: InstanceCandidate
    profile: str
    digest: str

    @property
    def launch(self) -> str:
        """Its word. It sorts before those of launches: a machine that resumes a firing is newer."""
        return f"0-{self.digest[:24]}"

    @property
    def parent(self) -> str:
        """``s3://bucket/prefix`` below which each firing has its own store."""
        return f"s3://{self.queue.result_s3_bucket}/{parent_of(self.queue)}"

    @property
    def description(self) -> str:
        """For the console, and for the same command again."""
        return f"runner, queue {self.queue.queue_name[:300]}; asked for as {self.digest}"


def make_schedule(
    asked: ScheduleRequest,
    payload: Payload,
    account: ScheduleAccount,
    bucket: LaunchBucket,
    region: str,
    say: Say,
    progress: Progress,
) -> Schedule:
    """Ship, and have the Scheduler take it. Raises AwsError, UsageError."""
    launch = asked.launch
    document = dump_document(asked.queue.with_id(asked.name)).encode()
    shipped = _put(bucket, names.schedule_key(launch, "queue.json"), document)
    workdir = None
    if payload.workdir is not None:
        assert not isinstance(payload.workdir, Shipped)
        key = names.schedule_key(launch, "workdir.tar.gz")
        with progress() as advance:
            bucket.put_file(key, payload.workdir, advance)
        with open(payload.workdir, "rb") as file:
            workdir = Shipped(key, hashlib.file_digest(file, "sha256").hexdigest())
    options = launch_options_of(payload.flags, region, workdir).encode()
    bucket.put(names.schedule_key(launch, OPTIONS_NAME), options)
    arch = bundle_arch(asked.candidate)
    bundle = ship_bundles(bucket, [arch], payload.bundle, say, progress)[arch]
    boot = boot_of(asked, bucket.name, bucket.region or region, bundle, shipped, workdir)
    made = schedule_of(asked, account, boot, sha256_of(options))
    Schedules(region).create(made, token=launch)
    return made


def _put(bucket: LaunchBucket, key: str, data: bytes) -> Shipped:
    bucket.put(key, data)
    return Shipped(key, hashlib.sha256(data).hexdigest())


def boot_of(
    asked: ScheduleRequest,
    bucket: str,
    region: str,
    bundle: Shipped,
    document: Shipped,
    workdir: Shipped | None,
) -> BootConfig:
    """What the machine of each firing is told."""
    wanted = asked.wanted
    settings = {"on_complete": wanted.on_complete}
    if wanted.keep_on_failure is not None:
        settings["keep_on_failure"] = format_duration(wanted.keep_on_failure)
    if wanted.job_user is not None:
        settings["job_user"] = wanted.job_user
    lifetime = int(wanted.max_lifetime)
    return BootConfig(
        region=region,
        bucket=bucket,
        launch=asked.launch,
        queue_id=asked.name,
        bundle=bundle,
        document=document,
        workdir=workdir,
        settings=settings,
        expires=0,
        keep_on_failure=int(wanted.keep_on_failure or 0),
        firing=BootFiring(asked.name, parent_of(asked.queue), asked.overlap, lifetime),
    )


def schedule_of(
    asked: ScheduleRequest, account: ScheduleAccount, boot: BootConfig, options_sha256: str
) -> Schedule:
    """The schedule as the Scheduler is given it. Pure. Raises UsageError for what is too large."""
    request = run_instances.request(
        asked.wanted,
        asked.candidate,
        profile=asked.profile,
        tags=tags_of(asked, options_sha256),
        token=token_of(asked.launch),
        expires=0.0,
        user_data=user_data(boot),
    )
    return Schedule(
        name=asked.name,
        expression=asked.expression,
        target=TARGET,
        role=account.role,
        input=input_of(request),
        timezone=asked.timezone,
        dead_letters=account.dead_letters,
        description=asked.description,
    )


def see_it_fits(asked: ScheduleRequest, account: ScheduleAccount, bucket: str, region: str) -> None:
    """See that EC2 and the Scheduler would take it, before anything is shipped. Raises
    UsageError."""
    # Hashes that no compression shortens, and keys as long as they will be.
    some = hashlib.sha256(asked.digest.encode()).hexdigest()
    bundle = Shipped(names.bundle_key(some, bundle_arch(asked.candidate)), some)
    document = Shipped(names.schedule_key(asked.launch, "queue.json"), some[::-1])
    workdir = Shipped(names.schedule_key(asked.launch, "workdir.tar.gz"), f"{some[7:]}{some[:7]}")
    boot = boot_of(asked, bucket, region, bundle, document, workdir)
    schedule_of(asked, account, boot, some)


def tags_of(asked: ScheduleRequest, options_sha256: str) -> dict[str, str]:
    """What every resource of a firing bears: see names.machine_tags."""
    made = run_instances.tags(
        asked.wanted, asked.launch, asked.name, asked.parent, 0.0, asked.candidate.price
    )
    del made[names.EXPIRES]
    return {
        **made,
        "Name": f"{asked.name}-{SCHEDULED_TIME}",
        names.FIRING: SCHEDULED_TIME,
        names.LIFETIME: str(int(asked.wanted.max_lifetime)),
        names.OPTIONS: options_sha256,
        names.OVERLAP: asked.overlap,
        **asked.wanted.tags,
    }
