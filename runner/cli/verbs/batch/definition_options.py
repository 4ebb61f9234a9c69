"""The flags that make a job definition, for `register`, and for `submit --image`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from runner.cli.verbs.batch import COMMAND, job_options
from runner.errors import UsageError
from runner.model.batch_settings import BatchSettings

if TYPE_CHECKING:
    from runner.batch.plain_definitions import PlainDefinition

DEFAULT_CPUS = 1.0
DEFAULT_MEMORY = 2_048
"""MiB."""

ONLY_DEFINED = {
    "volume": "--volume",
    "secret_env": "--secret-env",
    "job_role": "--job-role",
    "execution_role": "--execution-role",
    "fargate": "--fargate",
    "public_ip": "--public-ip",
    "user": "--user",
    "privileged": "--privileged",
    "shm": "--shm",
    "ephemeral_storage": "--ephemeral-storage",
    "log_group": "--log-group",
}
"""What Batch takes in a definition only, and not with a submission."""


def add_resources(parser: argparse.ArgumentParser) -> None:
    """What a job is given."""
    group = parser.add_argument_group("what the job gets")
    group.add_argument(
        "--cpus", metavar="N", help="vCPUs, whole ones on EC2, on Fargate from 0.25 (default: 1)"
    )
    group.add_argument("--memory", metavar="SIZE", help="such as 4GiB (default: 2GiB)")
    group.add_argument("--gpus", type=int, metavar="N", help="GPUs")
    group.add_argument(
        "--env", metavar="K=V", action="append", help="a variable; may be repeated; who may "
        "describe the job can read it",
    )  # fmt: skip
    group.add_argument(
        "--timeout", metavar="DURATION", help="Batch ends an attempt after this, at least 60s"
    )
    group.add_argument(
        "--attempts",
        type=int,
        metavar="N",
        help="how many attempts Batch makes, 1 to 10 (default: 1)",
    )
    group.add_argument("--tag", metavar="K=V", action="append", help="a tag; may be repeated")


def add_definition(parser: argparse.ArgumentParser) -> None:
    """What only a definition holds."""
    group = parser.add_argument_group("the job definition")
    group.add_argument("--image", metavar="I", help="the image (default: [batch] image)")
    group.add_argument(
        "--volume", metavar="FROM:TO", action="append", help="mount a folder of the host, or "
        "efs:fs-…[/below], at TO; `:ro` behind it for reading only; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--secret-env", metavar="K=ARN", action="append", help="a variable from an SSM parameter "
        "or a secret, which the execution role may read; may be repeated",
    )  # fmt: skip
    group.add_argument("--job-role", metavar="ARN", help="whose rights the job's calls to AWS have")
    group.add_argument(
        "--execution-role", metavar="ARN", help="with which image, secrets and logs are reached"
    )
    group.add_argument("--fargate", action="store_true", help="for Fargate; else for EC2")
    group.add_argument(
        "--public-ip", action="store_true", help="on Fargate, in a subnet without NAT"
    )
    group.add_argument("--user", metavar="NAME", help="the user in the container")
    group.add_argument("--privileged", action="store_true", help="with all rights on the host")
    group.add_argument("--shm", metavar="SIZE", help="size of /dev/shm")
    group.add_argument("--ephemeral-storage", metavar="SIZE", help="Fargate's disk, 21 to 200 GiB")
    group.add_argument(
        "--log-group", metavar="G", help="CloudWatch log group (default: Batch's own)"
    )


def settings(arguments: argparse.Namespace) -> BatchSettings:
    """With the flags of a definition over the table ``[batch]``."""
    return job_options.settings(
        arguments,
        batch_image=arguments.image,
        batch_job_role=arguments.job_role,
        batch_execution_role=arguments.execution_role,
    )


def definition(arguments: argparse.Namespace, known: BatchSettings) -> PlainDefinition:
    """What the flags describe. Raises UsageError."""
    from runner.batch.plain_definitions import PlainDefinition

    if known.image is None:
        raise UsageError("no image is named: --image, or image in [batch] of the settings")
    memory = job_options.mebibytes(arguments.memory, "--memory")
    storage = job_options.mebibytes(arguments.ephemeral_storage, "--ephemeral-storage")
    return PlainDefinition(
        image=known.image,
        cpus=job_options.vcpus(arguments.cpus) or DEFAULT_CPUS,
        memory=DEFAULT_MEMORY if memory is None else memory,
        gpus=arguments.gpus or 0,
        command=getattr(arguments, COMMAND),
        environment=job_options.pairs(arguments.env, "--env"),
        secrets=job_options.pairs(arguments.secret_env, "--secret-env"),
        volumes=arguments.volume or (),
        job_role=known.job_role,
        execution_role=known.execution_role,
        timeout=job_options.seconds(arguments.timeout, "--timeout"),
        attempts=arguments.attempts,
        fargate=arguments.fargate,
        public_ip=arguments.public_ip,
        user=arguments.user,
        privileged=arguments.privileged,
        shm=job_options.mebibytes(arguments.shm, "--shm"),
        ephemeral_storage=None if storage is None else -(-storage // 1024),
        log_group=arguments.log_group,
        tags=job_options.pairs(arguments.tag, "--tag"),
    )
