"""The ECS agent around a task: the roles' keys, secrets, and what containers may ask it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from . import metadata
from .executors import Container
from .jobs import Attempt, Document, Job
from .services import CannotAssume, Keys, NoSecret, Services
from .task_endpoint import TaskEndpoint
from .tasks import Task

UNASSUMED = (
    "ECS was unable to assume the role '{role}' that was provided for this task. Please verify that"
    " the role being passed has the proper trust relationship and permissions and that your IAM"
    " user has permissions to pass this role."
)
NO_SECRET = (
    "ResourceInitializationError: unable to pull secrets or registry auth: execution resource"
    " retrieval failed: {why}"
)
RENEWED_AT = 0.5
"""The share of the keys' lifetime after which the agent has new ones."""


class CannotPrepare(Exception):
    """No container starts; the text is the task's reason."""


class Agent:
    """``env``: what every container is told beside what is its own."""

    def __init__(
        self, services: Services, endpoint: TaskEndpoint, env: Mapping[str, str], region: str
    ) -> None:
        self._services = services
        self._endpoint = endpoint
        self._env = env
        self._region = region

    @contextmanager
    def serving(
        self, job: Job, attempt: Attempt, task: Task, *, fargate: bool
    ) -> Iterator[Mapping[str, Mapping[str, str]]]:
        """Container → what it finds in its environment, while the task can ask.

        Raises ``CannotPrepare``.
        """
        roles = _Roles(self._services, job)
        secrets = self._secrets(job, task.containers, roles)
        common = {**self._env, **self._where(fargate)}
        paths: list[str] = []
        if roles.task is not None:
            path = f"/v2/credentials/{uuid.uuid4()}"
            self._endpoint.add(path, roles.task.answer)
            paths.append(path)
            if self._endpoint.real:
                common["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = path
            else:
                common["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"{self._endpoint.url}{path}"
        env: dict[str, dict[str, str]] = {}
        for container in task.containers:
            path = f"/v4/{uuid.uuid4()}"
            paths += self._show(path, job, attempt, task, container, fargate)
            url = f"{self._endpoint.url}{path}"
            own = {"ECS_CONTAINER_METADATA_URI_V4": url, **secrets.get(container.name, {})}
            env[container.name] = {**common, **own}
        try:
            yield env
        finally:
            for path in paths:
                self._endpoint.remove(path)

    def _where(self, fargate: bool) -> dict[str, str]:
        if not fargate:
            return {"AWS_EXECUTION_ENV": "AWS_ECS_EC2"}
        return {
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
            "AWS_DEFAULT_REGION": self._region,
            "AWS_REGION": self._region,
        }

    def _secrets(
        self, job: Job, containers: Sequence[Container], roles: _Roles
    ) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for container in containers:
            for each in container.options.get("secrets") or ():
                if roles.execution is None:
                    raise CannotPrepare(NO_SECRET.format(why="the task has no execution role"))
                try:
                    value = self._services.secret(each["valueFrom"], roles.execution.now())
                except NoSecret as error:
                    raise CannotPrepare(NO_SECRET.format(why=error)) from error
                found.setdefault(container.name, {})[each["name"]] = value
        return found

    def _show(
        self,
        path: str,
        job: Job,
        attempt: Attempt,
        task: Task,
        container: Container,
        fargate: bool,
    ) -> list[str]:
        def all_of_it() -> list[Document]:
            looks = task.look()
            return [
                metadata.container(job, attempt, each, looks[each.name]) for each in task.containers
            ]

        def own() -> Document:
            return metadata.container(job, attempt, container, task.look()[container.name])

        def whole() -> Document:
            return metadata.task(job, attempt, all_of_it(), fargate=fargate)

        self._endpoint.add(path, own)
        self._endpoint.add(f"{path}/task", whole)
        return [path, f"{path}/task"]


class _Roles:
    """The job role and the execution role of a job; both must be had, or nothing starts."""

    def __init__(self, services: Services, job: Job) -> None:
        holder = job.properties.get("taskProperties", [job.properties])[0]
        self.task = _renewed(services, holder.get("taskRoleArn") or holder.get("jobRoleArn"), job)
        self.execution = _renewed(services, holder.get("executionRoleArn"), job)


def _renewed(services: Services, role: str | None, job: Job) -> _Renewed | None:
    try:
        return None if role is None else _Renewed(services, role, job.id.replace(":", "-"))
    except CannotAssume as error:
        raise CannotPrepare(UNASSUMED.format(role=role)) from error


class _Renewed:
    """A role's keys, and new ones in time."""

    def __init__(self, services: Services, role: str, session: str) -> None:
        self._services, self._role, self._session = services, role, session
        self._lock = threading.Lock()
        self._got_at = time.time()
        self._keys = services.keys(role, session)

    def now(self) -> Keys:
        with self._lock:
            age, whole = time.time() - self._got_at, self._keys.expires - self._got_at
            if age > RENEWED_AT * whole:
                self._got_at = time.time()
                self._keys = self._services.keys(self._role, self._session)
            return self._keys

    def answer(self) -> Document:
        keys = self.now()
        expires = datetime.fromtimestamp(keys.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "RoleArn": keys.role,
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret,
            "Token": keys.token,
            "Expiration": expires,
        }
