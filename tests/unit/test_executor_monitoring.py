"""What tells of an Executor: its log, its dashboards, the tables of its guide."""

from __future__ import annotations

import ast
import json
import logging
import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from templates import Function, templates_loader
from test_executor_session import Make, StubTarget, session_of, submitted

from runner.api.capabilities import NAMES, SYNONYMS
from runner.api.executor_metrics import FAILURES, ExecutorMetrics
from runner.api.job_target import JobEnd

__all__ = ["session_of"]

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/guides/executor.md").read_text()
ACCEPTANCE = (ROOT / "docs/explanation/executor-acceptance.md").read_text()
MONITORING = ROOT / "packaging/monitoring"


def section(page: str, heading: str) -> str:
    """A page's text from this heading to the next."""
    return re.split(r"^#+ ", page.partition(f" {heading}\n")[2], maxsplit=1, flags=re.M)[0]


def cells(text: str) -> list[list[str]]:
    """The rows of the tables in it, without their heads."""
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


# -- the log -----------------------------------------------------------------------------------


def test_each_failure_is_a_line_with_fields(
    session_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that collects logs would have to read sentences."""
    caplog.set_level(logging.INFO, "runner.executor")
    session = session_of(StubTarget("there"))
    fine, failed, refused = (submitted(session) for _ in range(3))
    session.ended(JobEnd(fine.job_id, "completed", 1, 0))
    session.ended(JobEnd(failed.job_id, "failed", 2, 9, message="exit status 9"))
    session.refused(refused.job_id, ValueError("no room"))
    assert refused.exception(10) is not None
    deadline = time.monotonic() + 10
    while len(caplog.records) < 2:  # the Future is done a moment before
        assert time.monotonic() < deadline
        time.sleep(0.001)
    first, second = [each for each in caplog.records if each.name == "runner.executor"]
    rows = cells(section(GUIDE, "Metrics and log"))
    fields = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    found = {name: getattr(first, name) for name in fields}
    assert found == {
        "job_id": failed.job_id,
        "outcome": "exit",
        "target": "there",
        "region": None,
        "attempt": 2,
        "exit_code": 9,
        "signal": None,
    }
    assert (second.__dict__["job_id"], second.__dict__["outcome"]) == (
        refused.job_id,
        "infrastructure",
    )
    assert "no room" in second.getMessage() and second.levelno == logging.INFO


# -- dashboards --------------------------------------------------------------------------------


def test_the_dashboard_of_grafana_asks_for_metrics_that_there_are() -> None:
    """A panel would stay empty, as if nothing had happened."""
    text = ExecutorMetrics().figures().openmetrics()
    there = set(re.findall(r"^(runner_\w+)(?:\{| )", text, re.M))
    dashboard = json.loads((MONITORING / "executor-grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) >= 10
    for query in asked:
        assert {*re.findall(r"runner_\w+", query)} <= there, query
        for labels in re.findall(r'outcome(?:!~|=~)"([^"]+)"', query):
            assert {*labels.split("|")} <= {*FAILURES, "completed", "cancelled"}
    used = set(re.findall(r"runner_\w+", " ".join(asked)))
    assert used >= {each for each in there if each.endswith(("_total", "waiting", "running"))}


def test_the_dashboard_of_cloudwatch_is_made_of_what_its_stack_has() -> None:
    """CloudWatch would refuse it, or show a metric that nothing fills."""
    made = yaml.load((MONITORING / "batch-dashboard.yaml").read_text(), templates_loader())
    resources: dict[str, Any] = made["Resources"]
    given = {"JobQueue": "q", "Events": "group", "ManyFailures.Arn": "arn", "AWS::Region": "r"}

    def filled(value: Any) -> str:
        text = value.value if isinstance(value, Function) else value
        return re.sub(r"\$\{([\w.:]+)\}", lambda found: given[found[1]], text)

    body = json.loads(filled(resources["Dashboard"]["Properties"]["DashboardBody"]))
    filters = [each for each in resources.values() if each["Type"].endswith("MetricFilter")]
    filling = {
        filled(change["MetricName"])
        for each in filters
        for change in each["Properties"]["MetricTransformations"]
    }
    shown = {
        metric[1]
        for widget in body["widgets"]
        for metric in widget["properties"].get("metrics", [])
        if metric[0] == "Runner/Batch"
    }
    assert shown == filling and len(shown) == 5
    queries = [each["properties"]["query"] for each in body["widgets"] if each["type"] == "log"]
    assert len(queries) == 3 and all(each.startswith("SOURCE 'group' | ") for each in queries)
    assert resources["Rule"]["Properties"]["EventPattern"]["detail"]["jobName"] == [
        {"prefix": "runner-"}
    ]
    places = [(each["x"], each["y"]) for each in body["widgets"]]
    assert len({*places}) == len(places)


# -- the guide ---------------------------------------------------------------------------------


def test_the_table_of_capabilities_is_the_codes() -> None:
    """A reader would give what is refused, or not know what can be given."""
    rows = cells(section(GUIDE, "Capabilities and options"))[1:]
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    also = {name for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert names == {*NAMES} and also == {*SYNONYMS}


@cache
def defined_in(module: str) -> set[str]:
    """The functions and classes of a module of tests."""
    (path,) = (ROOT / "tests").rglob(f"{module}.py")
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_every_criterion_has_a_test_that_there_is() -> None:
    """A criterion would seem to be met by a test that was renamed or removed."""
    named = re.findall(r"`(test_\w+)::(\w+)`", ACCEPTANCE)
    assert len(named) > 60
    assert [f"{module}::{name}" for module, name in named if name not in defined_in(module)] == []
    for path in re.findall(r"`((?:tests|packaging|examples)/[^`]+)`", ACCEPTANCE):
        assert (ROOT / path).exists(), path
