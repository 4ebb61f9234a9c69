"""The operations of the service: a checked request in, an answer out.

Each is called with the world's lock held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from . import answers, listing
from .jobs import Document, Job
from .limits import DESCRIBED, TAGS, check_reason
from .progress import Progress, head_of_queue
from .refusals import client_error
from .world import World, now_ms

LARGEST_PAGE = 100


class Operations:
    def __init__(self, world: World, progress: Progress) -> None:
        self._world = world
        self._progress = progress
        self._known: Mapping[str, Callable[[Document, int], Document]] = {
            "RegisterJobDefinition": self._register,
            "DeregisterJobDefinition": self._deregister,
            "DescribeJobDefinitions": self._definitions,
            "SubmitJob": self._submit,
            "DescribeJobs": self._describe,
            "ListJobs": self._list,
            "CancelJob": self._cancel,
            "TerminateJob": self._terminate,
            "DescribeJobQueues": self._queues,
            "DescribeComputeEnvironments": self._environments,
            "GetJobQueueSnapshot": self._snapshot,
            "DescribeSchedulingPolicies": self._policies,
            "ListSchedulingPolicies": self._policy_names,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._tags,
        }

    def call(self, operation: str, request: Document, size: int) -> Document:
        """``size``: bytes of the request's body. Raises ``Refused``."""
        if (function := self._known.get(operation)) is None:
            raise client_error(f"{operation} is not known to this server")
        return function(request, size)

    def _register(self, request: Document, size: int) -> Document:
        made = self._world.register(request, size)
        return {
            "jobDefinitionName": made.name,
            "jobDefinitionArn": made.arn,
            "revision": made.revision,
        }

    def _deregister(self, request: Document, _: int) -> Document:
        self._world.inactive.add(self._world.definition(request["jobDefinition"]).arn)
        return {}

    def _definitions(self, request: Document, _: int) -> Document:
        named = set(request.get("jobDefinitions", ()))
        found = [
            {
                **answers.definition(each, active=each.arn not in self._world.inactive),
                "tags": dict(self._world.tags[each.arn]),
            }
            for each in self._world.revisions()
            if (not named or named & {each.arn, f"{each.name}:{each.revision}", each.name})
            and request.get("jobDefinitionName", each.name) == each.name
        ]
        wanted = request.get("status")
        found = [each for each in found if wanted in (None, each["status"])]
        return _paged("jobDefinitions", found[::-1], request)

    def _submit(self, request: Document, size: int) -> Document:
        job = self._world.add_job(request, size)
        self._progress.submitted(job)
        return {"jobArn": job.arn, "jobName": job.name, "jobId": job.id}

    def _describe(self, request: Document, _: int) -> Document:
        ids = request["jobs"]
        if len(ids) > DESCRIBED:
            raise client_error(f"Maximum number of jobs supported is  {DESCRIBED} .")
        found = {job.id: job for each in ids if (job := self._world.visible(each)) is not None}
        tags = self._world.tags
        return {
            "jobs": [
                {**answers.detail(job, self._world.settings), "tags": dict(tags[job.arn])}
                for job in found.values()
            ]
            + [shown for each in ids if (shown := self._world.shown.get(each)) is not None]
        }

    def _list(self, request: Document, _: int) -> Document:
        listing.check(request)
        if (whole := request.get("multiNodeJobId")) is not None:
            return {"jobSummaryList": self._nodes(whole, request.get("jobStatus", "RUNNING"))}
        jobs: list[Job]
        if "jobQueue" in request:
            queue = self._world.queue(request["jobQueue"]).name
            jobs = [
                job
                for job in list(self._world.jobs.values())
                if job.queue == queue and job.parent is None
            ]
        else:
            parent = self._world.visible(request["arrayJobId"])
            jobs = parent.children if parent is not None else []
        visible = [job for job in jobs if self._world.visible(job.id) is not None]
        shown, token = listing.page(request, listing.select(request, visible))
        answer: Document = {"jobSummaryList": [answers.summary(job) for job in shown]}
        return answer if token is None else {**answer, "nextToken": token}

    def _nodes(self, whole: str, status: str) -> list[Document]:
        """The nodes of a job on several, of those that are only shown."""
        kept = ("jobId", "jobName", "status", "nodeProperties")
        return [
            {name: each[name] for name in kept if name in each}
            for job_id, each in sorted(self._world.shown.items())
            if job_id.startswith(f"{whole}#") and each["status"] == status
        ]

    def _cancel(self, request: Document, _: int) -> Document:
        check_reason(request["reason"])
        if (job := self._world.visible(request["jobId"])) is not None:
            self._progress.cancel(job, request["reason"])
            self._progress.place_all()
        return {}

    def _terminate(self, request: Document, _: int) -> Document:
        check_reason(request["reason"])
        if (job := self._world.visible(request["jobId"])) is not None:
            self._progress.terminate(job, request["reason"])
            self._progress.place_all()
        return {}

    def _queues(self, request: Document, _: int) -> Document:
        settings = self._world.settings
        named = {name.rpartition("/")[2] for name in request.get("jobQueues", ())}
        found = [
            answers.queue(each, settings)
            for each in self._world.queues.values()
            if not named or each.name in named
        ]
        return _paged("jobQueues", found, request)

    def _environments(self, request: Document, _: int) -> Document:
        settings = self._world.settings
        named = {name.rpartition("/")[2] for name in request.get("computeEnvironments", ())}
        found = [
            answers.environment(each, settings)
            for each in self._world.environments.values()
            if not named or each.name in named
        ]
        return _paged("computeEnvironments", found, request)

    def _snapshot(self, request: Document, _: int) -> Document:
        queue = self._world.queue(request["jobQueue"])
        return answers.snapshot(
            head_of_queue(self._world, queue.name), queue.environments, now_ms()
        )

    def _policies(self, request: Document, _: int) -> Document:
        found = [
            answers.scheduling_policy(queue, self._world.settings)
            for queue in self._world.queues.values()
            if queue.fair_share
        ]
        return {"schedulingPolicies": [each for each in found if each["arn"] in request["arns"]]}

    def _policy_names(self, request: Document, _: int) -> Document:
        found = [
            {"arn": answers.scheduling_policy(queue, self._world.settings)["arn"]}
            for queue in self._world.queues.values()
            if queue.fair_share
        ]
        return _paged("schedulingPolicies", found, request)

    def _tag(self, request: Document, _: int) -> Document:
        held = self._tagged(request)
        made = {**held, **request["tags"]}
        if len(made) > TAGS:
            raise client_error(f"More than {TAGS} tags")
        held.update(made)
        return {}

    def _untag(self, request: Document, _: int) -> Document:
        held = self._tagged(request)
        for key in request["tagKeys"]:
            held.pop(key, None)
        return {}

    def _tags(self, request: Document, _: int) -> Document:
        return {"tags": dict(self._tagged(request))}

    def _tagged(self, request: Document) -> dict[str, str]:
        arn = request["resourceArn"]
        if (held := self._world.tags.get(arn)) is None:
            raise client_error(f"Resource {arn} does not exist")
        return held


def _paged(name: str, found: Sequence[Document], request: Document) -> Document:
    token = request.get("nextToken", "0")
    if not token.isdigit():
        raise client_error("Invalid nextToken")
    start = int(token)
    end = start + min(request.get("maxResults", LARGEST_PAGE), LARGEST_PAGE)
    answer: Document = {name: list(found[start:end])}
    return answer if end >= len(found) else {**answer, "nextToken": str(end)}
