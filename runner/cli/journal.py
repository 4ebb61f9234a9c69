"""How the daemon's own log looks: one event a line on stderr, for a journal or a person."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from runner.cli.outlet import Outlet
from runner.cli.text import clean


def log_to_stderr() -> Outlet:
    """One ``time event field=value …`` line per event; JSON is the journal's business.

    Returns the outlet to be finished at the end.
    """
    outlet = Outlet()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _without_control_characters,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=lambda *_: _Lines(outlet),
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


class _Lines:
    """A logger in structlog's sense."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def msg(self, text: str) -> None:
        self._outlet.put(sys.stderr, lambda: f"{text}\n")

    debug = info = warning = error = critical = exception = msg
