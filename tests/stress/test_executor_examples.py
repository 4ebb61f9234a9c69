"""The programs of examples/executor, run as a user would, and the code blocks of their guide."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/executor"
GUIDE = ROOT / "docs/guides/executor.md"


def run(program: Path, *arguments: str, cwd: Path) -> str:
    """What it prints."""
    found = subprocess.run(
        [sys.executable, str(program), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn (pip install)"
)
def test_the_search_finds_the_best(tmp_path: Path) -> None:
    """The example that people copy first would not run."""
    printed = run(FOLDER / "search.py", str(tmp_path / "state"), cwd=tmp_path)
    found = re.fullmatch(r"50 trainings; best (0\.9\d\d) with C=[\d.]+, max_iter=\d+\n", printed)
    assert found, printed


def test_the_pipeline_counts(tmp_path: Path) -> None:
    """Commands and functions would not see each other's files."""
    assert run(FOLDER / "pipeline.py", cwd=tmp_path) == "3 apple\n2 pear\n1 fig\n"


def test_a_session_that_ended_is_attached_to(tmp_path: Path) -> None:
    """A notebook's work would be lost with its kernel."""
    job_id = run(FOLDER / "session.py", "state", "start", cwd=tmp_path).strip()
    assert job_id == "slow_square-1"
    assert run(FOLDER / "session.py", "state", "fetch", job_id, cwd=tmp_path) == "144\n"


def test_the_same_program_runs_on_every_target(tmp_path: Path) -> None:
    """A program would have to be written for the place where it runs."""
    assert run(FOLDER / "anywhere.py", cwd=tmp_path) == "3 hello 285\n"


def blocks() -> list[str]:
    """The programs of the guide: each that begins with an import."""
    found = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    return [text for text in found if text.startswith(("import", "from"))]


@pytest.mark.parametrize("program", blocks(), ids=range(len(blocks())))
def test_the_guides_programs_print_what_they_say(program: str, tmp_path: Path) -> None:
    """`# prints: …` behind a line would be what was wished for, and not what comes."""
    script = tmp_path / "program.py"
    script.write_text(program)
    said = re.findall(r"# prints: (.*)$", program, re.M)
    assert said, "a program of the guide shows what it prints"
    assert run(script, cwd=tmp_path).splitlines() == said
