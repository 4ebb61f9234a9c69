"""The patterns of other systems' pipelines are not longer here than where they come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PATTERNS = TOP / "examples" / "patterns"
ROW = re.compile(r"\| `([a-z-]+)\.yaml` \| ([0-9]+) \| ([0-9]+)[^|]*\|")
TABLE = {
    name: (int(ours), int(theirs))
    for name, ours, theirs in ROW.findall((TOP / "docs" / "guides" / "move.md").read_text())
}


def says(line: str) -> bool:
    text = line.strip()
    return bool(text) and (not text.startswith("#") or text.startswith(("#!", "#SBATCH")))


def lines(*paths: Path) -> int:
    return sum(says(line) for path in paths for line in path.read_text().splitlines())


def original(name: str) -> list[Path]:
    folder = PATTERNS / "originals" / name
    if folder.is_dir():
        return sorted(folder.iterdir())
    return [path for path in folder.parent.glob(f"{name}.*") if path.suffix != ".md"]


@pytest.mark.parametrize("name", sorted(path.stem for path in PATTERNS.glob("*.yaml")))
def test_a_pattern_is_not_longer_than_its_original(name: str) -> None:
    """The guide would promise what a document doesn't keep, or tell counts of another day."""
    ours, theirs = lines(PATTERNS / f"{name}.yaml"), lines(*original(name))
    assert original(name) and ours <= theirs
    assert TABLE[name] == (ours, theirs)
