"""Why a job of AWS Batch stands as it does: one diagnosis with a stable code and what to do next.

Pure: what it goes by is handed to it. Owns the order in which what is told is believed: the job's
own reason, its containers' reasons, exit codes, and only then the lines of its log. The words are
in ``failure_causes``; of jobs that haven't begun in ``waiting``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.batch.failure_causes import (
    CONTAINER,
    EXIT_CODES,
    JOB,
    LOG_HINTS,
    PULL,
    Cause,
    FailureKind,
)
from runner.batch.images import describe_image
from runner.batch.job_detail import ContainerDetail, JobDetail
from runner.batch.queue_detail import EnvironmentDetail, QueueDetail
from runner.batch.waiting import why_waiting

MOST_LINES = 10
"""Lines of a log that a diagnosis shows."""

_OUT_OF_MEMORY = re.compile(r"outofmemory", re.IGNORECASE)
_BATCHS_OWN = re.compile(r"essential container in task exited|task failed to start", re.I)
"""Of a job that failed by itself; an older answer does not tell whether it was terminated."""

_KILLED = (137, 143)
_ORDINARY_END = re.compile(r"essential container in task exited", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``code`` stays the same over versions; ``kind`` says whether another attempt can help.

    ``evidence``: AWS's own words. ``log``: the last lines of the container's log.
    """

    code: str
    kind: FailureKind
    cause: str
    next_steps: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    log: tuple[str, ...] = ()

    def view(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "code": self.code,
            "kind": str(self.kind),
            "cause": self.cause,
            "next_steps": list(self.next_steps),
            "evidence": list(self.evidence),
            "log": list(self.log),
        }


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else is known. ``place``: the job's in the first 100 of its queue, from 1; 0: behind
    them; None: not known. ``log``: the last lines of its log. ``used_mib``: the most memory it had.
    ``waited``: seconds since it was submitted."""

    queue: QueueDetail | None = None
    environments: tuple[EnvironmentDetail, ...] = ()
    place: int | None = None
    log: tuple[str, ...] = ()
    used_mib: float | None = None
    waited: float | None = None


def diagnose(job: JobDetail, known: Circumstances | None = None) -> Diagnosis:
    """The one diagnosis that fits best."""
    known = known or Circumstances()
    if job.status == "FAILED":
        return _of_failure(job, known)
    if job.status == "SUCCEEDED":
        return _of_success(job, known)
    code, cause, steps = why_waiting(job, known)
    kind = FailureKind.NONE if job.status in ("STARTING", "RUNNING") else FailureKind.WAITING
    return Diagnosis(code, kind, cause, steps, (job.reason,) if job.reason else ())


def _of_success(job: JobDetail, known: Circumstances) -> Diagnosis:
    killed = [each for each in job.ends if each.reason and _OUT_OF_MEMORY.search(each.reason)]
    if not killed:
        return Diagnosis("succeeded", FailureKind.NONE, "it succeeded")
    cause = "it exited with 0, but one of its processes was killed because memory ran out"
    steps = ("check its results: a part of the work may be missing", _more_memory(killed[0], known))
    reason = killed[0].reason or ""
    return Diagnosis("child_out_of_memory", FailureKind.RESOURCES, cause, steps, (reason,))


def _of_failure(job: JobDetail, known: Circumstances) -> Diagnosis:
    reason = job.reason or (job.attempts[-1].reason if job.attempts else None) or ""
    words = [reason] if reason else []
    by_hand = job.cancelled or job.terminated
    for cause in JOB:
        # A person's own reason is no word of Batch's; its own cancel counts as one by hand.
        if by_hand and cause.code != "time_limit_in_runnable":
            continue
        if reason and (found := cause.pattern.search(reason)):
            return _filled(cause, found, job, None, words)
    if by_hand:
        code, what = ("cancelled", "cancelled before it began")
        if job.terminated:
            code, what = ("terminated", "terminated")
        told = f"it was {what}" + (f", with the reason: {reason}" if reason else "")
        return Diagnosis(code, FailureKind.ENDED, told, (), tuple(words))
    ends = by_guilt(job)
    for each in ends:
        if each.reason:
            return _of_reason(job, each, known, words)
    if (
        reason
        and not _BATCHS_OWN.search(reason)
        and any(each.exit_code in _KILLED for each in ends)
    ):
        told = f"it was ended from outside, with the reason: {reason}"
        return Diagnosis("terminated", FailureKind.ENDED, told, (), tuple(words))
    for each in ends:
        if each.exit_code:
            return _of_exit(each, job, known, words)
    if ends and any(each.exit_code == 0 for each in ends) and _ORDINARY_END.search(reason):
        told = "its container exited with 0, and Batch counts it as failed all the same"
        return Diagnosis("unknown", FailureKind.LOST, told, _READ_LOG, tuple(words))
    if re.search(r"task failed to start", reason, re.I):
        told = "its task did not start, and neither ECS nor Docker said why"
        steps = ("submit it again; if it comes again: the ECS agent's log on the instance tells",)
        return Diagnosis("failed_to_start", FailureKind.LOST, told, steps, tuple(words))
    told = f"Batch says: {reason}" if reason else "Batch gives no reason"
    return Diagnosis("unknown", FailureKind.LOST, told, _READ_LOG, tuple(words))


def by_guilt(job: JobDetail) -> list[ContainerDetail]:
    """The containers of a failed job, first the one by which it is explained.

    That is the essential one, unless it only hands on the exit code of another: then the other.
    """
    ends = sorted(job.ends, key=lambda each: (not each.essential, not each.exit_code))
    if not ends or not (code := ends[0].exit_code):
        return ends
    return sorted(ends, key=lambda each: (each.exit_code != code, each.essential))


_READ_LOG = ("look at its log and at its attempts",)


def _of_reason(
    job: JobDetail, each: ContainerDetail, known: Circumstances, words: Sequence[str]
) -> Diagnosis:
    reason = each.reason or ""
    told = [*words, reason]
    if _OUT_OF_MEMORY.search(reason):
        return _out_of_memory(each, known, told)
    table = PULL if re.match(r"cannotpull", reason, re.I) else CONTAINER
    for cause in table:
        if found := cause.pattern.search(reason):
            return _filled(cause, found, job, each, told)
    if each.exit_code:
        return replace(_of_exit(each, job, known, words), evidence=tuple(told))
    return Diagnosis("container_failed", FailureKind.SETUP, reason, _READ_LOG, tuple(told))


def _out_of_memory(each: ContainerDetail, known: Circumstances, words: Sequence[str]) -> Diagnosis:
    had = each.amount("MEMORY")
    asked = f" of {had:,.0f} MiB" if had is not None else ""
    used = f"; it had used {known.used_mib:,.0f} MiB" if known.used_mib is not None else ""
    cause = f"it ran out of its memory{asked} and was killed{used}"
    steps = (_more_memory(each, known), "or have it use less: smaller batches, fewer threads")
    log = _last(known.log)
    return Diagnosis("out_of_memory", FailureKind.RESOURCES, cause, steps, tuple(words), log)


def _more_memory(each: ContainerDetail, known: Circumstances) -> str:
    had = each.amount("MEMORY")
    if had is None:
        return "give it more memory"
    more = max(2 * had, 1.25 * known.used_mib if known.used_mib is not None else 0)
    return f"give it more memory: {_size(had)} was not enough, so try {_size(more)}"


def _size(mib: float) -> str:
    return f"{mib / 1024:g}GiB" if mib >= 1024 and mib % 256 == 0 else f"{mib:.0f}MiB"


def _of_exit(
    each: ContainerDetail, job: JobDetail, known: Circumstances, words: Sequence[str]
) -> Diagnosis:
    code = each.exit_code or 0
    name = f"its container {each.name}" if len(job.ends) > 1 else "it"
    hints = tuple(
        hint for pattern, hint in LOG_HINTS if any(pattern.search(line) for line in known.log)
    )
    log = _last(known.log)
    if special := EXIT_CODES.get(code):
        short, kind, told, step = special
        cause = f"{name} exited with {told}"
        if code == 137 and (had := each.amount("MEMORY")) is not None:
            step = f"{step} (it has {_size(had)})"
        return Diagnosis(short, kind, cause, (*hints, step), tuple(words), log)
    cause = f"{name} exited with {code}: its own command failed"
    where = "the end of its log" + (", which is shown here" if log else "")
    steps = (*hints, f"what the command says of its failure is at {where}")
    return Diagnosis("exit_code", FailureKind.PROGRAM, cause, steps, tuple(words), log)


def _last(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(lines[-MOST_LINES:])


def _filled(
    cause: Cause,
    found: re.Match[str],
    job: JobDetail,
    each: ContainerDetail | None,
    words: Sequence[str],
) -> Diagnosis:
    """The row with the facts of this job."""
    facts = {
        **_facts(job, each),
        **{name: value for name, value in found.groupdict().items() if value is not None},
    }
    steps = [_put_in(step, facts) for step in cause.steps]
    if facts.get("action"):
        steps.insert(0, f"the permission that is missing: {facts['action']}")
    return Diagnosis(
        cause.code, cause.kind, _put_in(cause.cause, facts), tuple(steps), tuple(words)
    )


def _put_in(text: str, facts: dict[str, str]) -> str:
    # Not str.format: what AWS says may hold braces.
    return re.sub(r"\{(\w+)\}", lambda found: facts.get(found[1], ""), text)


def _facts(job: JobDetail, each: ContainerDetail | None) -> dict[str, str]:
    image = describe_image(each.image if each is not None and each.image else _any_image(job))
    counts = job.array.counts if job.array is not None else {}
    failed = counts.get("FAILED", 0)
    command = each.command if each is not None and each.command else ()
    ids = [dependency.job_id for dependency in job.depends_on if dependency.job_id]
    return {
        "id": job.id,
        "image": image.name or "the image",
        "registry": image.registry,
        "look": f": `{image.look_up}`" if image.look_up else "",
        "who": "the execution role"
        if job.fargate
        else "the instances' role (or the execution role, where the definition has one)",
        "command": command[0] if command else "its command",
        "timeout": f" of {job.timeout} s" if job.timeout is not None else "",
        "dependencies": ", ".join(ids) or "they are not told",
        "failed_children": f"{failed} child" if failed == 1 else f"{failed} children",
    }


def _any_image(job: JobDetail) -> str | None:
    return next((each.image for each in job.containers if each.image), None)
