"""Diagnoses of AWS Batch jobs: what AWS's words mean, and what is to be done."""

from __future__ import annotations

from typing import Any

import pytest

from runner.batch.diagnosis import Circumstances, Diagnosis, by_guilt, diagnose
from runner.batch.failure_causes import CONTAINER, JOB, PULL, FailureKind
from runner.batch.job_detail import STATES, read_job
from runner.batch.queue_detail import front_of_queue, read_environment, read_queue_detail

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/tools/align:2.1"


def job(status: str = "FAILED", **more: Any) -> dict[str, Any]:
    """A JobDetail as the service answers it."""
    container = {
        "image": ECR,
        "command": ["align", "--all"],
        "resourceRequirements": [
            {"type": "VCPU", "value": "2"},
            {"type": "MEMORY", "value": "2048"},
        ],
        **more.pop("container", {}),
    }
    found = {
        "jobId": "4c4a0b3e",
        "jobName": "align",
        "jobQueue": "arn:aws:batch:eu-west-1:123456789012:job-queue/default",
        "status": status,
        "attempts": [],
        "createdAt": 1_000,
        "container": container,
        **more,
    }
    return {key: value for key, value in found.items() if value is not None}


def found(known: Circumstances | None = None, status: str = "FAILED", **more: Any) -> Diagnosis:
    return diagnose(read_job(job(status, **more)), known)


def failed(reason: str, exit_code: int | None = None, of_job: str = "Task failed to start") -> str:
    """The code of a job whose container ended for this reason."""
    container = {"reason": reason, **({} if exit_code is None else {"exitCode": exit_code})}
    return found(container=container, statusReason=of_job).code


PULLED = "CannotPullContainerError: "


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (PULLED + "Error response from daemon: manifest for a/b:c not found: manifest unknown: "
         "manifest unknown", "image_missing"),
        (PULLED + "API error (404): repository a/b not found", "image_missing"),
        (PULLED + "Error response from daemon: pull access denied for a/b, repository does not "
         "exist or may require 'docker login': denied: requested access to the resource is denied",
         "image_missing_or_private"),
        (PULLED + "Error response from daemon: denied: User: arn:aws:sts::1:assumed-role/r/i is "
         "not authorized to perform: ecr:BatchGetImage on resource: x", "image_denied"),
        ("CannotPullECRContainerError: AccessDeniedException: User: x is not authorized to "
         "perform: ecr:GetAuthorizationToken on resource: *", "image_denied"),
        (PULLED + "Error response from daemon: Get https://1.dkr.ecr.eu-west-1.amazonaws.com/v2/: "
         "no basic auth credentials", "image_denied"),
        (PULLED + "Error response from daemon: Get \"https://registry-1.docker.io/v2/\": net/http: "
         "request canceled while waiting for connection (Client.Timeout exceeded while awaiting "
         "headers)", "registry_unreachable"),
        (PULLED + "Error response from daemon: dial tcp: lookup nowhere: no such host",
         "registry_unreachable"),
        (PULLED + "inspect image has been retried 5 time(s): httpReaderSeeker: failed open: "
         "unexpected status code: 429 Too Many Requests - Server message: toomanyrequests: You "
         "have reached your pull rate limit", "pull_rate_limited"),
        (PULLED + "write /var/lib/docker/tmp/GetImageBlob887491687: no space left on device",
         "host_disk_full"),
        (PULLED + "failed to register layer: write /usr/local/lib/x: no space left on device",
         "host_disk_full"),
        (PULLED + "Error response from daemon: no matching manifest for linux/arm64/v8 in the "
         "manifest list entries", "image_wrong_platform"),
        (PULLED + "image Manifest does not contain descriptor matching platform 'linux/amd64'",
         "image_wrong_platform"),
        (PULLED + "Error response from daemon: invalid reference format", "image_name_invalid"),
        (PULLED + "context canceled", "pull_interrupted"),
        (PULLED + "Error response from daemon: received unexpected HTTP status: 503 SlowDown",
         "pull_interrupted"),
        (PULLED + "something that nobody has seen", "image_pull_failed"),
        ("CannotStartContainerError: Error response from daemon: failed to create shim task: OCI "
         "runtime create failed: exec: \"align\": executable file not found in $PATH: unknown",
         "command_not_found"),
        ("CannotStartContainerError: Error response from daemon: OCI runtime create failed: exec: "
         "\"/run.sh\": permission denied: unknown", "command_not_executable"),
        ("CannotStartContainerError: exec /run: exec format error", "image_wrong_platform"),
        ("CannotStartContainerError: Error response from daemon: could not select device driver "
         "\"\" with capabilities: [[gpu]]", "gpu_missing"),
        ("CannotCreateContainerError: Error response from daemon: devmapper: Thin Pool has 1 free "
         "data blocks which is less than minimum required", "host_disk_full"),
        ("CannotCreateContainerError: Error response from daemon: something new",
         "container_not_created"),
        ("ResourceInitializationError: unable to pull secrets or registry auth: execution resource "
         "retrieval failed: unable to retrieve ecr registry auth: service call has been retried 3 "
         "time(s): RequestError: send request failed caused by: Post: dial tcp 1.2.3.4:443: i/o "
         "timeout", "registry_unreachable"),
        ("ResourceInitializationError: unable to pull secrets or registry auth: execution resource "
         "retrieval failed: unable to retrieve secret from asm: service call has been retried 1 "
         "time(s): AccessDeniedException: User: x is not authorized to perform: "
         "secretsmanager:GetSecretValue", "secret_denied"),
        ("ResourceInitializationError: failed to validate logger args: create stream has been "
         "retried 1 times: failed to create Cloudwatch log stream: ResourceNotFoundException: The "
         "specified log group does not exist", "logging_failed"),
        ("ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: "
         "stderr: Failed to resolve \"fs-1.efs.eu-west-1.amazonaws.com\"",
         "file_system_not_mounted"),
        ("DockerTimeoutError: Could not transition to created; timed out after waiting 4m0s",
         "host_overloaded"),
        ("ContainerRuntimeTimeoutError: Could not transition to running; timed out after 1m",
         "host_overloaded"),
        ("CannotInspectContainerError: Could not transition to inspecting; timed out after waiting "
         "30s", "end_unknown"),
        ("OutOfMemoryError: Container killed due to memory usage", "out_of_memory"),
        ("SomethingNewError: odd", "container_failed"),
    ],
)  # fmt: skip
def test_containers_reason_has_a_cause(reason: str, code: str) -> None:
    """Somebody who knows only the console would have to know ECS's and Docker's words."""
    assert failed(reason) == code


@pytest.mark.parametrize(
    ("reason", "code", "kind"),
    [
        ("Dependent Job failed", "dependency_failed", FailureKind.ENDED),
        ("Job attempt duration exceeded timeout", "timeout", FailureKind.RESOURCES),
        ("Container Overrides length must be at most 8192", "overrides_too_long",
         FailureKind.SETUP),
        ("Host EC2 (instance i-0123456789abcdef0) terminated.", "host_lost", FailureKind.LOST),
        ("Your Spot Task was interrupted.", "spot_interrupted", FailureKind.LOST),
        ("Canceled by JobStateTimeLimit action due to reason: "
         "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", "time_limit_in_runnable", FailureKind.WAITING),
        ("ECS was unable to assume the role 'arn:aws:iam::123456789012:role/job' that was provided"
         " for this task.", "role_not_assumable", FailureKind.SETUP),
        ("Timeout waiting for network interface provisioning to complete.", "network_not_ready",
         FailureKind.LOST),
        ("Task failed to start", "failed_to_start", FailureKind.LOST),
        ("something new", "unknown", FailureKind.LOST),
        (None, "unknown", FailureKind.LOST),
    ],
)  # fmt: skip
def test_jobs_reason_has_a_cause(reason: str | None, code: str, kind: FailureKind) -> None:
    """A lost host would count as the job's failure, or a wrong role be tried again and again."""
    made = found(statusReason=reason)
    assert (made.code, made.kind) == (code, kind)


@pytest.mark.parametrize(
    ("exit_code", "code"),
    [(1, "exit_code"), (126, "command_not_executable"), (127, "command_not_found"),
     (134, "aborted"), (137, "killed"), (139, "segmentation_fault"), (143, "stopped")],
)  # fmt: skip
def test_exit_code_says_what_it_can(exit_code: int, code: str) -> None:
    """ "Essential container in task exited" would be all that is told."""
    made = found(
        Circumstances(log=tuple(f"line {number}" for number in range(30))),
        container={"exitCode": exit_code},
        statusReason="Essential container in task exited",
    )
    assert made.code == code
    assert str(exit_code) in made.cause
    assert made.evidence == ("Essential container in task exited",)
    assert (made.log[-1], len(made.log)) == ("line 29", 10)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("exec /bin/sh: exec format error", "another processor"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("RuntimeError: CUDA out of memory. Tried to allocate 2 GiB", "GPU's memory"),
        ("MemoryError", "memory ran out"),
        ("botocore.exceptions.NoCredentialsError: Unable to locate credentials", "job role"),
        ("An error occurred (AccessDenied) when calling GetObject", "permission"),
        ("sh: 1: bwa: not found", "not in the image"),
    ],
)
def test_log_gives_a_hint(line: str, told: str) -> None:
    """The log's one line that explains it would have to be found and understood by hand."""
    made = found(Circumstances(log=(line,)), container={"exitCode": 2})
    assert told in made.next_steps[0]


def test_memory_is_told_with_what_to_ask_for() -> None:
    """How much it had, and how much more to try, would have to be looked for."""
    container = {"reason": "OutOfMemoryError: Container killed due to memory usage"}
    made = found(Circumstances(used_mib=2040), container={**container, "exitCode": 137})
    assert "2,048 MiB" in made.cause and "2,040 MiB" in made.cause
    assert "4GiB" in made.next_steps[0]
    well = found(status="SUCCEEDED", container={**container, "exitCode": 0})
    assert (well.code, well.kind) == ("child_out_of_memory", FailureKind.RESOURCES)


def test_missing_image_names_registry_and_a_command() -> None:
    """Which registry was asked, and how to see what is in it, would not be told."""
    made = found(container={"reason": PULLED + "manifest unknown"})
    assert "Amazon ECR (account 123456789012, eu-west-1)" in made.cause and ECR in made.cause
    assert "--repository-name tools/align --image-ids imageTag=2.1" in made.next_steps[0]
    hub = found(container={"image": "biotools/bwa", "reason": PULLED + "manifest unknown"})
    assert "Docker Hub" in hub.cause


def test_missing_right_is_named() -> None:
    """Which permission, and whose, would have to be guessed."""
    reason = PULLED + "x is not authorized to perform: ecr:BatchGetImage on resource: y"
    on_ec2 = found(container={"reason": reason})
    on_fargate = found(container={"reason": reason}, platformCapabilities=["FARGATE"])
    assert on_ec2.next_steps[0].endswith("ecr:BatchGetImage")
    assert "instances' role" in on_ec2.next_steps[1]
    assert on_fargate.next_steps[1].startswith("the execution role needs")


def test_braces_in_what_aws_says_are_left() -> None:
    """A message that holds braces would end in an internal error."""
    reason = "Canceled by JobStateTimeLimit action due to reason: {odd} {0} {"
    assert "{odd} {0} {" in found(statusReason=reason).cause


def test_who_ended_it_is_not_the_jobs_failure() -> None:
    """A job that was terminated would be told as one that was killed."""
    ended = found(statusReason="enough", isTerminated=True, container={"exitCode": 143})
    assert (ended.code, ended.kind) == ("terminated", FailureKind.ENDED)
    assert "enough" in ended.cause
    assert found(statusReason="no", isCancelled=True).code == "cancelled"


def test_job_on_several_nodes_that_was_terminated() -> None:
    """An answer without container and `isTerminated` would be told as memory that ran out.

    Its members are those of aws-parallelcluster's recorded answer of such a job.
    """
    attempt = {
        "startedAt": 1, "stoppedAt": 2, "statusReason": "Terminated by the user",
        "container": {"exitCode": 137, "logStreamName": "d/default/a", "networkInterfaces": []},
    }  # fmt: skip
    nodes = {"mainNode": 0, "numNodes": 2, "nodeRangeProperties": [{"targetNodes": "0:1"}]}
    raw = job(attempts=[attempt], statusReason="Terminated by the user", nodeProperties=nodes)
    del raw["container"]
    made = diagnose(read_job(raw))
    assert (made.code, made.kind) == ("terminated", FailureKind.ENDED)


def test_several_containers_are_told_by_the_one_that_failed() -> None:
    """Of a task with a helper beside it the helper's end would be told."""
    containers = [
        {"name": "side", "essential": False, "exitCode": 137},
        {"name": "main", "essential": True, "exitCode": 9},
    ]
    tasks = {"taskProperties": [{"containers": containers}]}
    made = found(
        ecsProperties=tasks, container={}, statusReason="Essential container in task exited"
    )
    raw = job(ecsProperties=tasks)
    del raw["container"]
    made = diagnose(read_job(raw))
    assert made.code == "exit_code"
    assert "its container main exited with 9" in made.cause


def test_container_that_hands_on_an_exit_code_is_not_the_cause() -> None:
    """Of a job with an agent beside the command the agent's log would be shown."""
    containers = [
        {"name": "agent", "essential": True, "exitCode": 9},
        {"name": "main", "essential": False, "exitCode": 9, "logStreamName": "x/main/1"},
        {"name": "stage", "essential": False, "exitCode": 0},
    ]
    raw = job(ecsProperties={"taskProperties": [{"containers": containers}]})
    del raw["container"]
    read = read_job(raw)
    assert [each.name for each in by_guilt(read)] == ["main", "agent", "stage"]
    assert "its container main exited with 9" in diagnose(read).cause
    containers[1] |= {"reason": "OutOfMemoryError: Container killed due to memory usage"}
    assert diagnose(read_job(raw)).code == "out_of_memory"


def test_array_tells_how_many_failed() -> None:
    """An array's parent has no exit code, and nothing would be told but its reason."""
    array = {"size": 3, "statusSummary": {**dict.fromkeys(STATES, 0), "FAILED": 2}}
    made = found(arrayProperties=array, statusReason="Array Child Job failed", container={})
    assert made.cause.startswith("2 children of the array failed")


def environment(**more: Any) -> dict[str, Any]:
    resources = {"type": "EC2", "maxvCpus": 16, "desiredvCpus": 4, **more.pop("resources", {})}
    return {"computeEnvironmentName": "spot", "state": "ENABLED", "status": "VALID",
            "computeResources": resources, **more}  # fmt: skip


def waiting(waited: float = 60, place: int | None = None, **more: Any) -> Diagnosis:
    """The diagnosis of a RUNNABLE job, by its queue."""
    queue = {"jobQueueName": "default", "state": "ENABLED", "status": "VALID",
             "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "arn:spot"}],
             **more.pop("queue", {})}  # fmt: skip
    known = Circumstances(
        queue=read_queue_detail(queue),
        environments=(read_environment(environment(**more.pop("environment", {}))),),
        place=place,
        waited=waited,
    )
    return found(known, "RUNNABLE", **more)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested "
         "for instance type [p5.48xlarge]", "insufficient_capacity"),
        ("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - x", "environment_too_small"),
        ("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - x", "no_instance_large_enough"),
        ("MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED - x",
         "instance_configuration_unsupported"),
        ("MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS - x", "service_role_denied"),
        ("ACTION_REQUIRED - x", "action_required"),
        ("UNDETERMINED - x", "undetermined"),
    ],
)  # fmt: skip
def test_batchs_own_reason_for_waiting_is_explained(reason: str, code: str) -> None:
    """A job that never starts would only be told to be RUNNABLE."""
    made = waiting(statusReason=reason)
    assert (made.code, made.kind, made.evidence) == (code, FailureKind.WAITING, (reason,))
    assert made.next_steps


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"queue": {"status": "INVALID", "statusReason": "x"}}, "queue_invalid"),
        ({"environment": {"state": "DISABLED"}}, "environments_unusable"),
        ({"environment": {"status": "INVALID", "statusReason": "x"}}, "environments_unusable"),
        ({"environment": {"resources": {"maxvCpus": 1}}}, "environment_too_small"),
        ({"place": 3}, "waiting_in_line"),
        ({"place": 0}, "waiting_in_line"),
        ({"environment": {"resources": {"desiredvCpus": 16}}}, "environment_full"),
        ({"waited": 60}, "waiting_for_placement"),
        ({"waited": 3600}, "not_placed"),
        ({"waited": 3600, "place": 1}, "not_placed"),
        ({"attempts": [{"statusReason": "x", "stoppedAt": 5}]}, "waiting_for_retry"),
    ],
)
def test_silent_waiting_is_explained(more: dict[str, Any], code: str) -> None:
    """Of what Batch tells no reason for, nobody could tell why it waits."""
    assert waiting(**more).code == code


@pytest.mark.parametrize(
    ("status", "code"),
    [("SUBMITTED", "submitted"), ("PENDING", "waiting_for_dependencies"), ("STARTING", "starting"),
     ("RUNNING", "running"), ("SUCCEEDED", "succeeded"), ("NEW_STATE", "unknown")],
)  # fmt: skip
def test_every_state_has_a_diagnosis(status: str, code: str) -> None:
    """`explain` would fail for a job in some state."""
    assert found(status=status).code == code
    array = {"size": 2, "statusSummary": {}}
    assert found(status="PENDING", arrayProperties=array).code == "array_in_progress"


def test_codes_are_words_and_every_row_says_what_to_do() -> None:
    """A code could not be relied upon by scripts, or a row would leave its reader alone."""
    for row in (*JOB, *PULL, *CONTAINER):
        assert row.code.isidentifier() and row.code.islower(), row
        assert row.steps, row


def test_front_of_a_queue_is_read_from_its_snapshot() -> None:
    """How many jobs are before one would not be known."""
    arns = [f"arn:aws:batch:eu-west-1:123456789012:job/{name}" for name in "ab"]
    jobs = [{"jobArn": arn, "earliestTimeAtPosition": 1} for arn in arns]
    assert front_of_queue({"frontOfQueue": {"jobs": jobs}}) == ("a", "b")
    assert front_of_queue({}) == ()
