"""The requests that only look, by their names; and ``plan``, what `explain` goes by.

A plan tells of a document what its jobs wait for, and nothing of what they do: whoever may look may
have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from runner.service import request_fields as given
from runner.service.queries import (
    Answer,
    Query,
    QueryContext,
    job,
    logs,
    ping,
    queue_name,
    queues,
    status,
)
from runner.service.request_fields import Fields

if TYPE_CHECKING:
    # Imported where a plan is read: `status` starts with this module.
    from runner.model.document import JobSpec, QueueSpec

PAGE = 2_000
"""Jobs in one answer: they are short."""


def plan(context: QueryContext, fields: Fields) -> Callable[[], Answer]:
    """A page of the queue's plan: ``after``, ``limit`` choose it. See ``page_of``."""
    name = queue_name(context, fields)
    after = given.number(fields, "after", 0)
    limit = min(given.number(fields, "limit", PAGE), PAGE)
    session = context.session_of(name)
    most = None if session is None else session.scheduler.most

    def read() -> Answer:
        from runner.service.batch_placement import placed_on_batch

        entry = context.repository.find(name)
        answer = page_of(context.repository.stored_document(name), after, limit)
        if most is not None:
            answer["most"] = most
        if (place := placed_on_batch(entry)) is not None:
            answer["batch"] = {"job_queue": place.job_queue, "region": place.region}
        return answer

    return read


def page_of(document: QueueSpec, after: int = 0, limit: int | None = None) -> Answer:
    """``{"plan": [[job_id, run_if, depends_on…], …], "most": N, "job_queues": […], "after": N}``:
    ``most`` jobs run at once, null where that is the machine's; ``after`` where more jobs follow;
    ``parents``: of those that others have expanded to.
    """
    from runner.model.document import FIT

    jobs: Sequence[JobSpec] = document.jobs
    some = list(islice(jobs, after, None if limit is None else after + limit))
    most = document.max_parallel_jobs
    answer: dict[str, Any] = {
        "plan": [[each.job_id, each.run_if, *_before(each)] for each in some],
        "most": None if most == FIT else most,
        "job_queues": sorted({name for each in jobs if (name := _queue_of(document, each))}),
    }
    if parents := {e.job_id: by for e in some if (by := document.added.get(e.job_id))}:
        answer["parents"] = parents
    if limit is not None and after + limit < len(jobs):
        answer["after"] = after + limit
    return answer


def _before(job: JobSpec) -> Iterator[str]:
    for name in job.depends_on:
        yield name.removesuffix("[]")


def _queue_of(document: QueueSpec, job: JobSpec) -> str | None:
    own = document.placed(job).batch
    return None if own is None else own.queue


QUERIES: dict[str, Query] = {
    "ping": ping,
    "queues": queues,
    "status": status,
    "job": job,
    "logs": logs,
    "plan": plan,
}
