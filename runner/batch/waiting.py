"""Why a job of AWS Batch hasn't begun, or isn't over yet.

Pure. Batch tells a reason only of the job at the head of its queue, and not of every cause: the
rest is concluded from the queue, its compute environments and the job's place. Facts: Batch User
Guide, "Jobs stuck in a RUNNABLE status" and "Job states".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.batch.job_detail import JobDetail

if TYPE_CHECKING:
    from runner.batch.diagnosis import Circumstances

USUAL = 600.0
"""Seconds in which a new instance has usually joined: longer than that isn't only slow."""

REASONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY": (
        "insufficient_capacity",
        "EC2 has no free capacity for the instances of any of the queue's compute environments",
        (
            "let the compute environment choose among more instance types and more zones (subnets)",
            "or add one without Spot to the queue; capacity may also come by itself",
        ),
    ),
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": (
        "environment_too_small",
        "it asks for more vCPUs than maxvCpus of each of the queue's compute environments",
        ("raise maxvCpus, or ask for fewer vCPUs",),
    ),
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": (
        "no_instance_large_enough",
        "no instance type of the queue's compute environments has the vCPUs, memory and GPUs that "
        "it asks for together",
        (
            "ask for less: an instance has less memory than its label says (an m5.large about "
            "7,700 of 8,192 MiB), for the system and the ECS agent need some",
            "or add larger instance types to the compute environment",
        ),
    ),
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED": (
        "instance_configuration_unsupported",
        "EC2 refuses the compute environment's instances: types, zones, image or launch template "
        "do not fit each other",
        ("change the instance types, or the subnets to zones that have them",),
    ),
    "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS": (
        "service_role_denied",
        "the service role of the compute environment lacks permissions",
        ("use the service-linked role AWSServiceRoleForBatch for the compute environment",),
    ),
    "ACTION_REQUIRED": (
        "action_required",
        "Batch has found something that a person must change",
        ("do what its reason names",),
    ),
    "UNDETERMINED": (
        "undetermined",
        "Batch sees that it blocks the queue, and not why",
        (
            "look at the activity history of the compute environment's Auto Scaling group (console:"
            " EC2, Auto Scaling groups): refused launches are told there",
        ),
    ),
}
"""By the beginning of the statusReason of a RUNNABLE job."""


def why_waiting(job: JobDetail, known: Circumstances) -> tuple[str, str, tuple[str, ...]]:
    """Code, cause and next steps of a job that hasn't ended."""
    match job.status:
        case "SUBMITTED":
            return "submitted", "Batch has accepted it, and looks at its dependencies next", ()
        case "PENDING":
            return _pending(job)
        case "STARTING":
            return _starting(known)
        case "RUNNING":
            return _running(job)
        case "RUNNABLE":
            return _runnable(job, known)
        case _:
            return "unknown", f"it is {job.status}", ()


def _pending(job: JobDetail) -> tuple[str, str, tuple[str, ...]]:
    if job.is_array:
        told = "its children are on their way: an array itself stays PENDING until they have ended"
        return "array_in_progress", told, (f"list its children: those of {job.id}",)
    waits = [each.job_id for each in job.depends_on if each.job_id]
    told = "it waits for jobs that it depends on" + (f": {', '.join(waits)}" if waits else "")
    return "waiting_for_dependencies", told, ("look at those jobs: each must succeed",)


def _starting(known: Circumstances) -> tuple[str, str, tuple[str, ...]]:
    told = "it has a host, and its image is being pulled and its container made"
    steps: tuple[str, ...] = ()
    if known.waited is not None and known.waited > USUAL:
        steps = ("a large image takes minutes: a smaller one, or one in ECR in this region, helps",)
    return "starting", told, steps


def _running(job: JobDetail) -> tuple[str, str, tuple[str, ...]]:
    if job.terminated:
        told = "it is being terminated: SIGTERM, and SIGKILL 30 s later"
        return "terminating", told, ("wait: it takes half a minute and more",)
    return "running", "it runs", ()


def _runnable(job: JobDetail, known: Circumstances) -> tuple[str, str, tuple[str, ...]]:
    reason = job.reason or ""
    for name, found in REASONS.items():
        if reason.startswith(name):
            # With the numbers, where they are known.
            return (found[0] == "environment_too_small" and _of_size(job, known)) or found
    for judge in (_of_environments, _of_size, _of_place, _of_load):
        if (found_so := judge(job, known)) is not None:
            return found_so
    if job.attempts:
        told = f"attempt {len(job.attempts)} has failed, and the next one waits for its place"
        return "waiting_for_retry", told, ("look at why its last attempt failed",)
    told = "it waits for a place on a host"
    # What waited for others, or has had an attempt, has been RUNNABLE for less than that.
    if known.waited is not None and known.waited > USUAL and not job.depends_on:
        return "not_placed", f"{told}, and nothing that can be seen here is against it", _SILENT
    return "waiting_for_placement", f"{told}: a new instance takes some minutes", ()


_SILENT = (
    "do instances of the compute environment run (EC2 console), and are they in its ECS cluster? "
    "If they run and are not: they cannot reach ECS (no public address, NAT or VPC endpoints), or "
    "lack the instance role (ecsInstanceRole)",
    "if they are in the cluster: the job needs a few MiB more memory than they have left, or a log "
    "driver that their ECS agent does not offer",
    "if none run: the activity history of its Auto Scaling group tells refused launches; a vCPU "
    "quota of 0 for these instance types is a usual one (Service Quotas, EC2)",
)


def _of_environments(_: JobDetail, known: Circumstances) -> tuple[str, str, tuple[str, ...]] | None:
    if known.queue is not None and known.queue.status not in ("VALID", "UPDATING"):
        told = f"its queue {known.queue.name} is {known.queue.status}"
        told += f": {known.queue.status_reason}" if known.queue.status_reason else ""
        return "queue_invalid", told, ("mend the queue, or submit to another one",)
    if not known.environments or any(each.usable for each in known.environments):
        return None
    each = known.environments[0]
    wrong = each.state if each.state != "ENABLED" else each.status
    told = f"none of its queue's compute environments takes jobs: {each.name} is {wrong}"
    if each.status != "VALID" and each.status_reason:
        told += f": {each.status_reason}"
    step = "enable it" if each.state != "ENABLED" else "mend what its reason names"
    return "environments_unusable", told, (step,)


def _of_size(job: JobDetail, known: Circumstances) -> tuple[str, str, tuple[str, ...]] | None:
    asked = sum(each.amount("VCPU") or 0 for each in job.containers)
    most = [each.max_vcpus for each in known.environments if each.usable and each.max_vcpus]
    if not most or asked <= max(most):
        return None
    told = f"it asks for {asked:g} vCPUs, and its compute environments have {max(most)} at most"
    return "environment_too_small", told, ("raise maxvCpus, or ask for fewer vCPUs",)


def _of_place(_: JobDetail, known: Circumstances) -> tuple[str, str, tuple[str, ...]] | None:
    if known.place is None or known.place == 1:
        return None
    before = "100 jobs and more are" if not known.place else f"{known.place - 1} jobs are"
    if known.place == 2:
        before = "1 job is"
    told = f"it waits for its turn: {before} before it in its queue"
    steps = ("look at the first one if nothing moves: it blocks the rest",)
    return "waiting_in_line", told, steps


def _of_load(_: JobDetail, known: Circumstances) -> tuple[str, str, tuple[str, ...]] | None:
    usable = [each for each in known.environments if each.usable]
    if not usable or any(each.desired_vcpus is None or not each.max_vcpus for each in usable):
        return None
    if all((each.desired_vcpus or 0) >= (each.max_vcpus or 0) for each in usable):
        told = "all that its compute environments may have is in use"
        steps = ("wait for other jobs to end, or raise maxvCpus",)
        return "environment_full", told, steps
    return None
