"""All that an account's Batch holds: definitions, queues, jobs; and what is found there by name.

``lock`` is held by whoever reads or changes it.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping

from . import limits, plans
from .compute import ComputeEnvironment, JobQueue
from .events import Events
from .fargate import check_pair
from .jobs import Definition, Document, Job
from .refusals import Refused, client_error
from .settings import Range, Settings
from .timers import Timers


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class World:
    def __init__(self, settings: Settings, events: Events | None = None) -> None:
        self.settings = settings
        self.events = events
        self.timers = Timers()
        self.lock = self.timers.lock
        self.dice = random.Random(settings.seed)
        self.environments: dict[str, ComputeEnvironment] = {}
        self.queues: dict[str, JobQueue] = {}
        self.definitions: dict[str, list[Definition]] = defaultdict(list)
        self.inactive: set[str] = set()
        self.tags: dict[str, dict[str, str]] = {}
        """By ARN, those of TagResource and of the request that made it."""
        self.shown: dict[str, Document] = {}
        """Jobs of kinds that aren't run here, as they are told: several nodes, EKS."""
        self.jobs: dict[str, Job] = {}
        self.visibility: Range = settings.visible_after_s
        self._shares: dict[str, set[str]] = defaultdict(set)
        self._number = 0

    def after(self, delay: Range, call: object) -> None:
        """``call`` after a time drawn from ``delay``, in Batch's seconds."""
        assert callable(call)
        self.timers.after(self.dice.uniform(*delay) * self.settings.second_s, call)

    def visible(self, job_id: str) -> Job | None:
        """The job, where the service would know it already, and still."""
        job = self.jobs.get(_last(job_id))
        return job if job is not None and job.visible_at <= time.monotonic() else None

    def queue(self, name: str) -> JobQueue:
        """Raises ``Refused``."""
        found = self.queues.get(_last(name))
        if found is None:
            raise Refused(400, "ClientException", f"JobQueue {name} not found.")
        return found

    def definition(self, name: str) -> Definition:
        """By name (its newest active revision), name:revision or ARN. Raises ``Refused``."""
        plain, _, revision = _last(name).partition(":")
        for found in reversed(self.definitions.get(plain, [])):
            if found.arn not in self.inactive and revision in ("", str(found.revision)):
                return found
        raise Refused(
            400,
            "ClientException",
            f"JobDefinition name {name} does not exist or is not in ACTIVE status",
        )

    def revisions(self) -> Iterator[Definition]:
        for revisions in self.definitions.values():
            yield from revisions

    def register(self, request: Document, size: int) -> Definition:
        """A new revision. Raises ``Refused``."""
        limits.check_registration(request, size)
        name = request["jobDefinitionName"]
        revision = len(self.definitions[name]) + 1
        arn = self.settings.arn(f"job-definition/{name}:{revision}")
        made = Definition(name, revision, arn, request)
        self.definitions[name].append(made)
        self.tags[arn] = dict(request.get("tags") or {})
        return made

    def add_job(self, request: Document, size: int) -> Job:
        """A job, with its children where it is an array. Raises ``Refused``."""
        queue = self.queue(request["jobQueue"])
        if not queue.enabled:
            raise client_error(f"JobQueue {queue.name} is not ENABLED")
        definition = self.definition(request["jobDefinition"])
        limits.check_submission(request, size, definition, fair_share=queue.fair_share)
        kinds = {environment.fargate for environment in queue.environments}
        if kinds and definition.fargate not in kinds:
            where = "FARGATE" if definition.fargate else "EC2"
            raise client_error(f"JobQueue {queue.name} has no compute environment for {where}")
        for dependency in request.get("dependsOn", ()):
            self._check_dependency(dependency, request)
        self._check_share(queue, request)
        properties = plans.merged(definition, request)
        if definition.fargate:
            check_pair(plans.containers_of(properties))
        job = self._job(str(uuid.uuid4()), queue, definition, request, properties)
        for index in range(request.get("arrayProperties", {}).get("size", 0)):
            child = self._job(f"{job.id}:{index}", queue, definition, request, properties)
            child.parent, child.index = job, index
            job.children.append(child)
        return job

    def forget(self, job: Job) -> None:
        for each in (job, *job.children):
            self.jobs.pop(each.id, None)
            self.tags.pop(each.arn, None)

    def _job(
        self,
        job_id: str,
        queue: JobQueue,
        definition: Definition,
        request: Document,
        properties: Document,
    ) -> Job:
        self._number += 1
        made = Job(
            id=job_id,
            arn=self.settings.arn(f"job/{job_id}"),
            name=request["jobName"],
            queue=queue.name,
            definition=definition,
            request=request,
            properties=properties,
            created_ms=now_ms(),
            visible_at=time.monotonic() + self.dice.uniform(*self.visibility),
            number=self._number,
        )
        self.jobs[job_id] = made
        self.tags[made.arn] = dict(request.get("tags") or {})
        return made

    def _check_dependency(self, dependency: Mapping[str, str], request: Document) -> None:
        if "jobId" not in dependency:
            return
        found = self.jobs.get(_last(dependency["jobId"]))
        if found is None:
            raise client_error(f"Job {dependency['jobId']} does not exist")
        if dependency.get("type") == "N_TO_N":
            if len(found.children) != request["arrayProperties"]["size"]:
                raise client_error("N_TO_N needs an array of the same size")

    def _check_share(self, queue: JobQueue, request: Document) -> None:
        if (share := request.get("shareIdentifier")) is not None:
            known = self._shares[queue.name]
            if share not in known and len(known) >= limits.SHARES:
                raise client_error(f"More than {limits.SHARES} share identifiers")
            known.add(share)


def _last(name: str) -> str:
    """What an ARN names; a plain name is its own."""
    return name.rpartition("/")[2] if name.startswith("arn:") else name
