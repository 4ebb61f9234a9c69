"""The kinds of targets that an Executor can have. Whoever adds one adds a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.api import batch_options, daemon_options, fleet_options
from runner.api.executor_place import ExecutorPlace
from runner.api.job_target import JobListener, JobTarget
from runner.model.messages import did_you_mean, one_of
from runner.model.settings import Settings

OpenTarget = Callable[[ExecutorPlace, Mapping[str, Any], JobListener], JobTarget]
"""Opens a target with checked options. Raises what opening it raises."""


@dataclass(frozen=True, slots=True)
class TargetKind:
    """``options``: the names of those it has. ``check`` makes checked options of those that were
    given, all of known names; raises ValueError or TypeError, naming one. ``open``: see OpenTarget.
    ``durable``: its jobs outlive the process without a ``state_dir``, too.
    ``served``: another process of this machine keeps its queue: that needs no folder of the
    Executor's, and a name to be found again.
    """

    options: tuple[str, ...]
    check: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    open: OpenTarget
    durable: bool = False
    served: bool = False


def _check_local(options: Mapping[str, Any]) -> Mapping[str, Any]:
    count = options.get("max_workers")
    if count is None:
        from runner.host.processors import usable_processors

        return {"max_workers": usable_processors()}
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"max_workers must be a whole number, not {count!r}")
    if count <= 0:
        raise ValueError("max_workers must be greater than 0")
    return {"max_workers": count}


def _open_local(
    place: ExecutorPlace, options: Mapping[str, Any], listener: JobListener
) -> JobTarget:
    from runner.api.local_target import LocalTarget

    return LocalTarget(
        place.settings,
        place.queue_id,
        listener,
        max_workers=options["max_workers"],
        durable=place.durable,
    )


def _open_batch(
    place: ExecutorPlace, options: Mapping[str, Any], listener: JobListener
) -> JobTarget:
    if "fallback" in options:
        from runner.api.batch_places import open_places

        return open_places(place, options, listener)
    from runner.api.batch_target import BatchJobTarget

    return BatchJobTarget(place, options, listener)


def _open_fleet(
    place: ExecutorPlace, options: Mapping[str, Any], listener: JobListener
) -> JobTarget:
    from runner.api.fleet_setup import open_fleet

    return open_fleet(place, options, listener)


def _open_daemon(
    place: ExecutorPlace, options: Mapping[str, Any], listener: JobListener
) -> JobTarget:
    name = place.queue_id if place.named else None
    return daemon_options.open_daemon(options, name, place.state_dir, listener)


TARGETS: dict[str, TargetKind] = {
    "local": TargetKind(("max_workers",), _check_local, _open_local),
    "daemon": TargetKind(
        daemon_options.OPTIONS,
        daemon_options.check_options,
        _open_daemon,
        durable=True,
        served=True,
    ),
    "batch": TargetKind(batch_options.OPTIONS, batch_options.check_options, _open_batch),
    "fleet": TargetKind(fleet_options.OPTIONS, fleet_options.check_options, _open_fleet, True),
}


def check_targets(
    targets: Mapping[str, Mapping[str, Any]], keywords: Iterable[str] = ()
) -> dict[str, Mapping[str, Any]]:
    """The options of each, checked, before anything is opened. Raises ValueError, TypeError.

    ``keywords``: other names that an unknown option may have been meant to be.
    """
    if not targets:
        raise ValueError("targets: must name at least one")
    checked: dict[str, Mapping[str, Any]] = {}
    for kind, options in targets.items():
        if not isinstance(kind, str) or kind not in TARGETS:
            near = did_you_mean(str(kind), TARGETS)
            raise ValueError(f"target: must be {one_of(TARGETS)}, not {kind!r}{near}")
        if not isinstance(options, Mapping):
            raise TypeError(f"targets: {kind}: must be a dict of options, not {options!r}")
        _check_names(kind, options, keywords)
        checked[kind] = TARGETS[kind].check(options)
    return checked


def _check_names(kind: str, options: Mapping[str, Any], keywords: Iterable[str]) -> None:
    known = TARGETS[kind].options
    for name in options:
        if name not in known:
            others = [each for each in keywords if each != name]
            near = did_you_mean(str(name), (*known, *others))
            told = near or f"; there is {one_of(known)}"
            raise TypeError(f'"{name}" is not an option of target "{kind}"{told}')


def open_targets(
    targets: Mapping[str, Mapping[str, Any]], place: ExecutorPlace, listener: JobListener
) -> list[JobTarget]:
    """All of them, in their order; if one can't be opened those before it are closed again."""
    opened: list[JobTarget] = []
    try:
        for kind, options in targets.items():
            opened.append(TARGETS[kind].open(place, options, listener))
    except BaseException:
        for target in opened:
            target.close()
            target.join()
        raise
    return opened


def are_durable(kinds: Iterable[str]) -> bool:
    """Whether the jobs of all of these outlive the process without a ``state_dir``."""
    return all(TARGETS[kind].durable for kind in kinds)


def are_served(kinds: Iterable[str]) -> bool:
    """Whether other processes of this machine keep the queues of all of these."""
    return all(TARGETS[kind].served for kind in kinds)


def code_folder(
    targets: Mapping[str, Mapping[str, Any]], settings: Settings, state_dir: Path | None
) -> Path:
    """Where copies of code are kept, so that jobs can import from them. Raises ValueError."""
    if are_served(targets):
        return daemon_options.code_folder(targets["daemon"], state_dir)
    return settings.state_dir / "code"
