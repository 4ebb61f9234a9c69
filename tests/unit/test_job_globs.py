"""Patterns of job ids on the command line, and the shell that ends at the first failure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.model.document import dump_document, parse_document
from runner.model.job_globs import is_glob, matching
from runner.model.lint import warnings

NAMES = ["align.A", "align.B", "call.A-I", "merge", "x", "x[0]", "x[17]"]


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("align.*", ["align.A", "align.B"]),
        ("*.A*", ["align.A", "call.A-I"]),
        ("align.[BC]", ["align.B"]),
        ("merg?", ["merge"]),
        ("x[17]", ["x[17]"]),
        ("x[*]", ["x[0]", "x[17]"]),
        ("?[1?]", ["x[17]"]),
        ("align", []),
        ("z*", []),
    ],
)
def test_a_pattern_means_all_that_match(word: str, names: list[str]) -> None:
    """A hundred jobs of a matrix would have to be named one by one."""
    assert matching(word, NAMES) == names
    assert is_glob(word) is (word not in ("x[17]", "align"))


def raw(**job: Any) -> bytes:
    head = {"queue_name": "n", "global_timeout": "1h", "on_failure": "stop"}
    return json.dumps({**head, "jobs": [{"job_id": "a", "timeout": "1m", **job}]}).encode()


def test_strict_is_a_shell() -> None:
    """A failure in the middle of a script would be passed over, and the way out be a long one."""
    document = parse_document(raw(command="x", shell="strict"))
    assert document.shell(document.jobs[0]) == ("/bin/bash", "-euo", "pipefail", "-c")
    assert parse_document(dump_document(document).encode()) == document


@pytest.mark.parametrize("command", ["make\ncp a b", "make | tee log"])
def test_what_the_default_shell_passes_over_is_told(command: str) -> None:
    """A job would be completed though its first line failed; or be warned of what can't happen."""
    assert '"shell": "strict"' in warnings(parse_document(raw(command=command)))[0]
    assert not warnings(parse_document(raw(command=command, shell="strict")))
    words = ["/bin/bash", "-eo", "pipefail", "-c"]
    assert not warnings(parse_document(raw(command=command, shell=words)))
