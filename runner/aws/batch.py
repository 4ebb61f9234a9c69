"""AWS Batch: jobs are submitted, looked at, found by name and ended; definitions are registered.

Thin: it knows neither our documents nor attempts. Facts: Batch API reference; Batch User Guide,
"Service quotas".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling, part_of

CONNECT_TIMEOUT = 5
READ_TIMEOUT = 30

DESCRIBED = 100
"""Ids that DescribeJobs takes at most."""

LONGEST_REASON = 1_024
"""Characters of a reason for CancelJob and TerminateJob."""

THROTTLED = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling"})

NOT_SENT = frozenset(
    {"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError",
     "CredentialRetrievalError", "MetadataRetrievalError"}
)  # fmt: skip
"""botocore's errors before there is a connection to send anything over."""

Document = dict[str, Any]


class Batch:
    """One region. All calls block, and raise AwsError; it may be used by several threads.

    ``failed`` hears of each call that fails, but for those of ``submit``."""

    def __init__(
        self, region: str | None = None, failed: Callable[[AwsError], None] = lambda error: None
    ) -> None:
        self._region = region
        self._failed = failed
        self._once: Any = None
        self._again: Any = None

    def submit(self, request: Mapping[str, Any]) -> str:
        """The id of a new job. Sent once: SubmitJob has no client token, a second is another job.

        After an AwsError of which ``may_have_happened`` is true, only ``named`` can tell.
        """
        if self._once is None:
            self._once = self._make(attempts=1)
        try:
            answer = _call(self._once, "submit_job", request)
        except AwsError as error:
            if error.kind is ErrorKind.EXPIRED:
                self._once = None  # a new client reads keys and settings again
            raise
        return str(part_of(answer, "SubmitJob", "jobId"))

    def register(self, request: Mapping[str, Any]) -> str:
        """A new revision of a definition, as ``name:revision``; a lost answer leaves one more."""
        answer = self._call("register_job_definition", request)
        name = part_of(answer, "RegisterJobDefinition", "jobDefinitionName")
        return f"{name}:{part_of(answer, 'RegisterJobDefinition', 'revision')}"

    def describe(self, ids: Sequence[str]) -> dict[str, Document]:
        """Id → JobDetail. One that Batch doesn't know, or not yet, isn't in it."""
        found: dict[str, Document] = {}
        for start in range(0, len(ids), DESCRIBED):
            some = list(ids[start : start + DESCRIBED])
            answer = self._call("describe_jobs", {"jobs": some})
            jobs = part_of(answer, "DescribeJobs", "jobs")
            found |= {str(part_of(job, "DescribeJobs", "jobId")): job for job in jobs}
        return found

    def named(self, queue: str, prefix: str) -> list[Document]:
        """JobSummary of every job of a queue whose name begins so, in all states, newest first.

        New jobs may take a while to be listed.
        """
        # The filter is blind to case, and with it Batch ignores jobStatus.
        wanted = [{"name": "JOB_NAME", "values": [f"{prefix}*"]}]
        found = self._jobs({"jobQueue": queue, "filters": wanted})
        return [job for job in found if str(job.get("jobName", "")).startswith(prefix)]

    def children(self, array: str, states: Iterable[str]) -> list[Document]:
        """JobSummary of an array's children in these states."""
        return [
            job for state in states for job in self._jobs({"arrayJobId": array, "jobStatus": state})
        ]

    def in_states(self, queue: str, states: Iterable[str]) -> Iterator[Document]:
        """JobSummary of every job of a queue in these states, one state after the other."""
        for state in states:
            yield from self._jobs({"jobQueue": queue, "jobStatus": state})

    def definition(self, name: str) -> Document | None:
        """The newest active definition of a name, or that of ``name:revision`` or an ARN."""
        if ":" in name:
            wanted: Document = {"jobDefinitions": [name]}
        else:
            wanted = {"jobDefinitionName": name, "status": "ACTIVE"}
        found = list(self._pages("describe_job_definitions", "jobDefinitions", wanted))
        revision = max(
            (part_of(each, "DescribeJobDefinitions", "revision") for each in found), default=None
        )
        return next((each for each in found if each["revision"] == revision), None)

    def queue(self, name: str) -> Document | None:
        """JobQueueDetail of a queue, by name or ARN; None if there is none."""
        wanted = {"jobQueues": [name]}
        return next(self._pages("describe_job_queues", "jobQueues", wanted), None)

    def environments(self, names: Sequence[str]) -> list[Document]:
        """ComputeEnvironmentDetail of each, by names or ARNs."""
        if not names:
            return []
        wanted = {"computeEnvironments": list(names)}
        return list(self._pages("describe_compute_environments", "computeEnvironments", wanted))

    def snapshot(self, queue: str) -> Document:
        """The first 100 RUNNABLE jobs of a queue: GetJobQueueSnapshot's answer."""
        return self._call("get_job_queue_snapshot", {"jobQueue": queue})

    def cancel(self, job: str, reason: str) -> None:
        """Ends it where it hasn't begun yet; else nothing happens."""
        self._call("cancel_job", {"jobId": job, "reason": reason[:LONGEST_REASON]})

    def terminate(self, job: str, reason: str) -> None:
        """Ends it in whichever state it is. Nothing happens where it has ended."""
        self._call("terminate_job", {"jobId": job, "reason": reason[:LONGEST_REASON]})

    def _jobs(self, request: Mapping[str, Any]) -> Iterator[Document]:
        return self._pages("list_jobs", "jobSummaryList", request)

    def _pages(self, operation: str, member: str, request: Mapping[str, Any]) -> Iterator[Document]:
        token: str | None = None
        while True:
            more = {} if token is None else {"nextToken": token}
            answer = self._call(operation, {**request, **more})
            yield from part_of(answer, operation.title().replace("_", ""), member)
            if (token := answer.get("nextToken")) is None:
                return

    def _call(self, operation: str, request: Mapping[str, Any]) -> Document:
        """One that may be sent again after a lost answer."""
        if self._again is None:
            self._again = self._make()
        try:
            return _call(self._again, operation, request)
        except AwsError as error:
            if error.kind is ErrorKind.EXPIRED:
                self._again = None
            self._failed(error)
            raise

    def _make(self, **options: int) -> Any:
        client = make_client(
            "batch",
            self._region,
            connect=CONNECT_TIMEOUT,
            read=READ_TIMEOUT,
            own_session=True,
            **options,
        )
        client.meta.events.register("before-parse.batch.DescribeJobs", _read_jobs)
        return client


def may_have_happened(error: AwsError) -> bool:
    """Whether a call that failed so may have had its effect all the same."""
    return error.kind is ErrorKind.PASSING and error.code not in THROTTLED | NOT_SENT


_NULLS = (b":null", b": null")
"""What botocore leaves out. A command in an answer may well hold the word itself."""


def _read_jobs(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """Read DescribeJobs' answer as the JSON that it is.

    botocore walks through its model for every member of every job, which is most of what it costs
    to watch 10,000 jobs. Names and types in the answer are those of the model: nothing in it is a
    date or base64. Of what isn't as it should be, botocore itself makes an error.
    """
    body = response_dict["body"]
    if response_dict["status_code"] != 200 or any(null in body for null in _NULLS):
        return
    try:
        jobs = json.loads(body)["jobs"]
    except (ValueError, LookupError, TypeError):
        return
    if isinstance(jobs, list) and all(isinstance(job, dict) for job in jobs):
        customized_response_dict["jobs"] = jobs
        response_dict["body"] = b"{}"


def _call(client: Any, operation: str, request: Mapping[str, Any]) -> Document:
    with calling(lambda error: error):
        answer: Document = getattr(client, operation)(**request)
    return answer
