"""The HTTP side, and what a test does with the server: queues, faults, hosts that die."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import refusals
from .agent import Agent
from .compute import ComputeEnvironment, JobQueue
from .events import Events
from .executors import Executor
from .faults import Fault, Faults
from .jobs import Document, Job
from .operations import Operations
from .progress import Progress
from .rights import Rights, access_key_of
from .service_model import operation_of, problems_of_answer, problems_of_request
from .services import NoServices, Services
from .settings import Range, Settings
from .task_endpoint import TaskEndpoint
from .world import World


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in, and what was wrong with it, if anything."""

    operation: str
    request: Document
    error: str | None


class BatchServer:
    """A Batch of its own on loopback; ``close`` ends it and every container.

    ``seen``: all requests, in order. ``faults``: what the next ones meet. ``services``: the rest of
    the account, for its tasks. ``events``: who hears of changes of state. ``tasks``: what tasks ask
    the ECS agent. ``rights``: who may call what; everybody everything without.
    """

    def __init__(
        self,
        executor: Executor,
        settings: Settings | None = None,
        services: Services | None = None,
        events: Events | None = None,
        rights: Rights | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.faults = Faults(self.settings.rates)
        self.seen: list[Seen] = []
        self._rights = rights
        self._executor = executor
        self._folder = tempfile.mkdtemp(prefix="batch-server-")
        self._world = World(self.settings, events)
        self.tasks = TaskEndpoint(self.settings.agent_address)
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        # Without other services a task is alone: it needs no Batch either.
        env = {**services.env, "AWS_ENDPOINT_URL_BATCH": self.url} if services else {}
        agent = Agent(services or NoServices(), self.tasks, env, self.settings.region)
        self._progress = Progress(self._world, executor, agent, self._folder)
        self._operations = Operations(self._world, self._progress)
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.05,), name="batch-http", daemon=True
        )
        self._thread.start()

    def add_environment(self, name: str, **options: Any) -> ComputeEnvironment:
        """``options``: fields of ``ComputeEnvironment``."""
        with self._world.lock:
            made = self._world.environments[name] = ComputeEnvironment(name, **options)
        return made

    def add_queue(self, name: str, *environments: ComputeEnvironment, **options: Any) -> JobQueue:
        """``options``: fields of ``JobQueue``."""
        with self._world.lock:
            made = self._world.queues[name] = JobQueue(name, list(environments), **options)
        return made

    def queue(self, name: str) -> JobQueue:
        """As it stands."""
        with self._world.lock:
            return self._world.queues[name]

    def set_placing(self, environment: ComputeEnvironment, places: bool) -> None:
        """Whether jobs find room there from now on."""
        with self._world.lock:
            environment.places = places
            self._progress.place_all()

    def set_visibility(self, seconds: Range) -> None:
        """Real seconds until later submissions can be seen."""
        with self._world.lock:
            self._world.visibility = seconds

    def lose_host_of(self, job_id: str) -> str:
        """The host that the job runs on dies; answers the instance's id."""
        with self._world.lock:
            host = self._progress.hosts()[job_id]
            self._progress.lose_host(host)
        return host.id

    def interrupt(self, job_id: str) -> None:
        """Its Spot task is reclaimed."""
        with self._world.lock:
            self._progress.interrupt(self._world.jobs[job_id])

    def show(self, *details: Document) -> None:
        """Have jobs be told that aren't run here, by their JobDetails: those on EKS, and those on
        several nodes, which are jobs with ids `id#n`."""
        with self._world.lock:
            self._world.shown |= {str(each["jobId"]): each for each in details}

    def jobs(self) -> list[Job]:
        """Every job there is, whoever may see it yet."""
        with self._world.lock:
            return list(self._world.jobs.values())

    def errors(self) -> list[str]:
        """Mistakes of the server itself: a test that finds one has failed."""
        return list(self._world.timers.errors)

    def answer(
        self, operation: str, body: bytes, given: Document, access_key: str
    ) -> tuple[Document, Fault | None]:
        """``given``: members of the request that stand in its path. Raises ``Refused``. With
        ``LOST_REQUEST`` nothing was done."""
        fault = self.faults.take(operation)
        request: Document = {}
        try:
            if fault is Fault.LOST_REQUEST:
                return {}, fault
            if fault is Fault.THROTTLED:
                raise refusals.throttled()
            if fault is Fault.BROKEN:
                raise refusals.broken()
            request = {**_decoded(body), **given}
            if problems := problems_of_request(operation, request):
                raise refusals.client_error("; ".join(problems))
            if self._rights is not None:
                self._rights.check(access_key, operation, request)
            with self._world.lock:
                answer = self._operations.call(operation, request, len(body))
        except refusals.Refused as refused:
            self.seen.append(Seen(operation, request, refused.code))
            raise
        self.seen.append(Seen(operation, request, None))
        if problems := problems_of_answer(operation, answer):
            self._world.timers.errors.append(f"{operation} answered: {'; '.join(problems)}")
        return answer, fault

    def failed(self, text: str) -> None:
        """A request met a mistake of the server."""
        self._world.timers.errors.append(text)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._world.timers.close()
        self._progress.close()
        self._executor.close()
        self.tasks.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or that hangs up, is none of the tests' business."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _decoded(body: bytes) -> Document:
    try:
        found: Document = json.loads(body or b"{}")
    except ValueError:
        raise refusals.client_error("The body is no JSON") from None
    return found


def _handler(server: BatchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self._answer("POST")

        def do_GET(self) -> None:
            self._answer("GET")

        def do_DELETE(self) -> None:
            self._answer("DELETE")

        def _answer(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                if "Authorization" not in self.headers:
                    raise refusals.unsigned()
                operation, given = operation_of(method, self.path)
                if operation is None:
                    raise refusals.client_error(f"No such path: {self.path}")
                key = access_key_of(self.headers["Authorization"])
                answer, fault = server.answer(operation, body, given, key)
            except refusals.Refused as refused:
                self._send(refused.status, {"message": refused.message}, refused.code)
                return
            except Exception as error:
                server.failed(repr(error))
                self._send(500, {"message": repr(error)}, "ServerException")
                return
            if fault in (Fault.LOST_REQUEST, Fault.LOST_ANSWER):
                self.close_connection = True
                return
            self._send(200, answer)

        def _send(self, status: int, answer: Document, error: str | None = None) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if error is not None:
                self.send_header("x-amzn-ErrorType", error)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
