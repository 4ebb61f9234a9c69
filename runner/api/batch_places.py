"""AWS Batch in several regions, with fallbacks, as one target: which places there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runner.api.batch_options import LOCAL
from runner.api.batch_target import BatchJobTarget
from runner.api.executor_place import ExecutorPlace
from runner.api.failover import SPOOL
from runner.api.failover_places import FailoverPlace
from runner.api.failover_target import FailoverTarget
from runner.api.job_target import JobListener, JobTarget
from runner.api.local_target import LocalTarget
from runner.aws.clients import region_of
from runner.host.processors import usable_processors

_OF_ALL = ("regions", "fallback")


def open_places(
    place: ExecutorPlace, options: Mapping[str, Any], listener: JobListener
) -> FailoverTarget:
    """``options`` are checked: see ``batch_options``. Raises what FailoverTarget does."""
    common = {name: value for name, value in options.items() if name not in _OF_ALL}
    only = None
    regions = dict(options["regions"])
    if not regions:
        only = region_of(common.get("region") or place.settings.batch.region)
        regions = {only: {}}
    places = [
        _region(place, {**common, **own, "region": name}, name, alone=name == only)
        for name, own in regions.items()
    ]
    for name in options["fallback"]:
        if name == LOCAL:
            places.append(FailoverPlace(LOCAL, None, lambda each: _local(place, each), True))
        elif name != SPOOL:
            given = {**common, "region": name}
            places.append(_region(place, given, name, reserve=True))
    spool = place.settings.state_dir / "spools" / place.queue_id
    return FailoverTarget(
        "batch", places, options["fallback"], spool, listener, durable=place.durable
    )


def _region(
    place: ExecutorPlace,
    options: Mapping[str, Any],
    name: str,
    *,
    alone: bool = False,
    reserve: bool = False,
) -> FailoverPlace:
    """``alone``: its queue is the one that it has without fallbacks."""
    own = place if alone else replace(place, queue_id=f"{place.queue_id}-{name}")

    def opened(listener: JobListener) -> JobTarget:
        return BatchJobTarget(own, options, listener)

    return FailoverPlace(name, name, opened, reserve)


def _local(place: ExecutorPlace, listener: JobListener) -> JobTarget:
    return LocalTarget(
        place.settings,
        f"{place.queue_id}-{LOCAL}",
        listener,
        max_workers=usable_processors(),
        durable=place.durable,
    )
