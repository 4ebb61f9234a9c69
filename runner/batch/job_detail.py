"""A job as DescribeJobs tells it: the fields that are read here, with types.

Pure. Owns where Batch keeps what is told of a container: the place differs between jobs of one
container, of several (``ecsProperties``), on EKS and on several nodes. Facts: Batch API reference,
"JobDetail", and botocore's model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from runner.model import records
from runner.model.records import Rule

ENDED = ("SUCCEEDED", "FAILED")

STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", *ENDED)
"""In the order in which a job passes them."""

MAIN = "default"
"""What the container of a job of one container is called: so it is named in its log stream."""


_SUBMISSION = "RUNNER_SUBMISSION"
"""The variable by which the containers of a queue's attempt find what they are to do."""


def _submission_in(environment: Any) -> str | None:
    """Its value. Of the rest of the environment nothing is kept: it may hold anything."""
    for each in environment if isinstance(environment, list) else ():
        if isinstance(each, dict) and each.get("name") == _SUBMISSION:
            return str(each.get("value"))
    return None


@dataclass(frozen=True, slots=True)
class Requirement:
    """vCPUs, MiB of memory, or GPUs: ``kind`` is VCPU, MEMORY or GPU."""

    kind: Annotated[str, Rule(key="type")]
    value: str


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where a container's output goes; Batch's own default where a job names nothing."""

    driver: Annotated[str, Rule(key="logDriver")] = "awslogs"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerDetail:
    """A container of a job: what was asked for it, and how its last attempt ended.

    ``exit_code`` is None until it has ended, and for one that never ran; ``log_stream`` is known
    from RUNNING on.
    """

    name: str = MAIN
    image: str | None = None
    command: tuple[str, ...] = ()
    essential: bool = True
    exit_code: Annotated[int | None, Rule(key="exitCode")] = None
    reason: str | None = None
    log_stream: Annotated[str | None, Rule(key="logStreamName")] = None
    log_settings: Annotated[LogSettings | None, Rule(key="logConfiguration")] = None
    requirements: Annotated[tuple[Requirement, ...], Rule(key="resourceRequirements")] = ()
    vcpus: int | None = None
    memory: int | None = None
    submission: Annotated[str | None, Rule(_submission_in, key="environment")] = None

    def amount(self, kind: str) -> float | None:
        """vCPUs, MiB or GPUs that it was given; None where that isn't told."""
        for each in self.requirements:
            if each.kind == kind:
                try:
                    return float(each.value)
                except ValueError:
                    return None
        return {"VCPU": self.vcpus, "MEMORY": self.memory}.get(kind)


@dataclass(frozen=True, slots=True)
class _Task:
    containers: tuple[ContainerDetail, ...] = ()


@dataclass(frozen=True, slots=True)
class _Tasks:
    tasks: Annotated[tuple[_Task, ...], Rule(key="taskProperties")] = ()


@dataclass(frozen=True, slots=True)
class _Pods:
    pod: Annotated[_Task | None, Rule(key="podProperties")] = None


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An ended attempt as it is told; times in ms since the epoch."""

    started_ms: Annotated[int, Rule(key="startedAt")] = 0
    stopped_ms: Annotated[int, Rule(key="stoppedAt")] = 0
    reason: Annotated[str | None, Rule(key="statusReason")] = None
    container: ContainerDetail | None = None
    tasks: Annotated[tuple[_Task, ...], Rule(key="taskProperties")] = ()
    containers: tuple[ContainerDetail, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptDetail:
    """One attempt that has ended. Times are seconds since the epoch; None: it never ran."""

    number: int
    started: float | None
    stopped: float | None
    reason: str | None
    containers: tuple[ContainerDetail, ...]


@dataclass(frozen=True, slots=True)
class ArrayDetail:
    """``size`` and the children's states of an array; ``index`` of one of its children."""

    size: int | None = None
    index: int | None = None
    counts: Annotated[Mapping[str, int], Rule(key="statusSummary")] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodesDetail:
    """A job on several nodes: each is a job of its own, ``id#n``."""

    count: Annotated[int, Rule(key="numNodes")] = 0
    main: Annotated[int, Rule(key="mainNode")] = 0


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a job waits for."""

    job_id: Annotated[str | None, Rule(key="jobId")] = None


@dataclass(frozen=True, slots=True)
class _Timeout:
    seconds: Annotated[int | None, Rule(key="attemptDurationSeconds")] = None


@dataclass(frozen=True, slots=True)
class _Retry:
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class JobDetail:
    """A job. ``started_ms`` is 0 until it runs, and for an array for ever."""

    id: Annotated[str, Rule(key="jobId")]
    name: Annotated[str, Rule(key="jobName")]
    status: str
    queue_arn: Annotated[str, Rule(key="jobQueue")] = ""
    arn: Annotated[str | None, Rule(key="jobArn")] = None
    definition_arn: Annotated[str, Rule(key="jobDefinition")] = ""
    reason: Annotated[str | None, Rule(key="statusReason")] = None
    created_ms: Annotated[int, Rule(key="createdAt")] = 0
    started_ms: Annotated[int, Rule(key="startedAt")] = 0
    stopped_ms: Annotated[int, Rule(key="stoppedAt")] = 0
    container: ContainerDetail | None = None
    _tasks: Annotated[_Tasks | None, Rule(key="ecsProperties")] = None
    _pods: Annotated[_Pods | None, Rule(key="eksProperties")] = None
    _attempts: Annotated[tuple[_Attempt, ...], Rule(key="attempts")] = ()
    _pod_attempts: Annotated[tuple[_Attempt, ...], Rule(key="eksAttempts")] = ()
    array: Annotated[ArrayDetail | None, Rule(key="arrayProperties")] = None
    nodes: Annotated[NodesDetail | None, Rule(key="nodeProperties")] = None
    depends_on: Annotated[tuple[Dependency, ...], Rule(key="dependsOn")] = ()
    platforms: Annotated[tuple[str, ...], Rule(key="platformCapabilities")] = ()
    cancelled: Annotated[bool, Rule(key="isCancelled")] = False
    terminated: Annotated[bool, Rule(key="isTerminated")] = False
    _timeout: Annotated[_Timeout | None, Rule(key="timeout")] = None
    _retry: Annotated[_Retry | None, Rule(key="retryStrategy")] = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def is_array(self) -> bool:
        """Whether it is an array as a whole, and not one of its children."""
        return self.array is not None and self.array.size is not None

    @property
    def fargate(self) -> bool:
        return "FARGATE" in self.platforms

    @property
    def queue(self) -> str:
        """The queue's name."""
        return self.queue_arn.rpartition("/")[2]

    @property
    def definition(self) -> str:
        """The definition, as ``name:revision``."""
        return self.definition_arn.rpartition("/")[2]

    @property
    def created(self) -> float | None:
        """When it was submitted, in seconds since the epoch."""
        return _seconds(self.created_ms)

    @property
    def started(self) -> float | None:
        """When its last attempt began, in seconds since the epoch; None: it hasn't."""
        return _seconds(self.started_ms)

    @property
    def stopped(self) -> float | None:
        """When it ended, in seconds since the epoch."""
        return _seconds(self.stopped_ms)

    @property
    def timeout(self) -> int | None:
        """Seconds that an attempt may take."""
        return self._timeout.seconds if self._timeout is not None else None

    @property
    def retries(self) -> int:
        """How many attempts Batch makes at most."""
        return self._retry.attempts if self._retry is not None else 1

    @property
    def on_eks(self) -> bool:
        return self._pods is not None

    @property
    def result_store(self) -> str | None:
        """Of an attempt of a queue: where its queue's results, logs and state are."""
        found = next((each.submission for each in self.containers if each.submission), None)
        return found.rpartition("/submissions/")[0] or None if found is not None else None

    @property
    def containers(self) -> tuple[ContainerDetail, ...]:
        """Its containers, with the end of the last attempt. None are told of an array's own."""
        if self._tasks is not None:
            return tuple(each for task in self._tasks.tasks for each in task.containers)
        if self._pods is not None:
            return self._pods.pod.containers if self._pods.pod is not None else ()
        return (self.container,) if self.container is not None else ()

    @property
    def attempts(self) -> tuple[AttemptDetail, ...]:
        """The attempts that have ended, the first one first."""
        made = self._attempts or self._pod_attempts
        return tuple(_attempt(number, each) for number, each in enumerate(made, 1))

    @property
    def ends(self) -> tuple[ContainerDetail, ...]:
        """How the containers of the last attempt ended: of several only its attempt may tell."""
        told = {each.name: each for each in self.attempts[-1].containers} if self.attempts else {}
        own = self.containers
        if not own:
            return tuple(told.values())
        return tuple(_joined(each, told.get(each.name)) for each in own)


def read_job(value: Mapping[str, Any]) -> JobDetail:
    """What DescribeJobs told of a job. Raises RecordError where that is no JobDetail."""
    return records.read(JobDetail, dict(value), "DescribeJobs")


def _joined(own: ContainerDetail, told: ContainerDetail | None) -> ContainerDetail:
    if told is None or own.exit_code is not None or own.reason is not None:
        return own
    stream = own.log_stream or told.log_stream
    return replace(own, exit_code=told.exit_code, reason=told.reason, log_stream=stream)


def _attempt(number: int, told: _Attempt) -> AttemptDetail:
    several = tuple(each for task in told.tasks for each in task.containers) or told.containers
    single = (told.container,) if told.container is not None else ()
    return AttemptDetail(
        number=number,
        started=_seconds(told.started_ms),
        stopped=_seconds(told.stopped_ms),
        reason=told.reason,
        containers=several or single,
    )


def _seconds(ms: int) -> float | None:
    return ms / 1000 if ms > 0 else None
