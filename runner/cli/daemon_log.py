"""How the daemon's own log looks: records for the journal, else one event a line on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from runner.cli.show.outlet import Outlet
from runner.cli.show.run_view import QUIET, in_words, stamp
from runner.cli.show.text import clean
from runner.host import journal

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""<syslog.h>"""

_NAMED = {"event": "RUNNER_EVENT"}
_ABOUT = ("event", "level", "exception", "queue", "job")
"""What a line says in its own way; all else follows as name=value."""

_LINE = 2000
"""Characters of a line for people; the fields have it all."""


def log_events() -> Outlet:
    """Have events logged as it suits stderr; returns the outlet to be finished at the end.

    The journal gets fields, a terminal the lines of ``runner run``, all else logfmt.
    """
    outlet = Outlet()
    ending: list[Any]
    if journal.is_journal(2, os.environ):
        logger: Any = _Records(outlet, journal.Journal(journal.SOCKET))
        ending = [_as_fields]
    elif sys.stderr.isatty():
        logger, ending = _Lines(outlet), [_short]
    else:
        logger = _Lines(outlet)
        ending = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _without_control_characters,
            *ending,
        ],
        logger_factory=lambda *_: logger,
        cache_logger_on_first_use=True,
    )
    return outlet


def _without_control_characters(
    logger: Any, method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A job's words must not drive the terminal that a daemon was started from."""
    for name, value in fields.items():
        if isinstance(value, str):
            fields[name] = "\n".join(clean(line) for line in value.split("\n"))
    return fields


def record(fields: Mapping[str, Any]) -> dict[str, str]:
    """An event as the journal keeps it: a line for people, and every field by its name."""
    made = {
        "MESSAGE": sentence(fields),
        "PRIORITY": str(_PRIORITY[fields["level"]]),
        "SYSLOG_IDENTIFIER": "runner",
    }
    for name, value in fields.items():
        if name == "level" or value is None:
            continue
        field = _NAMED.get(name) or journal.field_name(name)
        # The journal keeps both of two values of one name: nobody could tell them apart.
        made[f"RUNNER_{field}" if field in made else field] = _plain(value)
    return made


def sentence(fields: Mapping[str, Any]) -> str:
    """``nightly: train completed attempt=1 in=2.1s``; an exception follows on lines of its own."""
    queue, job = fields.get("queue"), fields.get("job")
    who = f"{queue}: {job}" if queue and job else str(queue or "runner")
    detail = {name: value for name, value in fields.items() if name not in _ABOUT}
    text = in_words(who, fields["event"], detail)
    if len(text) > _LINE:
        text = text[:_LINE] + "…"
    return f"{text}\n{fields['exception']}" if "exception" in fields else text


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _as_fields(
    logger: Any, method: str, fields: MutableMapping[str, Any]
) -> tuple[tuple[dict[str, Any]], dict[str, Any]]:
    return (dict(fields),), {}


def _short(logger: Any, method: str, fields: MutableMapping[str, Any]) -> str:
    if fields["event"] in QUIET:
        return ""
    return f"{stamp(time.time())} {sentence(fields)}"


class _Lines:
    """A logger in structlog's sense."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def msg(self, text: str) -> None:
        if text:
            self._outlet.put(sys.stderr, lambda: f"{text}\n")

    debug = info = warning = error = critical = exception = msg


class _Records:
    """The same for the journal. What its socket doesn't take is a plain line on its stream."""

    def __init__(self, outlet: Outlet, target: journal.Journal) -> None:
        self._outlet = outlet
        self._target = target

    def msg(self, fields: dict[str, Any]) -> None:
        self._outlet.put(sys.stderr, lambda: self._send(fields))

    def _send(self, fields: dict[str, Any]) -> str:
        return "" if self._target.send(record(fields)) else f"{sentence(fields)}\n"

    debug = info = warning = error = critical = exception = msg
