"""A job's report as one page: HTML in one file that needs no network, now or in years.

Pure: records in, text out. Everything that comes from outside is escaped, or reaches the page as
packed data that its script shows as text; the page's Content-Security-Policy allows only its own
script and style, by their hashes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

from runner.fleet.job_views import JobProgress
from runner.fleet.machine_costs import cost_words
from runner.fleet.records import ReportedTask, TaskState
from runner.model.durations import format_duration
from runner.model.printable import clean
from runner.timestamps import rfc3339_seconds

LISTED_FAILURES = 1_000
"""Failed tasks that are listed without a search."""

LISTED_WORKERS = 500
"""Workers that are listed, those that did most first."""

REASON_LENGTH = 300
"""Characters of a reason that are told."""

BARS = 96
"""Of the chart of when tasks ended."""

_STATES = [state.value for state in TaskState]
_FAILED = (TaskState.TERMINAL_FAILED, TaskState.RETRYABLE_FAILED)


@dataclass(frozen=True, slots=True)
class JobReport:
    """``tasks``: those that are in the page, the failed ones first; ``total``: how many there are;
    ``made_at``: wall seconds; ``where``: the database, for people."""

    progress: JobProgress
    tasks: Sequence[ReportedTask]
    total: int
    made_at: float
    where: str
    version: str


def page(report: JobReport) -> str:
    """The whole page."""
    style, script = _resource("report_page.css"), _resource("report_page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = _text(f"Fleet job {report.progress.job.name}")
    body = "\n".join(_body(report))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _text(value: str) -> str:
    return escape(clean(value))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """``numbers``: heads of columns that are aligned to the right."""
    kinds = [' class="n"' if head in numbers else "" for head in heads]
    top = "".join(f"<th{kind}>{_text(h)}</th>" for h, kind in zip(heads, kinds, strict=True))
    lines = (
        "<tr>"
        + "".join(f"<td{kind}>{_text(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f"<table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody>\n</table>"
    )


# -- the sections ------------------------------------------------------------------------------


def _body(report: JobReport) -> Iterable[str]:
    progress = report.progress
    yield f"<h1>Fleet job {_text(progress.job.name)}</h1>"
    about = f"As of {rfc3339_seconds(report.made_at)}, from {report.where}; runner {report.version}"
    yield f'<p class="note">{_text(about)}</p>'
    yield f"<p><strong>{_text(_verdict(report))}</strong></p>"
    if progress.job.paused:
        yield f"<p>Paused: {_text(progress.job.paused)}</p>"
    yield f"<p>{_text(_pace(progress))}</p>"
    yield f"<p>{_text(cost_words(progress.cost))}</p>"
    yield "<h2>Tasks by state</h2>"
    yield _states(progress)
    yield "<h2>When tasks ended</h2>"
    yield from _chart(report.tasks)
    yield "<h2>How long done tasks took</h2>"
    yield _durations(report.tasks)
    yield "<h2>Reasons of failures</h2>"
    yield from _reasons(progress)
    yield from _failures(report)
    yield "<h2>Workers</h2>"
    yield from _workers(report)
    yield from _search(report)


def _verdict(report: JobReport) -> str:
    counts = {each.state: each.count for each in report.progress.totals}
    done, failed = counts.get(TaskState.DONE, 0), counts.get(TaskState.TERMINAL_FAILED, 0)
    told = f"{done:,} of {report.total:,} tasks are done"
    if failed:
        told += f", {failed:,} have failed for good"
    if left := report.progress.backlog.left:
        told += f", {left:,} are left"
    return f"{told}."


def _pace(progress: JobProgress) -> str:
    told = f"Rate lately: {progress.rate * 3600:,.0f} tasks an hour."
    if progress.backlog.left:
        eta = progress.eta
        left = "not known" if eta is None else format_duration(float(round(eta)))
        told += f" Time left: {left}."
    return f"{told} Workers: {len(progress.workers)}, {len(progress.silent)} of them silent."


def _states(progress: JobProgress) -> str:
    heads = ("State", "Tasks", "Images", "Errors", "Mean duration (s)")
    rows = [
        (
            each.state.value,
            f"{each.count:,}",
            f"{each.total_images:,}",
            f"{each.nb_errors:,}",
            f"{each.mean_ms / 1000:,.1f}" if each.timed else "-",
        )
        for each in progress.totals
    ]
    return _table(heads, rows, heads[1:])


def _chart(tasks: Sequence[ReportedTask]) -> Iterable[str]:
    """Bars of those that ended done, and failed for good, over time."""
    ends = [
        (task.ended, task.state is TaskState.DONE)
        for task in tasks
        if task.ended is not None and task.state in (TaskState.DONE, TaskState.TERMINAL_FAILED)
    ]
    if not ends:
        yield '<p class="note">None has ended.</p>'
        return
    first, last = min(ends)[0], max(ends)[0]
    width = max((last - first) / BARS, 1e-3)
    bars = Counter((min(BARS - 1, int((end - first) / width)), done) for end, done in ends)
    highest = max(bars[at, True] + bars[at, False] for at in range(BARS))
    label = "Tasks that ended over time, done and failed"
    yield (
        f'<svg viewBox="0 0 {BARS} 100" preserveAspectRatio="none" role="img" aria-label="{label}">'
    )
    for at in range(BARS):
        top = 100.0
        for done, name in ((True, "done"), (False, "failed")):
            if count := bars[at, done]:
                high = 100.0 * count / highest
                top -= high
                box = f'x="{at + 0.05:.2f}" y="{top:.2f}" width="0.9" height="{high:.2f}"'
                yield f'<rect class="{name}" {box}/>'
    yield "</svg>"
    span = f"{rfc3339_seconds(first)} to {rfc3339_seconds(last)}"
    each = format_duration(max(1.0, float(round(width))))
    yield f'<p class="note">{span}; a bar is {each}, the highest has {highest:,} tasks.</p>'


def _durations(tasks: Sequence[ReportedTask]) -> str:
    taken = sorted(
        task.duration_ms / 1000
        for task in tasks
        if task.state is TaskState.DONE and task.duration_ms is not None
    )
    if not taken:
        return '<p class="note">None is done.</p>'
    heads = ("Shortest", "Half are below", "9 in 10", "99 in 100", "Longest")
    places = (0.0, 0.5, 0.9, 0.99, 1.0)
    cells = [f"{taken[min(len(taken) - 1, int(part * len(taken)))]:,.1f} s" for part in places]
    return _table(heads, [cells], heads)


def _reasons(progress: JobProgress) -> Iterable[str]:
    if not progress.failures:
        yield '<p class="note">None has failed.</p>'
        return
    rows = [
        (f"{each.count:,}", each.state.value, each.reason[:REASON_LENGTH])
        for each in progress.failures
    ]
    yield _table(("Tasks", "State", "Reason"), rows, ("Tasks",))
    yield f'<p class="note">The {len(rows)} most frequent.</p>'


def _failures(report: JobReport) -> Iterable[str]:
    failed = [task for task in report.tasks if task.state in _FAILED]
    if not failed:
        return
    yield "<h2>Failed tasks</h2>"
    rows = [
        (
            task.key,
            task.state.value,
            str(task.attempts),
            "-" if task.ended is None else rfc3339_seconds(task.ended),
            task.worker or "-",
            (task.reason or "")[:REASON_LENGTH],
        )
        for task in failed[:LISTED_FAILURES]
    ]
    heads = ("Task", "State", "Attempts", "Ended", "Worker", "Reason")
    yield f'<div class="scroll">\n{_table(heads, rows, ("Attempts",))}\n</div>'
    if len(failed) > len(rows):
        yield f'<p class="note">The first {len(rows):,} of {len(failed):,}; search has more.</p>'


def _workers(report: JobReport) -> Iterable[str]:
    ended = Counter(task.worker for task in report.tasks if task.ended is not None and task.worker)
    spent: Counter[str] = Counter()
    for task in report.tasks:
        if task.worker and task.duration_ms is not None:
            spent[task.worker] += round(task.duration_ms)
    if not ended:
        yield '<p class="note">None has ended a task.</p>'
        return
    rows = [
        (name, f"{count:,}", f"{spent[name] / 1000:,.1f}")
        for name, count in ended.most_common(LISTED_WORKERS)
    ]
    heads = ("Worker", "Tasks ended", "Time in them (s)")
    yield f'<div class="scroll">\n{_table(heads, rows, heads[1:])}\n</div>'
    if len(ended) > len(rows):
        yield f'<p class="note">The first {len(rows):,} of {len(ended):,} workers.</p>'


def _search(report: JobReport) -> Iterable[str]:
    yield "<h2>Search</h2>"
    if len(report.tasks) < report.total:
        held = f"{len(report.tasks):,} of {report.total:,}"
        yield (
            f"<p>This page holds {held} tasks, the failed ones and then the newest: search, chart, "
            "durations and workers are of these. The counts above are of all.</p>"
        )
    choices = "".join(f'<option value="{state}">{state}</option>' for state in _STATES)
    yield (
        '<p><input id="q" type="search" placeholder="part of a task, a worker or a reason" '
        f'aria-label="Search"> <select id="state" aria-label="State"><option value="">any state'
        f'</option>{choices}</select> <span id="count" class="note"></span></p>'
    )
    yield "<noscript><p>The search needs scripts; all above does not.</p></noscript>"
    heads = ("Task", "State", "Attempts", "Ended", "Seconds", "Worker", "Reason")
    top = "".join(f"<th>{head}</th>" for head in heads)
    yield f'<table>\n<thead><tr>{top}</tr></thead>\n<tbody id="found"></tbody>\n</table>'
    yield '<p><button id="more" type="button" hidden>Show more</button></p>'
    yield f'<script id="tasks" type="text/plain">{packed(report.tasks)}</script>'


# -- the data of the search --------------------------------------------------------------------


def packed(tasks: Sequence[ReportedTask]) -> str:
    """The tasks by columns: JSON, gzip, base64, which has no character of markup."""
    ended = [task.ended for task in tasks if task.ended is not None]
    base = int(min(ended)) if ended else 0
    workers, reasons = _Numbers(), _Numbers()
    columns: dict[str, Any] = {
        "key": [clean(task.key) for task in tasks],
        "state": [_STATES.index(task.state.value) for task in tasks],
        "attempts": [task.attempts for task in tasks],
        "ended": [None if task.ended is None else int(task.ended) - base for task in tasks],
        "duration": [
            None if task.duration_ms is None else round(task.duration_ms) for task in tasks
        ],
        "worker": [workers.of(task.worker) for task in tasks],
        "reason": [reasons.of(task.reason and task.reason[:REASON_LENGTH]) for task in tasks],
    }
    told = {
        "base": base,
        "states": _STATES,
        "workers": workers.texts,
        "reasons": reasons.texts,
        **columns,
    }
    text = json.dumps(told, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


class _Numbers:
    """Texts that come often, each once: ``of`` gives its place in ``texts``."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._known: dict[str, int] = {}

    def of(self, text: str | None) -> int | None:
        if not text:
            return None
        if (at := self._known.get(text)) is None:
            at = self._known[text] = len(self.texts)
            self.texts.append(clean(text))
        return at
