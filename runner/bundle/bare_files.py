"""The files of ``bare``: what is sent as text to where runner isn't there yet."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("bare")


def bare_files() -> list[Path]:
    """Every module of it, in a fixed order; below ``runner/bundle/bare`` they import each other."""
    return sorted(_FOLDER.glob("*.py"))
