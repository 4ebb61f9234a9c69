"""Submit one job to AWS Batch, or an array of jobs, and print its id.

The job is Batch's own: it is neither claimed nor recorded by runner. A submission is sent once; if
its answer is lost the job is looked for by a mark, and where it can't be found you are told: to
submit again may then run the work twice."""

from __future__ import annotations

import argparse
import json
import re
from typing import TYPE_CHECKING, Any

from runner.cli.verbs.batch import COMMAND, BatchParser, definition_options, job_options
from runner.errors import ExitCode, UsageError
from runner.model.messages import quoted

if TYPE_CHECKING:
    from runner.aws.batch import Batch
    from runner.model.batch_settings import BatchSettings

Request = dict[str, Any]


def configure(parser: BatchParser) -> None:
    parser.takes_command = True
    parser.add_argument(
        "definition", nargs="?", metavar="NAME",
        help="a job definition: NAME (its newest revision), NAME:REVISION or an ARN; else --image",
    )  # fmt: skip
    job_options.add_queue(parser)
    parser.add_argument(
        "--name", metavar="N", help="the job's name (default: made of the definition)"
    )
    parser.add_argument(
        "--array", type=int, metavar="N", help="N children; each finds AWS_BATCH_JOB_ARRAY_INDEX"
    )
    parser.add_argument(
        "--depends-on", metavar="ID", action="append",
        help="run only once this job has succeeded; of arrays N_TO_N:ID or SEQUENTIAL too; may be "
        "repeated",
    )  # fmt: skip
    parser.add_argument(
        "--share", metavar="S", help="the share, on a queue with a fair-share policy"
    )
    parser.add_argument("--priority", type=int, metavar="N", help="within the share, 0 to 9999")
    parser.add_argument(
        "--parameter", metavar="K=V", action="append",
        help="what replaces Ref::K in the definition's command; may be repeated",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the request, send nothing")
    definition_options.add_resources(parser)
    definition_options.add_definition(parser)
    job_options.add_where(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.aws.batch import Batch
    from runner.batch import request_limits, single_jobs

    known = definition_options.settings(arguments)
    queue = job_options.queue(known)
    batch = Batch(job_options.region(known))
    request: Request = {"jobQueue": queue, **_common(arguments)}
    if arguments.definition is not None:
        _check_only_submitted(arguments)
        registration = None
        request |= _of_definition(batch, arguments)
    else:
        registration = _registration(arguments, known)
        request["jobDefinition"] = registration["jobDefinitionName"]
    request["jobName"] = arguments.name or _name_of(
        arguments.definition or registration["containerProperties"]["image"]  # type: ignore[index]
    )
    request_limits.check_submission(request)
    if arguments.dry_run:
        both = {"register": registration} if registration is not None else {}
        print(json.dumps({**both, "submit": request}, indent=2))
        return ExitCode.DONE
    request_limits.check_submission(request, fair_share=_fair_share(batch, queue))
    if registration is not None:
        request["jobDefinition"], _ = single_jobs.register(batch, registration)
    job_id = single_jobs.submit(batch, request, lambda line: job_options.say("submit", line))
    if arguments.json:
        told = {"job_id": job_id, "name": request["jobName"], "queue": queue}
        print(json.dumps({**told, "definition": request["jobDefinition"]}))
    else:
        print(job_id)
    return ExitCode.DONE


def _common(arguments: argparse.Namespace) -> Request:
    """What a submission holds, whichever its definition."""
    found: Request = {}
    if arguments.array is not None:
        found["arrayProperties"] = {"size": arguments.array}
    if arguments.depends_on:
        found["dependsOn"] = [_dependency(text) for text in arguments.depends_on]
    if arguments.share is not None:
        found["shareIdentifier"] = arguments.share
    if arguments.priority is not None:
        if arguments.share is None:
            raise UsageError("--priority counts within a share: give --share too")
        found["schedulingPriorityOverride"] = arguments.priority
    if arguments.parameter:
        found["parameters"] = job_options.pairs(arguments.parameter, "--parameter")
    return found


def _dependency(text: str) -> Request:
    from runner.batch.job_ids import job_id_of

    if text == "SEQUENTIAL":
        return {"type": "SEQUENTIAL"}
    if text.startswith("N_TO_N:"):
        return {"jobId": job_id_of(text.removeprefix("N_TO_N:")).id, "type": "N_TO_N"}
    return {"jobId": job_id_of(text).id}


def _check_only_submitted(arguments: argparse.Namespace) -> None:
    flags = [
        flag for name, flag in definition_options.ONLY_DEFINED.items() if getattr(arguments, name)
    ]
    if arguments.image is not None:
        flags.insert(0, "--image")
    if flags:
        what = "belongs" if len(flags) == 1 else "belong"
        raise UsageError(
            f"{', '.join(flags)} {what} to a definition, and {quoted(arguments.definition)} has "
            "its own: `runner batch register`, or submit with --image and without a definition"
        )


def _of_definition(batch: Batch, arguments: argparse.Namespace) -> Request:
    """The overrides, as the definition takes them."""
    from runner.aws.errors import AwsError, ErrorKind
    from runner.batch.plain_definitions import pairs, resources, whole, whole_only

    try:
        known = batch.definition(arguments.definition)
        if known is None:
            told = f"there is no active job definition {quoted(arguments.definition)}"
            raise UsageError(f"{told}: `runner batch register` makes one")
    except AwsError as error:
        if error.kind is not ErrorKind.DENIED:
            raise
        known = {}  # who may only submit: Batch says what doesn't fit
    cpus = job_options.vcpus(arguments.cpus)
    memory = job_options.mebibytes(arguments.memory, "--memory")
    if "FARGATE" in known.get("platformCapabilities", ()):
        if cpus or memory:
            cpus, memory = _rounded(known, cpus, memory)
    elif known and cpus is not None and cpus != (made := whole(cpus)):
        job_options.say("submit", whole_only(cpus, made))
        cpus = made
    override: Request = {}
    if command := getattr(arguments, COMMAND):
        override["command"] = command
    if variables := job_options.pairs(arguments.env, "--env"):
        override["environment"] = pairs(variables)
    if asked := resources(cpus, memory, arguments.gpus):
        override["resourceRequirements"] = asked
    found: Request = {"jobDefinition": arguments.definition, **_limits(arguments)}
    if override and "ecsProperties" in known:
        found["ecsPropertiesOverride"] = _of_one(known, override)
    elif override:
        found["containerOverrides"] = override
    return found


def _rounded(known: Request, cpus: float | None, memory: int | None) -> tuple[float, int]:
    from runner.batch.fargate import rounded
    from runner.batch.plain_definitions import rounding

    own = known.get("containerProperties") or {}
    defined = {each["type"]: each["value"] for each in own.get("resourceRequirements") or ()}
    want = cpus or float(defined.get("VCPU", 0.25)), memory or int(defined.get("MEMORY", 512))
    made = rounded(*want)
    if made != want:
        job_options.say("submit", rounding(*want, *made))
    return made


def _of_one(known: Request, override: Request) -> Request:
    containers = known["ecsProperties"]["taskProperties"][0]["containers"]
    if len(containers) > 1:
        names = ", ".join(each["name"] for each in containers)
        raise UsageError(
            f"the definition has several containers ({names}), and it isn't said whose command, "
            "variables and resources are meant: put them into the definition"
        )
    return {"taskProperties": [{"containers": [{"name": containers[0]["name"], **override}]}]}


def _limits(arguments: argparse.Namespace) -> Request:
    found: Request = {}
    if (seconds := job_options.seconds(arguments.timeout, "--timeout")) is not None:
        found["timeout"] = {"attemptDurationSeconds": seconds}
    if arguments.attempts is not None:
        found["retryStrategy"] = {"attempts": arguments.attempts}
    if tags := job_options.pairs(arguments.tag, "--tag"):
        found["tags"] = tags
    return found


def _registration(arguments: argparse.Namespace, known: BatchSettings) -> Request:
    """The definition's request, of which a submission overrides nothing."""
    from runner.batch import request_limits
    from runner.batch.plain_definitions import request_of

    request, notes = request_of(definition_options.definition(arguments, known))
    request_limits.check_definition(request)
    for note in notes:
        job_options.say("submit", note)
    return request


def _fair_share(batch: Batch, queue: str) -> bool | None:
    """None: it may not be looked at, and Batch says itself what is wrong."""
    from runner.aws.errors import AwsError, ErrorKind

    try:
        found = batch.queue(queue)
    except AwsError as error:
        if error.kind is ErrorKind.DENIED:
            return None
        raise
    if found is None:
        raise UsageError(f"there is no job queue {quoted(queue)} in this region")
    return "schedulingPolicyArn" in found


def _name_of(text: str) -> str:
    """A job's name of a definition's or an image's."""
    last = text.rpartition("/")[2].partition("@")[0].partition(":")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-_")
    return (name or "job")[:128]
