"""Requests to AWS Batch: limits are checked before one is sent, and what is made of the flags."""

from __future__ import annotations

from typing import Any

import pytest

from runner.batch.fargate import PAIRS, rounded
from runner.batch.plain_definitions import (
    CONTENT,
    PlainDefinition,
    request_of,
    same_content,
)
from runner.batch.request_limits import (
    check_definition,
    check_name,
    check_reason,
    check_submission,
)
from runner.batch.resubmission import INDICES, SCRIPT, former_indices, request_again
from runner.errors import UsageError

ROLE = "arn:aws:iam::123456789012:role/execution"


def submission(**more: Any) -> dict[str, Any]:
    return {"jobName": "n", "jobQueue": "q", "jobDefinition": "d", **more}


def override(**more: Any) -> dict[str, Any]:
    return submission(containerOverrides=more)


def variables(count: int) -> list[dict[str, str]]:
    return [{"name": "A", "value": "x" * count}]


@pytest.mark.parametrize(
    "good",
    [
        submission(jobName="a" * 128),
        submission(arrayProperties={"size": 2}),
        submission(arrayProperties={"size": 10_000}, dependsOn=[{"type": "SEQUENTIAL"}]),
        submission(dependsOn=[{"jobId": "a"}] * 20),
        submission(timeout={"attemptDurationSeconds": 60}, retryStrategy={"attempts": 10}),
        submission(tags={str(number): "" for number in range(50)}),
        override(command=["a"], environment=variables(8_000)),
        override(resourceRequirements=[{"type": "MEMORY", "value": "4"}]),
    ],
)
def test_what_batch_takes_passes(good: dict[str, Any]) -> None:
    """A job that AWS would run could not be submitted."""
    check_submission(good, fair_share=False)
    check_submission(good)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (submission(jobName="a" * 129), "1 to 128 letters"),
        (submission(jobName="a.b"), "1 to 128 letters"),
        (submission(jobName="-a"), "1 to 128 letters"),
        (submission(arrayProperties={"size": 1}), "2 to 10,000"),
        (submission(arrayProperties={"size": 10_001}), "2 to 10,000"),
        (submission(dependsOn=[{"jobId": "a"}] * 21), "at most 20"),
        (submission(dependsOn=[{"type": "SEQUENTIAL"}]), "for arrays only"),
        (submission(timeout={"attemptDurationSeconds": 59}), "at least 60 s"),
        (submission(retryStrategy={"attempts": 11}), "1 to 10"),
        (submission(retryStrategy={"attempts": 2, "evaluateOnExit": [{}] * 6}), "more than 5"),
        (submission(tags={str(number): "" for number in range(51)}), "at most 50"),
        (submission(tags={"AWS:x": ""}), "keeps keys"),
        (submission(shareIdentifier="a b"), "letters and digits"),
        (submission(shareIdentifier="a", schedulingPriorityOverride=10_000), "0 to 9,999"),
        (override(command=["a", ""]), "empty word"),
        (override(environment=[{"name": "AWS_BATCH_X", "value": ""}]), "for itself"),
        (override(environment=variables(8_200)), "at most 8,192"),
        (override(resourceRequirements=[{"type": "MEMORY", "value": "3"}]), "at least 4 MiB"),
        (override(resourceRequirements=[{"type": "VCPU", "value": "0"}]), "more than 0"),
        (submission(parameters={"a": "x" * 31_000}), "at most 30,720"),
    ],
)
def test_every_limit_of_a_submission_is_named(wrong: dict[str, Any], told: str) -> None:
    """AWS would refuse it with its own words, or accept it and fail the job."""
    with pytest.raises(UsageError, match=told):
        check_submission(wrong)


def test_share_goes_with_the_queues_policy() -> None:
    """A submission to a fair-share queue would be refused by AWS without a word of what to add."""
    with pytest.raises(UsageError, match="a share is required"):
        check_submission(submission(), fair_share=True)
    with pytest.raises(UsageError, match="takes no share"):
        check_submission(submission(shareIdentifier="a"), fair_share=False)
    check_submission(submission(shareIdentifier="a"), fair_share=True)


def test_all_faults_are_told_at_once() -> None:
    """A user would correct one after the other."""
    with pytest.raises(UsageError) as caught:
        check_submission(submission(jobName="a b", arrayProperties={"size": 1}))
    assert len(str(caught.value).splitlines()) == 2


def test_reasons_names_and_definitions_have_limits_too() -> None:
    """AWS would refuse the end of a job, or a definition, for its length."""
    check_reason("x" * 1_024)
    check_name("a-b_c", "job")
    for wrong in ("", "x" * 1_025):
        with pytest.raises(UsageError, match="1 to 1,024"):
            check_reason(wrong)
    with pytest.raises(UsageError, match="definition name"):
        check_name("a/b", "definition name")
    request, _ = request_of(PlainDefinition("i", environment={"A": "x" * 25_000}), "d")
    with pytest.raises(UsageError, match="at most 24,576"):
        check_definition(request)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ((0.25, 512), (0.25, 512)),
        ((0.1, 1), (0.25, 512)),
        ((0.25, 513), (0.25, 1024)),
        ((1, 9_000), (2, 9_216)),
        ((3, 1_000), (4, 8_192)),
        ((8, 17_000), (8, 20_480)),
        ((16, 122_880), (16, 122_880)),
        ((16, 122_881), (32, 249_856)),
        ((17, 1), (32, 61_440)),
    ],
)
def test_fargates_pairs_are_rounded_up(asked: tuple[float, int], given: tuple[float, int]) -> None:
    """A pair that Fargate hasn't would be refused, or a job get less than it asked for."""
    assert rounded(*asked) == given
    assert given[1] in PAIRS[given[0]]


@pytest.mark.parametrize("asked", [(33, 1), (1, 249_857)])
def test_more_than_fargate_has_is_refused(asked: tuple[float, int]) -> None:
    """The largest pair would be taken, and the job run out of memory."""
    with pytest.raises(UsageError, match="at most 32 vCPUs and 249,856 MiB"):
        rounded(*asked)


def test_definition_is_what_the_flags_say() -> None:
    """A flag of `register` would have no effect."""
    wanted = PlainDefinition(
        image="i", cpus=1, memory=64, gpus=1, command=["a"], environment={"A": "1"},
        volumes=("/tmp:/work", "efs:fs-0123456789/sub:/data:ro"), secrets={"T": "arn"},
        job_role="job", execution_role=ROLE, timeout=90, attempts=2, user="u", privileged=True,
        shm=128, log_group="/mine", tags={"k": "v"},
    )  # fmt: skip
    request, notes = request_of(wanted, "d")
    check_definition(request)
    held = request["containerProperties"]
    assert notes == []
    assert held["resourceRequirements"] == [
        {"type": "VCPU", "value": "1"},
        {"type": "MEMORY", "value": "64"},
        {"type": "GPU", "value": "1"},
    ]
    assert held["volumes"][0] == {"name": "volume-0", "host": {"sourcePath": "/tmp"}}
    assert held["volumes"][1]["efsVolumeConfiguration"] == {
        "fileSystemId": "fs-0123456789", "transitEncryption": "ENABLED", "rootDirectory": "/sub"
    }  # fmt: skip
    assert held["mountPoints"][1] == {
        "sourceVolume": "volume-1", "containerPath": "/data", "readOnly": True
    }  # fmt: skip
    assert held["linuxParameters"] == {"initProcessEnabled": True, "sharedMemorySize": 128}
    assert held["secrets"] == [{"name": "T", "valueFrom": "arn"}]
    assert held["logConfiguration"]["options"] == {"awslogs-group": "/mine"}
    assert (held["jobRoleArn"], held["executionRoleArn"]) == ("job", ROLE)
    assert request["timeout"] == {"attemptDurationSeconds": 90}
    assert (request["retryStrategy"], request["tags"]) == ({"attempts": 2}, {"k": "v"})


def test_same_content_is_found_again() -> None:
    """Every `register` would add a revision, or another content be taken for the same."""
    first, _ = request_of(PlainDefinition("i"))
    again, _ = request_of(PlainDefinition("i"))
    other, _ = request_of(PlainDefinition("i", memory=4_096))
    named, _ = request_of(PlainDefinition("i"), "tool")
    assert first == again and first["jobDefinitionName"].startswith("runner-")
    assert first["jobDefinitionName"] != other["jobDefinitionName"]
    assert same_content(first, named) and not same_content(other, named)
    assert not same_content({"parameters": {}}, named)
    assert named["parameters"].keys() == {CONTENT}


def test_fargate_takes_what_it_takes() -> None:
    """A definition that Fargate refuses would be sent, or an amount be raised without a word."""
    made, notes = request_of(
        PlainDefinition("i", cpus=0.3, memory=600, fargate=True, public_ip=True,
                        execution_role=ROLE, ephemeral_storage=50)
    )  # fmt: skip
    held = made["containerProperties"]
    assert [each["value"] for each in held["resourceRequirements"]] == ["0.5", "1024"]
    assert "rounded up to 0.5 vCPUs with 1,024 MiB" in notes[0]
    assert held["networkConfiguration"] == {"assignPublicIp": "ENABLED"}
    assert held["ephemeralStorage"] == {"sizeInGiB": 50}
    for wrong, told in (
        ({"execution_role": None}, "needs an execution role"),
        ({"gpus": 1}, "no GPUs"),
        ({"volumes": ["/a:/b"]}, "folders of the host"),
        ({"shm": 1, "privileged": True}, "no privileged containers and no a size"),
        ({"ephemeral_storage": 20}, "21 to 200"),
    ):
        given: dict[str, Any] = {"fargate": True, "execution_role": ROLE, **wrong}
        with pytest.raises(UsageError, match=told):
            request_of(PlainDefinition("i", **given))


def test_ec2_takes_whole_vcpus() -> None:
    """Batch would refuse half a vCPU with words that speak of a numeric value."""
    request, notes = request_of(PlainDefinition("i", cpus=0.5), "d")
    assert request["containerProperties"]["resourceRequirements"][0]["value"] == "1"
    assert "0.5 rounded up to 1" in notes[0]
    request["containerProperties"]["resourceRequirements"][0]["value"] = "1.0"
    with pytest.raises(UsageError, match="whole numbers only"):
        check_definition(request)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"public_ip": True}, "add --fargate"),
        ({"secrets": {"A": "x"}}, "execution role"),
        ({"volumes": ["a:b"]}, "is not /on/the/host"),
        ({"volumes": ["efs:x:/b"]}, "is not /on/the/host"),
    ],
)
def test_what_cannot_go_together_is_refused(wrong: dict[str, Any], told: str) -> None:
    """AWS would refuse it later, or the flag be passed over."""
    with pytest.raises(UsageError, match=told):
        request_of(PlainDefinition("i", **wrong))


def failed(**more: Any) -> dict[str, Any]:
    """The detail of a failed job, as Batch answers it."""
    return {
        "jobId": "a", "jobName": "n", "jobQueue": "q", "jobDefinition": "d:1",
        "retryStrategy": {"attempts": 2, "evaluateOnExit": []}, "tags": {}, "propagateTags": False,
        "parameters": {"x": "1", "mark": "2"}, "timeout": {"attemptDurationSeconds": 90},
        "container": {
            "command": ["run", "it"],
            "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "resourceRequirements": [{"type": "VCPU", "value": "2"}],
        },
        **more,
    }  # fmt: skip


DEFINED = {
    "containerProperties": {
        "command": ["default"],
        "environment": [{"name": "A", "value": "1"}],
        "resourceRequirements": [{"type": "VCPU", "value": "1"}],
    }
}


def test_job_is_submitted_again_as_it_was() -> None:
    """A retried job would have another command or other resources, or too long overrides."""
    request = request_again(failed(), DEFINED, ("mark",))
    assert request == {
        "jobName": "n", "jobQueue": "q", "jobDefinition": "d:1", "parameters": {"x": "1"},
        "retryStrategy": {"attempts": 2}, "timeout": {"attemptDurationSeconds": 90},
        "propagateTags": False,
        "containerOverrides": {
            "command": ["run", "it"],
            "environment": [{"name": "B", "value": "2"}],
            "resourceRequirements": [{"type": "VCPU", "value": "2"}],
        },
    }  # fmt: skip
    whole = request_again(failed(arrayProperties={"size": 5}), None, ())
    assert whole["arrayProperties"] == {"size": 5}
    assert len(whole["containerOverrides"]["environment"]) == 2


def test_failed_children_keep_their_indices() -> None:
    """Batch numbers a smaller array anew: other samples than those that failed would run."""
    array = failed(arrayProperties={"size": 5})
    request = request_again(array, DEFINED, (), [1, 3])
    held = request["containerOverrides"]
    assert request["arrayProperties"] == {"size": 2}
    assert held["command"] == ["/bin/sh", "-c", SCRIPT, "sh", "run", "it"]
    assert held["environment"][-1] == {"name": INDICES, "value": "1 3"}
    one = request_again(array, DEFINED, (), [4])
    assert "arrayProperties" not in one
    again = failed(container={**array["container"], **held}, arrayProperties={"size": 2})
    assert former_indices(again) == [1, 3]
    twice = request_again(again, DEFINED, (), [3])["containerOverrides"]
    assert twice["command"] == held["command"]
    assert [each for each in twice["environment"] if each["name"] == INDICES] == [
        {"name": INDICES, "value": "3"}
    ]


def test_several_containers_are_submitted_again() -> None:
    """The overrides of a job of several containers would get lost, or AWS refuse them."""
    containers = [{"name": "main", "command": ["b"]}, {"name": "side", "command": ["c"]}]
    job = failed(ecsProperties={"taskProperties": [{"containers": containers}]})
    del job["container"]
    own = [{"name": "main", "command": ["a"]}, {"name": "side", "command": ["c"]}]
    defined = {"ecsProperties": {"taskProperties": [{"containers": own}]}}
    assert request_again(job, defined, ())["ecsPropertiesOverride"] == {
        "taskProperties": [{"containers": [{"name": "main", "command": ["b"]}]}]
    }
    with pytest.raises(UsageError, match="several containers"):
        request_again(job, defined, (), [0])


@pytest.mark.parametrize(
    "job", [failed(eksProperties={}), failed(nodeProperties={}), failed(container={})]
)
def test_what_cannot_be_submitted_again_is_refused(job: dict[str, Any]) -> None:
    """Another job than the failed one would run."""
    with pytest.raises(UsageError):
        request_again(job, None, (), [0])
