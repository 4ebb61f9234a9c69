"""Jobs on their way: from one state to the next, by time, by dependencies, by their tasks' ends."""

from __future__ import annotations

import heapq
import os
import tempfile
import threading
import time
import traceback
import uuid
from collections import defaultdict
from functools import partial

from . import plans, retries, tasks
from .agent import Agent, CannotPrepare
from .compute import Host, Placement, place
from .executors import Executor
from .jobs import CANCELLABLE, ENDED, Attempt, Job, State
from .limits import overrides_too_long, too_many_tags
from .world import World, now_ms

DEPENDENCY_FAILED = "Dependent Job failed"
CHILD_FAILED = "Array Child Job failed"
TIMED_OUT = "Job attempt duration exceeded timeout"
OVERRIDES_TOO_LONG = "Container Overrides length must be at most 8192"
TOO_MANY_TAGS = "The combined tags of the job and the job definition are more than 50"
SPOT_INTERRUPTED = "Your Spot Task was interrupted."


class Progress:
    """Every method expects the world's lock to be held, or takes it."""

    def __init__(self, world: World, executor: Executor, agent: Agent, folder: str) -> None:
        self._world = world
        self._executor = executor
        self._agent = agent
        self._folder = folder
        self._dependants: dict[str, list[Job]] = defaultdict(list)
        self._tasks: dict[Attempt, tasks.Task] = {}
        self._places: dict[str, Placement] = {}
        self._threads: set[threading.Thread] = set()

    def submitted(self, job: Job) -> None:
        """A new job, and its children, begin."""
        bad = None
        if overrides_too_long(job.request):
            bad = OVERRIDES_TOO_LONG
        elif too_many_tags(job.request, job.definition):
            bad = TOO_MANY_TAGS
        for each in (job, *job.children):
            each.ending = bad
            if each is not job or not job.children:
                self._depend(each)
            self._world.after(self._world.settings.delays.submitted, partial(self._evaluate, each))

    def cancel(self, job: Job, reason: str) -> None:
        """What hasn't begun yet goes; anything else stays as it is, silently."""
        for each in job.children or [job]:
            if each.state not in CANCELLABLE:
                continue
            each.cancelled = each.never_again = True
            each.ending = each.ending or reason
            # A job that waits for others goes when they have ended.
            if not each.waits_for and each.state is not State.SUBMITTED:
                self._end(each, State.FAILED, reason)
        if job.children and job.state not in ENDED:
            job.cancelled = True

    def terminate(self, job: Job, reason: str) -> None:
        for each in job.children or [job]:
            if each.state in ENDED:
                continue
            each.terminated = each.never_again = True
            each.ending = each.ending or reason
            if each.state in CANCELLABLE:
                self._end(each, State.FAILED, reason)
            elif (task := self._task(each)) is not None:
                task.stop()
        if job.children and job.state not in ENDED:
            job.terminated = True

    def lose_host(self, host: Host) -> None:
        """It is gone, with every container on it, and without a word from them."""
        for environment in self._world.environments.values():
            if host in environment.hosts:
                environment.hosts.remove(host)
        for job_id, placement in list(self._places.items()):
            job = self._world.jobs[job_id]
            if placement.host is host and job.current is not None:
                attempt = job.current
                attempt.status_reason = f"Host EC2 (instance {host.id}) terminated."
                if (task := self._tasks.get(attempt)) is not None:
                    task.kill()
                self._after_end(job, attempt, tasks.EXITED, lost=True)

    def interrupt(self, job: Job) -> None:
        """A Spot task is reclaimed: SIGTERM, and SIGKILL when its time is up."""
        if job.current is not None and (task := self._task(job)) is not None:
            job.current.status_reason = SPOT_INTERRUPTED
            task.stop()

    def hosts(self) -> dict[str, Host]:
        """Id of a job that is placed on a host → the host."""
        return {
            job_id: placement.host
            for job_id, placement in self._places.items()
            if placement.host is not None
        }

    def close(self) -> None:
        """Every task is killed; the threads that waited for them have ended."""
        with self._world.lock:
            left, threads = list(self._tasks.values()), list(self._threads)
        for task in left:
            task.kill()
        for thread in threads:
            thread.join(10)

    def place_all(self) -> None:
        """Whatever can be placed now is: the queues in their order, each from its head."""
        for queue in sorted(self._world.queues.values(), key=lambda each: -each.priority):
            while turns := queue.in_turn():
                waiting = turns[0]
                job = self._world.jobs.get(waiting[0][2])
                if job is None or job.state is not State.RUNNABLE or job.id in self._places:
                    heapq.heappop(waiting)
                    continue
                found = place(queue, plans.needs(job.properties), self._world.settings.arn)
                if isinstance(found, Placement):
                    heapq.heappop(waiting)
                    self._start(job, found)
                    continue
                if found and job.reason != found:
                    job.reason = found
                    self._limit(job, found)
                break

    def _move(self, job: Job, state: State) -> None:
        """Into the next state; whoever listens hears it once the rest is told too."""
        job.move(state)
        if self._world.events is not None:
            publish = partial(self._world.events.moved, job, str(state), self._world.settings)
            self._world.timers.after(0, publish)

    def _depend(self, job: Job) -> None:
        """Notes whom it waits for; one that has failed already fails it."""
        for dependency in job.request.get("dependsOn", ()):
            kind, name = dependency.get("type"), dependency.get("jobId", "").rpartition("/")[2]
            if kind == "SEQUENTIAL":
                assert job.parent is not None and job.index is not None
                if job.index == 0:
                    continue
                name = f"{job.parent.id}:{job.index - 1}"
            elif kind == "N_TO_N":
                name = f"{name}:{job.index}"
            before = self._world.jobs[name]
            if before.state is State.FAILED:
                job.ending = job.ending or DEPENDENCY_FAILED
            elif before.state is not State.SUCCEEDED:
                job.waits_for.add(name)
                self._dependants[name].append(job)

    def _evaluate(self, job: Job) -> None:
        if job.state is not State.SUBMITTED:
            return
        if job.children:
            # Its children's ends end it, though they may all have been quicker.
            self._move(job, State.PENDING)
            self._end_parent(job)
        elif job.waits_for and not (job.ending and not job.cancelled):
            self._move(job, State.PENDING)
        elif job.ending is not None:
            self._end(job, State.FAILED, job.ending)
        else:
            self._runnable(job)

    def _runnable(self, job: Job) -> None:
        self._move(job, State.RUNNABLE)
        job.reason = None
        job.current = None
        job.head_since_ms = now_ms()
        self._world.after(self._world.settings.delays.runnable, partial(self._queue, job))

    def _queue(self, job: Job) -> None:
        if job.state is State.RUNNABLE:
            queue = self._world.queues[job.queue]
            waiting = queue.waiting.setdefault(job.share if queue.fair_share else "", [])
            heapq.heappush(waiting, (-_priority(job), job.number, job.id))
            self.place_all()

    def _limit(self, job: Job, reason: str) -> None:
        """The queue's jobStateTimeLimitActions for a job that can't be placed."""
        for limit in self._world.queues[job.queue].limits:
            if limit["reason"] == reason:
                seconds = float(str(limit["maxTimeSeconds"]))
                text = f"Canceled by JobStateTimeLimit action due to reason: {reason}"
                self._world.after((seconds, seconds), partial(self._too_long, job, reason, text))

    def _too_long(self, job: Job, reason: str, text: str) -> None:
        if job.state is State.RUNNABLE and job.reason == reason:
            self.cancel(job, text)
            self.place_all()

    def _count(self, job: Job, vcpus: float) -> None:
        in_use = self._world.queues[job.queue].in_use
        in_use[job.share] = in_use.get(job.share, 0.0) + vcpus

    def _start(self, job: Job, placement: Placement) -> None:
        task_id = uuid.uuid4().hex
        cluster = f"{placement.environment.name}_Batch"
        attempt = Attempt(
            number=len(job.attempts) + 1,
            task_arn=self._world.settings.arn(f"task/{cluster}/{task_id}", "ecs"),
            streams={
                each.get("name", plans.MAIN): plans.stream_of(each, job.definition, task_id)
                for each in plans.containers_of(job.properties)
            },
            host_arn=placement.host.arn if placement.host is not None else None,
        )
        self._places[job.id] = placement
        self._count(job, placement.needs.vcpus)
        self._move(job, State.STARTING)
        job.reason = None
        job.current = attempt
        self._world.after(
            self._world.settings.delays.starting, partial(self._run, job, attempt, placement)
        )

    def _run(self, job: Job, attempt: Attempt, placement: Placement) -> None:
        if attempt.stopped_ms is not None:
            return
        if job.ending is not None:
            self._settle(job, attempt, tasks.NOT_STARTED)
            return
        folder = tempfile.mkdtemp(prefix="task-", dir=self._folder)
        shared = os.path.join(self._folder, "shared")
        containers = plans.plan(job, attempt, placement, folder, shared)
        fargate = placement.environment.fargate
        task = tasks.Task(self._executor, containers, self._world.settings.second_s, folder)
        self._tasks[attempt] = task

        def run() -> None:
            try:
                with self._agent.serving(job, attempt, task, fargate=fargate) as env:
                    status = task.run(partial(self._running, job, attempt), env)
            except CannotPrepare as error:
                status = str(error)
            except Exception:
                self._world.timers.errors.append(traceback.format_exc())
                status = tasks.NOT_STARTED
            with self._world.lock:
                self._threads.discard(thread)
                self._after_end(job, attempt, status)

        thread = threading.Thread(target=run, name=f"batch-{job.id}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _running(self, job: Job, attempt: Attempt) -> None:
        with self._world.lock:
            if attempt.settled:
                return
            attempt.started_ms = job.started_ms = now_ms()
            self._move(job, State.RUNNING)
            if (seconds := job.timeout_seconds) is not None:
                self._world.after((seconds, seconds), partial(self._time_out, job, attempt))

    def _time_out(self, job: Job, attempt: Attempt) -> None:
        if not attempt.settled and (task := self._tasks.get(attempt)) is not None:
            job.never_again = True
            job.ending = job.ending or TIMED_OUT
            task.stop()

    def _task(self, job: Job) -> tasks.Task | None:
        return self._tasks.get(job.current) if job.current is not None else None

    def _after_end(self, job: Job, attempt: Attempt, status: str, *, lost: bool = False) -> None:
        """The service hears of it a little later. A lost host's containers tell nothing."""
        if attempt.stopped_ms is not None:
            return
        attempt.stopped_ms = now_ms()
        if not lost:
            ends = self._tasks[attempt].ends
            attempt.ends = {name: (end.exit_code, end.reason) for name, end in ends.items()}
        self._world.after(
            self._world.settings.delays.ended, partial(self._settle, job, attempt, status)
        )

    def _settle(self, job: Job, attempt: Attempt, status: str) -> None:
        if attempt.settled:
            return
        attempt.settled = True
        self._tasks.pop(attempt, None)
        placement = self._places.pop(job.id)
        placement.release()
        self._count(job, -placement.needs.vcpus)
        attempt.stopped_ms = attempt.stopped_ms or now_ms()
        attempt.status_reason = job.ending or attempt.status_reason or status
        job.attempts.append(attempt)
        succeeded = job.ending is None and status == tasks.EXITED and self._all_well(job, attempt)
        if succeeded:
            self._end(job, State.SUCCEEDED, attempt.status_reason)
        elif self._again(job, attempt):
            self._runnable(job)
        else:
            self._end(job, State.FAILED, attempt.status_reason)
        self.place_all()

    @staticmethod
    def _all_well(job: Job, attempt: Attempt) -> bool:
        """Every essential container ended with 0."""
        essential = [
            each.get("name", plans.MAIN)
            for each in plans.containers_of(job.properties)
            if each.get("essential", True)
        ]
        return all(attempt.ends.get(name, (None, None))[0] == 0 for name in essential)

    @staticmethod
    def _again(job: Job, attempt: Attempt) -> bool:
        if job.never_again or len(job.attempts) >= job.retry["attempts"]:
            return False
        failed = [end for end in attempt.ends.values() if end[0] != 0] or [(None, None)]
        code, reason = failed[0]
        return retries.again(job.retry["evaluateOnExit"], code, reason, attempt.status_reason or "")

    def _end(self, job: Job, state: State, reason: str | None) -> None:
        self._move(job, state)
        job.reason = reason
        job.stopped_ms = now_ms()
        if job.parent is not None:
            self._end_parent(job.parent)
        else:
            self._world.timers.after(
                7 * self._world.settings.day_s, partial(self._world.forget, job)
            )
        for dependant in self._dependants.pop(job.id, ()):
            self._resolve(dependant, job)

    def _end_parent(self, parent: Job) -> None:
        if parent.state is State.PENDING and all(each.state in ENDED for each in parent.children):
            failed = any(each.state is State.FAILED for each in parent.children)
            self._end(
                parent, *((State.FAILED, CHILD_FAILED) if failed else (State.SUCCEEDED, None))
            )

    def _resolve(self, job: Job, before: Job) -> None:
        """One that it waited for has ended."""
        job.waits_for.discard(before.id)
        if before.state is State.FAILED:
            job.ending = job.ending or DEPENDENCY_FAILED
        if job.state is State.PENDING and (before.state is State.FAILED or not job.waits_for):
            if job.ending is not None:
                self._end(job, State.FAILED, job.ending)
            else:
                self._runnable(job)


def head_of_queue(world: World, queue: str) -> list[Job]:
    """The first RUNNABLE jobs, in the order in which they are placed."""
    now = time.monotonic()
    found = [
        job
        for job in world.jobs.values()
        if job.queue == queue and job.state is State.RUNNABLE and job.visible_at <= now
    ]
    return sorted(found, key=lambda job: (-_priority(job), job.number))[:100]


def _priority(job: Job) -> int:
    """The higher, the sooner; only a fair-share queue has other ones than 0."""
    own: int = job.definition.request.get("schedulingPriority", 0)
    asked: int = job.request.get("schedulingPriorityOverride", own)
    return asked
