"""ListJobs: one selector, a status or one filter, pages. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .jobs import Document, Job, State
from .refusals import client_error

SELECTORS = ("jobQueue", "arrayJobId", "multiNodeJobId")
LARGEST_PAGE = 1000
LARGEST_FILTERED_PAGE = 100
FILTERS = (
    "JOB_NAME",
    "JOB_DEFINITION",
    "BEFORE_CREATED_AT",
    "AFTER_CREATED_AT",
    "SHARE_IDENTIFIER",
)


def check(request: Document) -> None:
    """Raises ``Refused`` where ListJobs would be."""
    if sum(name in request for name in SELECTORS) != 1:
        raise client_error(f"Exactly one of {', '.join(SELECTORS)} is required")
    filters = request.get("filters") or ()
    if len(filters) > 1:
        raise client_error("Only one filter is supported")
    for each in filters:
        if each.get("name") not in FILTERS:
            raise client_error(f"No filter: {each.get('name')}")
        if len(each.get("values") or ()) != 1:
            raise client_error("A filter takes one value")
        if each["name"].endswith("CREATED_AT") and not each["values"][0].isdigit():
            raise client_error(f"{each['name']} takes milliseconds")
    if request.get("maxResults", 1) < 1:
        raise client_error("maxResults must be at least 1")


def select(request: Document, jobs: Sequence[Job]) -> list[Job]:
    """Of a queue's jobs, or an array's children, those that were asked for: newest first."""
    filters = request.get("filters") or ()
    if filters and "jobQueue" in request:
        # jobStatus counts for nothing beside a filter, save beside SHARE_IDENTIFIER.
        chosen = [job for job in jobs if _passes(job, filters[0]["name"], filters[0]["values"][0])]
        if filters[0]["name"] == "SHARE_IDENTIFIER" and "jobStatus" in request:
            chosen = [job for job in chosen if job.state == request["jobStatus"]]
    else:
        state = State(request.get("jobStatus", "RUNNING"))
        chosen = [job for job in jobs if job.state is state]
    return sorted(chosen, key=lambda job: -job.number)


def page(request: Document, jobs: Sequence[Job]) -> tuple[Sequence[Job], str | None]:
    """One page, and the token for the next: the number of the last job that was shown."""
    most = LARGEST_FILTERED_PAGE if request.get("filters") else LARGEST_PAGE
    size = min(request.get("maxResults", most), most)
    if (token := request.get("nextToken")) is not None:
        if not token.isdigit():
            raise client_error("Invalid nextToken")
        jobs = [job for job in jobs if job.number < int(token)]
    shown = jobs[:size]
    return shown, str(shown[-1].number) if len(jobs) > size else None


def _passes(job: Job, name: str, value: str) -> bool:
    match name:
        case "JOB_NAME":
            return _like(job.name, value)
        case "JOB_DEFINITION":
            definition = job.definition
            if value.startswith("arn:"):
                return definition.arn == value
            return _like(definition.name, value)
        case "BEFORE_CREATED_AT":
            return job.created_ms < int(value)
        case "AFTER_CREATED_AT":
            return job.created_ms > int(value)
        case _:
            return _like(job.request.get("shareIdentifier", ""), value)


def _like(text: str, pattern: str) -> bool:
    text, pattern = text.lower(), pattern.lower()
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
