"""What a launch puts into the bucket, and what its machine is told of it.

Owns which objects those are. Nothing refers to them until the launch is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.core.run_mode import RESUMED, RunMode
from runner.model.document import QueueSpec
from runner.model.durations import format_duration
from runner.results.layout import Layout
from runner.results.stores import parse_s3
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.launch.launch_options import NAME as OPTIONS_NAME
from runner.targets.ec2.launch.launch_options import launch_options_of, sha256_of
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.local_launches import Launch
from runner.targets.ec2.launch.plan import BUNDLE_ARCH, InstanceCandidate
from runner.targets.ec2.launch.shipping import Progress, ship_bundles, ship_document, ship_workdir
from runner.targets.ec2.launch.user_data import BootConfig, Shipped

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Payload:
    """What a launch ships. ``bundle``: builds, or finds, the bundle of an architecture.

    ``flags``: as they were given, for a replacement (see LaunchOptions). ``again``: how a stored
    run is resumed.
    """

    queue: QueueSpec
    workdir: Path | Shipped | None
    bundle: Callable[[str], Path]
    flags: Mapping[str, Any] = field(default_factory=dict)
    again: RunMode = RESUMED


@dataclass(frozen=True, slots=True)
class Shipment:
    """What is in the bucket for one launch. ``launch``: its id.

    ``options_sha256``: of its launch.json. ``bundles``: by architecture. ``again``: the
    flags with which a stored run is resumed.
    """

    launch: str
    document: Shipped
    workdir: Shipped | None
    options_sha256: str
    bundles: Mapping[str, Shipped]
    again: tuple[str, ...]


def ship(
    bucket: LaunchBucket,
    region: str,
    launch: str,
    candidates: Sequence[InstanceCandidate],
    payload: Payload,
    say: Say,
    progress: Progress,
) -> Shipment:
    """Put into the bucket what a machine of any of these candidates is given.

    Raises AwsError, UsageError.
    """
    document = ship_document(bucket, launch, payload.queue)
    workdir = ship_workdir(bucket, launch, payload.workdir, progress)
    options = launch_options_of(payload.flags, region, workdir).encode()
    bucket.put(names.launch_key(launch, OPTIONS_NAME), options)
    arches = {bundle_arch(candidate) for candidate in candidates}
    bundles = ship_bundles(bucket, arches, payload.bundle, say, progress)
    again = tuple(payload.again.flags.split())
    return Shipment(launch, document, workdir, sha256_of(options), bundles, again)


def boot_config(
    wanted: LaunchRequest, launch: Launch, bucket: LaunchBucket, bundle: Shipped, shipment: Shipment
) -> BootConfig:
    """What the machine is told. It computes its lifetime from ``expires``."""
    settings = {"on_complete": wanted.on_complete}
    if wanted.keep_on_failure is not None:
        settings["keep_on_failure"] = format_duration(wanted.keep_on_failure)
    if wanted.job_user is not None:
        settings["job_user"] = wanted.job_user
    if wanted.notify_if_lost:
        settings["lost_notice"] = "true"
    return BootConfig(
        region=bucket.region or launch.region,
        bucket=bucket.name,
        launch=launch.launch,
        queue_id=launch.queue_id,
        bundle=bundle,
        document=shipment.document,
        workdir=shipment.workdir,
        settings=settings,
        expires=int(launch.expires),
        keep_on_failure=int(wanted.keep_on_failure or 0),
        state_key=f"{parse_s3(launch.store)[1]}/{Layout().state_key}",
        again=list(shipment.again),
    )


def bundle_arch(candidate: InstanceCandidate) -> str:
    """The architecture of the bundle that a candidate needs."""
    return BUNDLE_ARCH.get(candidate.image.arch, candidate.image.arch)
