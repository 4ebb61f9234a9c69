"""The rules between the fields of a document, and between its jobs.

Ids are unique, dependencies exist, nothing waits for itself, arrays that go element to element are
of one size, and what a job needs of a pool is there at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runner.model.elements import INDEX
from runner.model.graph import find_cycles
from runner.model.json_reader import JOBS
from runner.model.messages import quoted, step
from runner.model.placement import NO_PLACEMENT, Placement, ResourceSpec
from runner.model.placement_fields import OWN_RESOURCES
from runner.model.queue import JobSpec
from runner.model.validation_errors import Faults

SPELLED = 20
"""How many names of a cycle are written out."""

DEVICE_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "NEURON_RT_VISIBLE_CORES",
)
"""With ``gpus`` they are the runner's to set: two answers to one question would fight."""

_ELEMENTS = "[]"


def check_ids(jobs: Sequence[JobSpec], faults: Faults) -> None:
    """Ids are unique, dependencies exist, and there is no cycle."""
    index: dict[str, int] = {}
    for at, job in enumerate(jobs):
        first = index.setdefault(job.job_id, at)
        if first != at and job.job_id:
            faults.add(
                f"{JOBS}[{at}].job_id", f'"{job.job_id}" is also the id of {faults.place_of(first)}'
            )
    for at, job in enumerate(jobs):
        if job.depends_on:
            place = f"{JOBS}[{at}].depends_on"
            _check_dependencies(job.depends_on, place, index, faults)
            if job.array is not None and job.array.elementwise:
                _check_elements(job, jobs, place, index, faults)
        if job.array is not None:
            _check_log_folder(job, at, index, faults)
            if job.expands is not None:
                told = "an array has no file to expand to: a job behind it may, that waits for all"
                faults.add(f"{JOBS}[{at}].expands", told)
        elif job.input_paths:
            _check_inputs(job, at, faults)
    for cycle in find_cycles(jobs):
        faults.add(f"{JOBS}[{index[cycle[0]]}].depends_on", f"cycle: {spell_cycle(cycle)}")


def _check_dependencies(
    names: tuple[str, ...], place: str, index: Mapping[str, int], faults: Faults
) -> None:
    for at, name in enumerate(names):
        if name in index:
            continue
        whole = name.removesuffix(_ELEMENTS)
        if whole != name and whole in index:
            told = f'needs "array" on this job, too; "{whole}" waits for all of it'
            faults.add(f"{place}[{at}]", f'"{name}" {told}')
        else:
            faults.add(f"{place}[{at}]", f'there is no job "{whole}"', whole, index)
    if len(set(names)) < len(names):
        seen: set[str] = set()
        for at, name in enumerate(names):
            if name in seen:
                faults.add(f"{place}[{at}]", f'"{name}" is named twice')
            seen.add(name)


def _check_elements(
    job: JobSpec, jobs: Sequence[JobSpec], place: str, index: Mapping[str, int], faults: Faults
) -> None:
    """Element to element goes between arrays of one size only."""
    assert job.array is not None
    for at, name in enumerate(job.depends_on):
        if name not in job.array.elementwise or name not in index:
            continue
        other = jobs[index[name]].array
        if other is None:
            told = f'"{name}[]" goes from element to element, and "{name}" is not an array'
            faults.add(f"{place}[{at}]", told)
        elif other.size != job.array.size and other.size and job.array.size:
            sizes = f"{other.size:,} elements, and this job {job.array.size:,}"
            faults.add(f"{place}[{at}]", f'"{name}[]": "{name}" has {sizes}')


def _check_log_folder(job: JobSpec, at: int, index: Mapping[str, int], faults: Faults) -> None:
    """The logs of an array are in a folder of its name, beside the other jobs' files."""
    for ending in ("-stdout.log", "-stderr.log"):
        other = job.job_id.removesuffix(ending)
        if other != job.job_id and other in index:
            faults.add(f"{JOBS}[{at}].job_id", f'is the name of a log of "{other}", too')


def _check_inputs(job: JobSpec, at: int, faults: Faults) -> None:
    for number, source in enumerate(job.input_paths):
        for name in ("s3", "path"):
            if INDEX in getattr(source, name):
                place = f"{JOBS}[{at}].input_paths[{number}].{name}"
                faults.add(place, f'{quoted(INDEX)} needs "array": it is an element\'s index')


def spell_cycle(cycle: list[str]) -> str:
    """`a → b → a`; of a long one the first names and how many more there are."""
    names = [*cycle, cycle[0]]
    text = " → ".join(names[:SPELLED])
    return text if len(names) <= SPELLED else f"{text} → … ({len(names) - SPELLED} more)"


def check_placements(
    queue: Mapping[str, Any], jobs: Sequence[JobSpec], placed: Iterable[int], faults: Faults
) -> None:
    """What jobs and queue need fits the queue's pools, and their own variables.

    ``queue``: its fields, with None for pools that are wrong themselves; ``placed``: the jobs that
    say something of their placement.
    """
    given = queue.get("pools", ())
    pools = None if given is None else dict(given)
    default: ResourceSpec | None = queue.get("placement", NO_PLACEMENT).resources
    variables = {*queue.get("env", ()), *queue.get("secret_env", ())}
    if default is not None:
        _check_pools(default, pools, ".resources", faults)
        if default.gpus is not None:
            _check_devices(variables, ".resources.gpus", "of the queue", faults)
            placed = range(len(jobs))
    for at in placed:
        job = jobs[at]
        own: Placement = job.placement
        if own.resources is not None:
            _check_pools(own.resources, pools, f"{JOBS}[{at}].resources", faults)
        resources = own.resources or default
        if resources is not None and resources.gpus is not None:
            place = f"{JOBS}[{at}].resources.gpus"
            _check_devices({*job.env, *job.secret_env}, place, "of the job", faults)
            if own.resources is not None:
                _check_devices(variables, place, "of the queue", faults)


def _check_pools(
    resources: ResourceSpec, pools: Mapping[str, int] | None, place: str, faults: Faults
) -> None:
    if pools is None:
        return
    for name, amount in resources.pools:
        at = place + step(name)
        if name not in pools:
            known = (*OWN_RESOURCES, *pools)
            faults.add(at, "unknown key, and none of the queue's pools", name, known)
        elif amount > pools[name]:
            faults.add(at, f"{amount:,} are more than there are: the pool has {pools[name]:,}")


def _check_devices(variables: set[str], place: str, whose: str, faults: Faults) -> None:
    for name in DEVICE_VARIABLES:
        if name in variables:
            told = f"contradicts env.{name} {whose}: leave one of them out"
            faults.add(place, f"{told} (with gpus the runner sets the variable)")
