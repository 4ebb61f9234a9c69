"""What the words of AWS Batch, ECS and Docker about a failed job mean: tables, and nothing else.

Pure. Each row: a stable code, what kind of failure it is, the words by which it is known, the cause
and what to do next. The first row that matches counts, so the special ones stand first. Facts: ECS
Developer Guide, "Stopped tasks error messages" and "CannotPullContainer task errors"; Batch User
Guide, "Troubleshooting"; aws/amazon-ecs-agent, ``agent/engine/errors.go``; issues of nextflow,
metaflow, redun and airflow about jobs that failed so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum


class FailureKind(StrEnum):
    """Whose matter it is, and so whether another attempt can help.

    ``NONE``: nothing has failed. ``WAITING``: it hasn't begun. ``PROGRAM``: the job's own command.
    ``RESOURCES``: it needs more memory, time or disk than it was given. ``SETUP``: image, rights or
    configuration: the next attempt fails as well. ``LOST``: the host, the agent or the network:
    the same job may pass the next time. ``ENDED``: somebody ended it.
    """

    NONE = "none"
    WAITING = "waiting"
    PROGRAM = "program"
    RESOURCES = "resources"
    SETUP = "setup"
    LOST = "lost"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Cause:
    """One row. In ``cause`` and ``steps`` the groups of ``pattern`` and the job's facts are filled
    in: ``{image}``, ``{registry}``, ``{where}``, ``{memory}``, ``{timeout}`` …
    """

    code: str
    kind: FailureKind
    pattern: re.Pattern[str] = field(repr=False)
    cause: str
    steps: tuple[str, ...]


def _cause(code: str, kind: FailureKind, pattern: str, cause: str, *steps: str) -> Cause:
    return Cause(code, kind, re.compile(pattern, re.IGNORECASE | re.DOTALL), cause, steps)


_SETUP, _LOST, _RESOURCES = FailureKind.SETUP, FailureKind.LOST, FailureKind.RESOURCES
_PROGRAM, _ENDED = FailureKind.PROGRAM, FailureKind.ENDED

JOB = (
    _cause(
        "dependency_failed", _ENDED, r"dependent job failed|dependen\w+ .*failed",
        "a job that it depends on failed, so Batch failed this one without running it",
        "look at the jobs that it depends on: {dependencies}",
        "submit both again: Batch does not run a failed job's dependants",
    ),
    _cause(
        "array_child_failed", _PROGRAM, r"array child job failed",
        "{failed_children} of the array failed, and with one of them the array as a whole",
        "look at the children that failed: list those of {id} with the status FAILED",
    ),
    _cause(
        "time_limit_in_runnable", FailureKind.WAITING,
        r"cancell?ed by jobstatetimelimit action due to reason: (?P<why>.+)",
        "the job queue cancelled it because it waited too long in RUNNABLE: {why}",
        "mend what kept it waiting ({why}), or raise maxTimeSeconds in the queue's "
        "jobStateTimeLimitActions",
    ),
    _cause(
        "timeout", _RESOURCES, r"job attempt duration exceeded timeout",
        "it ran longer than its timeout{timeout}: SIGTERM, and SIGKILL 30 s later",
        "give it a longer timeout, or find out in its log where it was slow",
        "Batch does not retry a job after a timeout",
    ),
    _cause(
        "overrides_too_long", _SETUP, r"container overrides length must be at most (?P<most>\d+)",
        "its container overrides (command, environment) have more than {most} characters as JSON: "
        "Batch accepts such a job, and fails it",
        "put long values into a file in S3 and hand over its address, or into the definition",
    ),
    _cause(
        "too_many_tags", _SETUP, r"tags.*\b50\b|\b50\b.*tags",
        "the tags of the job and of its definition are more than 50 together",
        "remove tags, or submit without propagateTags",
    ),
    _cause(
        "host_lost", _LOST, r"host ec2 \(instance (?P<instance>[\w-]+)\) terminated",
        "the EC2 instance it ran on ({instance}) was terminated: a Spot reclaim, a scale-in, or a "
        "failure of the host",
        "submit it again; a retry strategy with onStatusReason `Host EC2*` does it by itself",
    ),
    _cause(
        "spot_interrupted", _LOST, r"spot task was interrupted|spot interruption",
        "Fargate Spot took its capacity back",
        "submit it again; a retry strategy with onStatusReason `Your Spot Task*` does it by itself",
        "a job that cannot be interrupted needs a compute environment without Spot",
    ),
    _cause(
        "role_not_assumable", _SETUP, r"unable to assume the role '?(?P<role>[^'\s]+)",
        "ECS cannot assume the role {role}",
        "its trust policy must allow ecs-tasks.amazonaws.com to assume it, and whoever submits "
        "needs iam:PassRole for it",
    ),
    _cause(
        "network_not_ready", _LOST, r"timeout waiting for network interface provisioning",
        "its network interface was not ready in time",
        "submit it again; if it comes again: has the subnet free addresses?",
    ),
    _cause(
        "fargate_capacity", _LOST, r"capacity is unavailable at this time",
        "Fargate had no capacity in these subnets",
        "submit it again later, or give the compute environment subnets in more zones",
    ),
    _cause(
        "quota_reached", _LOST, r"reached the limit on the number of (?P<what>vcpus|tasks)",
        "the account's quota of {what} that run at once is used up",
        "wait for other jobs, or ask for a larger quota in Service Quotas",
    ),
    _cause(
        "definition_inactive", _SETUP,
        r"job ?definition.*(?:not in active|inactive|deregistered|does not exist)",
        "its definition was deregistered before it could run",
        "register the definition again, and submit it anew",
    ),
)  # fmt: skip
"""By the job's or the attempt's own statusReason."""

PULL = (
    _cause(
        "pull_rate_limited", _LOST, r"toomanyrequests|rate limit|pull limit",
        "{registry} refused to hand out {image}: too many pulls from this address",
        "keep a copy of the image in Amazon ECR, or log in to the registry",
    ),
    _cause(
        "pull_interrupted", _LOST, r"context canceled|slowdown|503 service|unexpected eof",
        "{image} was being pulled from {registry}, and that broke off",
        "submit it again: it usually passes; many large images at once make it likely",
    ),
    _cause(
        "host_disk_full", _RESOURCES, r"no space left on device|not enough space|thin pool has",
        "the host's disk is full: {image} does not fit beside what is there",
        "give the compute environment's instances a larger root volume by a launch template (30 GiB"
        " is usual), or use smaller images",
    ),
    _cause(
        "image_wrong_platform", _SETUP,
        r"no matching manifest for (?P<platform>[\w/.-]+)|matching platform '?(?P<other>[\w/.-]+)"
        r"|exec format error",
        "{image} was not built for this host's processor",
        "build it for the hosts (`docker build --platform linux/amd64`, Graviton: linux/arm64), or "
        "use another compute environment",
    ),
    _cause(
        "image_name_invalid", _SETUP, r"invalid reference format|invalid repository name",
        "{image} is not a valid name of an image",
        "write it as REGISTRY/REPOSITORY:TAG, in lower case and without blanks",
    ),
    _cause(
        "image_missing_or_private", _SETUP, r"pull access denied|may require 'docker login'",
        "{registry} has no image {image}, or it is private and the host may not read it",
        "check the name{look}",
        "if it is private: the registry's credentials belong into the definition "
        "(repositoryCredentials), or the image into Amazon ECR",
    ),
    _cause(
        "image_denied", _SETUP,
        r"not authorized to perform: (?P<action>[\w:]+)|accessdenied|no basic auth credentials"
        r"|403 forbidden|unauthorized|token has expired|denied|cannotpullcontainerauth",
        "{registry} refused to hand out {image}: rights are missing",
        "{who} needs ecr:GetAuthorizationToken, ecr:BatchGetImage, ecr:GetDownloadUrlForLayer and "
        "ecr:BatchCheckLayerAvailability",
        "for a repository of another account its repository policy must allow this one as well",
    ),
    _cause(
        "image_missing", _SETUP,
        r"manifest unknown|name unknown|not found|does not exist|no such image",
        "{registry} has no image {image}",
        "check repository, tag and region{look}",
    ),
    _cause(
        "registry_unreachable", _LOST,
        r"no such host|i/o timeout|timeout|timed out|connection (?:refused|reset)|request canceled"
        r"|dial tcp|tls handshake|network is unreachable|x509|\beof\b|awaiting headers",
        "the host cannot reach {registry}: {image} was not pulled",
        "the subnet needs a way out: a public address with an internet gateway, a NAT gateway, or "
        "VPC endpoints for ecr.api, ecr.dkr and S3; on Fargate without NAT assignPublicIp",
        "the security group must allow outgoing HTTPS",
    ),
    _cause(
        "image_pull_failed", _SETUP, r"",
        "{image} could not be pulled from {registry}",
        "pull it yourself where the job runs: `docker pull {image}`",
    ),
)  # fmt: skip
"""By a container's reason that begins with CannotPull…"""

CONTAINER = (
    _cause(
        "command_not_found", _SETUP,
        r"cannotstart.*(?:executable file not found|no such file or directory)",
        "{image} has no program of this name: {command}",
        "check the command's first word against what is in the image; a shell's words need "
        "`sh -c '…'`",
    ),
    _cause(
        "command_not_executable", _SETUP, r"cannotstart.*permission denied",
        "{command} may not be executed in {image}",
        "make it executable (`chmod +x`) when the image is built, or call it by `sh FILE`",
    ),
    _cause(
        "image_wrong_platform", _SETUP, r"exec format error",
        "{image} was not built for this host's processor",
        "build it for the hosts (`docker build --platform linux/amd64`, Graviton: linux/arm64), or "
        "use another compute environment",
    ),
    _cause(
        "gpu_missing", _SETUP, r"nvidia|could not select device driver|capabilities: \[\[gpu",
        "the host has no GPU that the container can use",
        "the compute environment needs GPU instances with the GPU-optimised ECS image, and the job "
        "a GPU requirement",
    ),
    _cause(
        "host_disk_full", _RESOURCES, r"no space left on device|thin pool has",
        "the host's disk is full",
        "give the compute environment's instances a larger root volume by a launch template",
    ),
    _cause(
        "file_system_not_mounted", _SETUP, r"efs|cannotcreatevolume|failed to resolve \"?fs-|mount",
        "a volume could not be mounted",
        "an EFS file system needs a mount target in the job's subnets, and a security group that "
        "lets NFS (port 2049) in; the definition's role may need elasticfilesystem:ClientMount",
    ),
    _cause(
        "secret_denied", _SETUP,
        r"(?:secret|ssm).*(?:accessdenied|not authorized to perform: (?P<action>[\w:]+))",
        "the execution role may not read a secret that the definition names",
        "allow it secretsmanager:GetSecretValue or ssm:GetParameters for that secret, and "
        "kms:Decrypt for its key",
    ),
    _cause(
        "logging_failed", _SETUP, r"logger|logging driver|log group|cloudwatch|logs:create",
        "the log driver could not be set up, so the container was not started",
        "the log group must exist, or the role may logs:CreateLogGroup; it needs "
        "logs:CreateLogStream and logs:PutLogEvents; a private subnet needs a way to CloudWatch",
    ),
    _cause(
        "registry_unreachable", _LOST,
        r"resourceinit.*(?:i/o timeout|dial tcp|timed out|retried|deadline exceeded|no such host)",
        "Fargate could not reach the registry or the secrets from the job's subnet",
        "the subnet needs a NAT gateway, VPC endpoints (ecr.api, ecr.dkr, S3, logs, "
        "secretsmanager), or the definition assignPublicIp ENABLED in a public subnet",
    ),
    _cause(
        "execution_role_denied", _SETUP,
        r"resourceinit.*(?:accessdenied|not authorized to perform: (?P<action>[\w:]+))",
        "the execution role lacks a permission that starting the container needs",
        "attach AmazonECSTaskExecutionRolePolicy to it, or allow what the message names",
    ),
    _cause(
        "resource_initialization_failed", _SETUP, r"resourceinitializationerror",
        "Fargate could not set up what the container needs",
        "the message names the part: network, secrets, logs or volumes",
    ),
    _cause(
        "host_overloaded", _LOST, r"dockertimeouterror|containerruntimetimeouterror",
        "Docker on the host did not answer in time: it is overloaded, or its disk is",
        "submit it again; if it comes again: fewer jobs on an instance, or faster volumes (gp3 with"
        " more throughput)",
    ),
    _cause(
        "end_unknown", _LOST, r"cannotinspectcontainererror",
        "the agent lost sight of the container: the work may have been done all the same",
        "look at the log and at what it was to write before it is run again",
    ),
    _cause(
        "container_not_created", _SETUP, r"cannotcreatecontainererror",
        "Docker could not create the container",
        "the message names what it refused: a volume, a device, a limit",
    ),
    _cause(
        "container_not_started", _SETUP, r"cannotstartcontainererror|containerruntimeerror",
        "Docker could not start the container",
        "the message names what it refused: a command, a device, a mount",
    ),
)  # fmt: skip
"""By a container's reason, of one that was never running."""

EXIT_CODES = {
    126: ("command_not_executable", _SETUP, "126: its command was found and could not be executed",
          "make it executable in the image, or call it by its interpreter"),
    127: ("command_not_found", _SETUP, "127: a command was not found",
          "the last lines of the log name it; is it in the image, and in PATH?"),
    134: ("aborted", _PROGRAM, "134: it aborted itself (SIGABRT), as a failed assertion does",
          "the last lines of its log say where"),
    137: ("killed", _RESOURCES, "137: it was killed (SIGKILL)",
          "the host's memory may have run out: give it more, and see whether that helps; a job "
          "that is stopped and does not heed SIGTERM ends so as well"),
    139: ("segmentation_fault", _PROGRAM, "139: a segmentation fault (SIGSEGV)",
          "a bug in native code, or libraries that don't fit each other: are they built for this "
          "processor and this Python?"),
    143: ("stopped", _LOST, "143: it heeded SIGTERM and ended",
          "it was stopped from outside: look who stopped it, or for a Spot notice"),
}  # fmt: skip
"""Exit codes that say more than that it failed: 128 and the number of a signal, and the shell's
own (POSIX, "Exit Status for Commands")."""

LOG_HINTS = (
    (re.compile(r"exec format error"),
     "its log says `exec format error`: the image was built for another processor"),
    (re.compile(r"no space left on device", re.I),
     "its log says that a disk is full: give the instances a larger volume, or Fargate more "
     "ephemeral storage"),
    (re.compile(r"CUDA out of memory|CUDA error: out of memory"),
     "the GPU's memory ran out: smaller batches, or a larger GPU"),
    (re.compile(r"\bMemoryError\b|Cannot allocate memory|std::bad_alloc|java\.lang\.OutOfMemory"),
     "its log says that memory ran out: give it more"),
    (re.compile(r"Unable to locate credentials|NoCredentialsError|CredentialsNotFound"),
     "it found no AWS credentials: give the definition a job role"),
    (re.compile(r"AccessDenied|is not authorized to perform"),
     "AWS denied it something: its job role lacks a permission, which the log names"),
    (re.compile(r"exec user process caused"),
     "the script's first line names an interpreter that the image hasn't, or it has Windows line "
     "ends"),
    (re.compile(r"command not found|: not found\b"),
     "a command that it calls is not in the image"),
    (re.compile(r"Could not connect to the endpoint URL|Name or service not known"
                r"|Temporary failure in name resolution|Network is unreachable"),
     "it could not reach the network: the subnet needs a NAT gateway, a public address or VPC "
     "endpoints"),
)  # fmt: skip
"""What lines of a job's own log say about its failure."""
