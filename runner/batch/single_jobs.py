"""Single jobs of AWS Batch, submitted as a person does it: without a claim and without a record.

Owns what becomes of a submission whose answer was lost. There is no token by which Batch knows a
second submission for the first one (Batch API reference, SubmitJob): each bears a mark among its
parameters, and is looked for by it.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from runner.aws.batch import Batch, may_have_happened
from runner.aws.errors import AwsError, ErrorKind
from runner.batch import plain_definitions
from runner.batch.request_limits import check_definition
from runner.errors import RunnerError

MARK = "runner-submission"
"""The parameter that holds a submission's mark."""

THROTTLED_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each new try of a submission that AWS throttled: it did not happen."""

SEARCH_PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each new look for a submission whose answer was lost: it is seen later."""

EARLIER = 300_000
"""ms that Batch's clock may be behind ours."""

Request = Mapping[str, Any]
Say = Callable[[str], None]


class LostSubmissionError(RunnerError):
    """The answer to a SubmitJob was lost, and no job of it could be found."""


def submit(batch: Batch, request: Request, say: Say) -> str:
    """The id of the job of a checked request. It is sent once, unless AWS throttled it.

    Raises AwsError for what was refused, LostSubmissionError where it isn't known whether there is
    a job. ``say`` hears what takes its time.
    """
    mark = uuid.uuid4().hex
    marked = {**request, "parameters": {**request.get("parameters", {}), MARK: mark}}
    since = time.time() * 1000 - EARLIER
    for pause in (*THROTTLED_PAUSES, None):
        try:
            return batch.submit(marked)
        except KeyboardInterrupt:
            say(f"interrupted while it was sent: {_look(request)}")
            raise
        except AwsError as error:
            if may_have_happened(error):
                say(f"the answer to the submission was lost ({error}): looking for the job")
                return _find(batch, request, mark, since, error)
            if error.kind is not ErrorKind.PASSING or pause is None:
                raise
            time.sleep(pause * random.uniform(0.5, 1.0))  # reason: AWS asks for slower calls
    raise AssertionError


def register(batch: Batch, request: Request) -> tuple[str, bool]:
    """The definition of a request as ``name:revision``, and whether it was registered just now.

    The newest one of its name is taken if it has the same content.
    """
    check_definition(request)
    name = request["jobDefinitionName"]
    newest = batch.definition(name)
    if newest is not None and plain_definitions.same_content(newest, request):
        return f"{name}:{newest['revision']}", False
    return batch.register(request), True


def _find(batch: Batch, request: Request, mark: str, since: float, lost: AwsError) -> str:
    queue, name = request["jobQueue"], request["jobName"]
    for pause in (*SEARCH_PAUSES, None):
        try:
            if (found := _marked(batch, queue, name, mark, since)) is not None:
                return found
        except AwsError as error:
            if error.kind is not ErrorKind.PASSING:
                raise _lost(queue, name, lost) from error
        if pause is not None:
            time.sleep(pause)  # reason: a new job is listed a little later, and nothing tells it
    raise _lost(queue, name, lost)


def _marked(batch: Batch, queue: str, name: str, mark: str, since: float) -> str | None:
    ids = [
        str(job["jobId"])
        for job in batch.named(queue, name)
        if job["jobName"] == name and job.get("createdAt", 0) >= since
    ]
    for job_id, job in batch.describe(ids).items():
        if (job.get("parameters") or {}).get(MARK) == mark:
            return job_id
    return None


def _lost(queue: str, name: str, error: AwsError) -> LostSubmissionError:
    return LostSubmissionError(
        f"the answer to the submission was lost ({error}), and no job of it can be seen: there may "
        "be one all the same\n"
        f"{_look({'jobQueue': queue, 'jobName': name})}"
    )


def _look(request: Request) -> str:
    look = f"`runner batch list --job-queue {request['jobQueue']} --name {request['jobName']}`"
    told = f"{look} shows the job as soon as Batch does, if there is one"
    return f"{told}; submitted again before that, the work may be done twice"
