"""The list of what the tests' Batch server does."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_each_fact_has_its_test() -> None:
    """The list would promise what nothing shows."""
    text = (TESTS / "batch_server/FACTS.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(named) == len(rows)
    there = {
        name
        for path in TESTS.glob("*/test_batch_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)
    }
    assert named <= there, named - there
