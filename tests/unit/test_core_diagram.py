"""The diagrams of the documentation show the tables, all of them and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runner.core import diagram
from runner.core.states import ENDED, JOB_TRANSITIONS, QUEUE_ENDED, QUEUE_TRANSITIONS

DIAGRAMS: list[tuple[str, dict[Any, Any], dict[Any, str], frozenset[Any]]] = [
    (diagram.job_diagram(), JOB_TRANSITIONS, diagram.JOB_CAUSES, ENDED),
    (diagram.queue_diagram(), QUEUE_TRANSITIONS, diagram.QUEUE_CAUSES, QUEUE_ENDED),
]
IDS = ["job", "queue"]


@pytest.mark.parametrize(("text", "table", "causes", "ended"), DIAGRAMS, ids=IDS)
def test_every_transition_is_drawn_once(
    text: str, table: dict[Any, Any], causes: dict[Any, str], ended: frozenset[Any]
) -> None:
    """The documentation would show a machine that isn't the code's."""
    drawn = re.findall(r"^    (\w+) --> (\w+): (.+)$", text, re.M)
    legal = {(old.value, new.value) for old, news in table.items() for new in news}
    assert {(old, new) for old, new, _ in drawn} == legal
    assert len(drawn) == len(legal)
    assert all(cause.strip() and ":" not in cause for _, _, cause in drawn)


@pytest.mark.parametrize(("text", "table", "causes", "ended"), DIAGRAMS, ids=IDS)
def test_there_is_a_word_for_each_transition_and_no_other(
    text: str, table: dict[Any, Any], causes: dict[Any, str], ended: frozenset[Any]
) -> None:
    """A transition that was taken out of the table would still have its explanation."""
    assert set(causes) == set(diagram.edges(table))


@pytest.mark.parametrize(("text", "table", "causes", "ended"), DIAGRAMS, ids=IDS)
def test_where_it_begins_and_may_end(
    text: str, table: dict[Any, Any], causes: dict[Any, str], ended: frozenset[Any]
) -> None:
    """A reader would not see which states are ends."""
    lines = text.splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> pending"]
    ends = {line.split()[0] for line in lines if line.endswith("--> [*]")}
    assert ends == {status.value for status in ended}
