"""Keeping two runs apart in one results folder.

A folder holds one run: the one its ``queue-state.json`` names. Another run's files are moved to
``runs/<run_id>/`` before the first of ours is stored, never removed and never mixed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from runner.errors import StateError
from runner.files import sync_folder
from runner.model.records import Name, parse
from runner.results.layout import Layout

FORMER = "runs"


@dataclass(frozen=True, slots=True)
class _Run:
    """All that matters here of a state; the run's name becomes a folder's."""

    run_id: Name


def set_former_run_aside(root: Path, layout: Layout, run_id: str) -> str | None:
    """Move another run's files away; returns where to, or None when there was none.

    The state goes last: as long as it is there, a repetition after a crash finishes the move.
    Raises OSError.
    """
    other = run_of(root / layout.state_key)
    if other is None or other == run_id:
        return None
    target = root / FORMER / other
    target.mkdir(parents=True, exist_ok=True)
    for name in ("jobs", "events", layout.given_key, layout.document_key, layout.state_key):
        source, place = root / name, target / name
        if not os.path.lexists(source):
            continue
        if os.path.lexists(place):
            place = target / f"{name}.{os.stat(source).st_mtime_ns}"
        os.rename(source, place)
    sync_folder(os.fsencode(root))
    return str(target)


def former_runs(root: Path) -> list[Path]:
    """The folders of former runs, the last one first."""
    try:
        found = [(each.stat().st_mtime_ns, each) for each in (root / FORMER).iterdir()]
    except OSError:
        return []
    return [folder for _, folder in sorted(found, reverse=True)]


def run_of(state: Path) -> str | None:
    """The run that a folder's state names; None if there is no such state."""
    try:
        return run_named(state.read_bytes())
    except OSError:
        return None


def run_named(state: bytes) -> str | None:
    """The run that a state names; None if it is none."""
    try:
        return parse(_Run, state, Layout.state_key).run_id
    except StateError:
        return None
