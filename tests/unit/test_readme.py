"""What the README shows that is generated: it is what the code says today."""

from __future__ import annotations

import re
from pathlib import Path

from runner.core.diagram import job_diagram, queue_diagram

README = Path(__file__).parent.parent.parent / "README.md"


def shown(name: str) -> str:
    found = re.search(
        rf"<!-- {name} -->\n```mermaid\n(.*?)```\n<!-- end -->", README.read_text(), re.S
    )
    assert found is not None, f"the README has no part '{name}'"
    return found[1].strip()


def test_the_diagrams_are_those_of_the_tables() -> None:
    """People would read of transitions that the scheduler doesn't know."""
    assert shown("diagram: jobs") == job_diagram().strip()
    assert shown("diagram: queues") == queue_diagram().strip()
