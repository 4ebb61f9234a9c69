"""Why each job of a queue has not begun, or has not gone well: reasons with stable codes, and what
a person can do. Pure.

Goes by what `status` answers, wherever it comes from, and by the order of the document. Owns the
words and the codes. It decides nothing: what the scheduler will do is the scheduler's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.core.consequences import HELD
from runner.core.inputs import DIFFERS
from runner.core.states import UNCHANGED
from runner.model.elements import split_name

NAMED = 5
"""Jobs that one reason names; of more their number is told."""

Row = Mapping[str, Any]
"""A job, or a queue, as `status` answers it."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """What of the document a reason goes by. ``depends_on``: ids of jobs, without indices;
    ``parent``: the job that has expanded to it."""

    job_id: str
    depends_on: tuple[str, ...] = ()
    run_if: str = "success"
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """``code`` stays the same over versions. ``holders``: the jobs that are waited for; ``until``:
    the next moment (RFC 3339) at which it can change by itself; ``steps``: what a person can do."""

    code: str
    text: str
    steps: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    until: str | None = None

    def view(self) -> dict[str, Any]:
        """For JSON."""
        told: dict[str, Any] = {"code": self.code, "text": self.text, "steps": list(self.steps)}
        if self.holders:
            told["holders"] = list(self.holders)
        if self.until is not None:
            told["until"] = self.until
        return told


@dataclass(frozen=True, slots=True)
class Situation:
    """A queue at one moment. ``most``: how many jobs may run at once, None where that isn't known;
    ``word``: what names the queue on a command line, such as ``--queue q``."""

    queue: Row
    jobs: Sequence[Row]
    plan: Mapping[str, PlannedJob]
    most: int | None = None
    word: str = ""
    by_id: Mapping[str, Row] = field(init=False)
    running: Sequence[str] = field(init=False)
    families: Mapping[str, Sequence[str]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_id", {row["job_id"]: row for row in self.jobs})
        running = [row["job_id"] for row in self.jobs if row["status"] == "running"]
        object.__setattr__(self, "running", running)
        families: dict[str, list[str]] = {}
        for job in self.plan.values():
            if job.parent is not None:
                families.setdefault(job.parent, []).append(job.job_id)
        object.__setattr__(self, "families", families)

    def before(self, job: PlannedJob | None) -> Iterator[str]:
        """What a job waits for: of a job that has expanded to others, those, too."""
        for name in job.depends_on if job is not None else ():
            yield name
            todo = [*self.families.get(name, ())]
            while todo and job is not None and job.parent != name:
                yield (member := todo.pop(0))
                todo += self.families.get(member, ())

    def command(self, text: str) -> str:
        """A command about this queue."""
        return f"`runner {text}{f' {self.word}' if self.word else ''}`"


def of_queue(now: Situation) -> list[Reason]:
    """What concerns all of its jobs."""
    queue, found = now.queue, []
    if queue["status"] in ("completed", "failed", "cancelled"):
        return []
    if queue.get("blocked"):
        found.append(Reason("queue_waits", f"the queue waits: {queue['blocked']}"))
    elif queue.get("queued"):
        found.append(Reason("queue_waits", f"the queue waits for {queue['queued']}"))
    elif not queue.get("worker"):
        steps = tuple(now.queue.get("source", {}).get("next", ())) or (
            "the same `runner run` goes on with it; a submitted queue goes on with the daemon",
        )
        why = now.queue.get("source", {}).get("why")
        text = "no process works on the queue" + (f": {why}" if why else "")
        found.append(Reason("no_worker", text, steps))
    if queue.get("paused"):
        found.append(Reason("paused", "the queue is paused", (now.command("unpause"),)))
    if queue.get("reason") and queue["status"] != "pending" and not queue.get("blocked"):
        found.append(Reason("queue", str(queue["reason"])))
    return found


def of_job(now: Situation, row: Row) -> list[Reason]:
    """Why a job stands as it does; of one that runs or has gone well only whether its inputs have
    changed."""
    match row["status"]:
        case "pending":
            return list(_pending(now, row))
        case "interrupted":
            text = row.get("reason") or "its attempt was interrupted"
            return [Reason("interrupted", f"{text}: it runs again, and that doesn't count")]
        case "failed":
            return [_failed(now, row)]
        case "skipped":
            return [_skipped(now, row)]
        case "cancelled":
            retry = now.command(f"retry {row['job_id']}")
            return [Reason("cancelled", row.get("reason") or "it was cancelled", (retry,))]
    return [*_changes(now, row), *_results(now, row)]


def _changes(now: Situation, row: Row) -> Iterator[Reason]:
    """Why a job with `inputs` runs, has run, or was not run."""
    reason = str(row.get("reason") or "")
    if reason == UNCHANGED:
        again = now.command(f"retry --completed {row['job_id']}")
        text = "it was not run: nothing that it depends on has changed since its last run"
        yield Reason(reason, text, (f"{again} runs it",))
    elif reason.startswith(DIFFERS):
        yield Reason("changed", f"it was run again, for this has {reason}")


# -- waiting -------------------------------------------------------------------------------------


def _pending(now: Situation, row: Row) -> Iterator[Reason]:
    job = now.plan.get(split_name(row["job_id"])[0])
    waits = [name for name in now.before(job) if not _ended(now, name)]
    if waits:
        yield _dependency(now, waits)
        return
    if job is not None and job.run_if == "failure" and (before := _unended_before(now, job)):
        text = f"whether something before it fails isn't known yet: {_names(before)}"
        yield Reason("dependency", text, (), tuple(before[:NAMED]))
        return
    unstored = [name for name in now.before(job) if _unstored(now, name)]
    if unstored:
        text = f"waits until the results of {_names(unstored)} are stored"
        yield Reason("collecting", text, (), tuple(unstored[:NAMED]))
    reason, until = row.get("reason"), row.get("next_attempt_at")
    if until:
        yield Reason("backoff", f"{reason or 'its last attempt failed'}", until=until)
    elif reason == HELD:
        yield Reason("hold", HELD, (now.command(f"release {row['job_id']}"),))
    elif reason:
        code = "disk" if reason.startswith("disk full") else "inputs"
        yield Reason(code, reason)
    running = now.running
    if (now.most is not None and len(running) >= now.most) or (now.most is None and running):
        at_once = "as many as may run at once" if now.most else "it waits for its turn"
        text = f"{_number(len(running))}: {_names(running)}; {at_once}"
        step = "more at once: max_parallel_jobs of the document (--update)"
        yield Reason("slot", text, (step,), tuple(running[:NAMED]))


def _unended_before(now: Situation, job: PlannedJob) -> list[str]:
    """All jobs before it that have not ended."""
    todo = list(now.before(job))
    found, seen = [], set(todo)
    while todo:
        name = todo.pop()
        if not _ended(now, name):
            found.append(name)
        new = [each for each in now.before(now.plan.get(name)) if each not in seen]
        seen.update(new)
        todo += new
    return found


def _unstored(now: Situation, name: str) -> bool:
    row = now.by_id.get(name)
    return row is not None and row.get("results_uploaded") is False


def _number(count: int) -> str:
    return "1 job runs" if count == 1 else f"{count:,} jobs run"


def _dependency(now: Situation, waits: Sequence[str]) -> Reason:
    told = []
    for name in waits[:NAMED]:
        before = now.by_id.get(name)
        status = before["status"] if before is not None else "pending"
        since = f" since {before['started_at']}" if _runs(before) and before else ""
        told.append(f"'{name}' ({status}{since})")
    more = f" and {len(waits) - NAMED:,} more" if waits[NAMED:] else ""
    return Reason("dependency", f"waits for {', '.join(told)}{more}", (), tuple(waits[:NAMED]))


def _runs(row: Row | None) -> bool:
    return row is not None and row["status"] == "running" and bool(row.get("started_at"))


def _ended(now: Situation, name: str) -> bool:
    row = now.by_id.get(name)
    return row is not None and row["status"] in ("completed", "failed", "skipped", "cancelled")


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if names[NAMED:] else ""
    return ", ".join(names[:NAMED]) + more


# -- ended ---------------------------------------------------------------------------------------


def _failed(now: Situation, row: Row) -> Reason:
    name = row["job_id"]
    text = row.get("error_message") or row.get("reason") or "it failed"
    log, retry = now.command(f"logs {name}"), now.command(f"retry {name}")
    if "array" in row:
        return Reason("failed", text, (now.command(f"status --job {name}"), retry))
    if row.get("timed_out"):
        steps = (f"a longer `timeout`, or less work; {log} shows how far it came", retry)
        return Reason("timeout", text, steps)
    if row.get("oom_killed"):
        steps = ("more memory: `resources.memory`, a larger machine, or less at once", retry)
        return Reason("out_of_memory", text, steps)
    if row.get("exit_code") == 127:
        return Reason("command_not_found", text, (f"{log} names the command", retry))
    if row.get("exit_code") is not None:
        return Reason("exit_code", text, (f"{log} shows what it said", retry))
    if row.get("signal"):
        return Reason("signal", text, (f"{log} shows what it said", retry))
    return Reason("failed", text, (retry,))


def _skipped(now: Situation, row: Row) -> Reason:
    roots = _roots(now, row["job_id"])
    text = row.get("reason") or "it was skipped"
    if not roots:
        return Reason("skipped", text)
    # The one before it is in the reason; the first of the chain is what is to be mended.
    step = f"mend {_names(roots)}, then {now.command(f'retry {roots[0]}')}"
    return Reason("dependency_failed", text, (step,), tuple(roots[:NAMED]))


def _roots(now: Situation, name: str) -> list[str]:
    """The failed or cancelled jobs that it was skipped for, nearest first."""
    found, seen, todo = [], {name}, [name]
    while todo:
        job = now.plan.get(todo.pop(0))
        for before in now.before(job):
            row = now.by_id.get(before)
            if before in seen or row is None:
                continue
            seen.add(before)
            if row["status"] in ("failed", "cancelled"):
                found.append(before)
            elif row["status"] == "skipped":
                todo.append(before)
    return found


def _results(now: Situation, row: Row) -> Iterator[Reason]:
    if row.get("results_uploaded") is False or row.get("result_error"):
        text = row.get("result_error") or "its results are not stored yet"
        yield Reason("results", text, (now.command(f"logs {row['job_id']}"),))
