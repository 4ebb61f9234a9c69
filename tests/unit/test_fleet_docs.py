"""The fleet's page: its commands parse, and the tests that it names are there."""

from __future__ import annotations

import io
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from runner.fleet.cli.main import parser
from runner.fleet.connection import schema_text

ROOT = Path(__file__).parents[2]
PAGES = [page for page in (ROOT / "docs").rglob("*.md") if "runner-fleet" in page.read_text()]


def commands(text: str) -> list[str]:
    """The command lines of code blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    lines = "\n".join(blocks).splitlines()
    return [line for line in lines if re.match(r"(runner-fleet|bec) ", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_fleet_parse(page: Path) -> None:
    """A reader would type a command that is refused."""
    for line in commands(page.read_text()):
        if "…" in line:
            continue
        said = io.StringIO()
        try:
            with redirect_stderr(said), redirect_stdout(said):
                parser().parse_args(shlex.split(line)[1:])
        except SystemExit:
            raise AssertionError(f"{line}\n{said.getvalue()}") from None


def test_every_command_names_a_test_that_is_there() -> None:
    """The table would promise what nobody checks."""
    page = (ROOT / "docs/reference/fleet.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "test_" in line]
    named = set(re.findall(r"\btest_\w+", page))
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_fleet*.py"))
    assert len(rows) > 40 and len(named) > 50
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []


def test_the_schema_is_what_the_migrations_make() -> None:
    """`psql -f schema.sql` would make other tables than `migrate`."""
    shipped = (ROOT / "runner/fleet/schema.sql").read_text()
    assert shipped == schema_text(), "run `runner-fleet migrate --sql > runner/fleet/schema.sql`"


def test_every_command_is_on_the_page() -> None:
    """A command would be known to its --help only."""
    pages = [ROOT / "docs/reference/fleet.md", *(ROOT / "docs/guides").glob("fleet*.md")]
    page = "\n".join(each.read_text() for each in pages)
    made = parser()
    (nouns,) = [each for each in made._actions if each.dest == "command" or each.choices]
    assert nouns.choices is not None
    for noun, below in dict(nouns.choices).items():  # type: ignore[arg-type]
        verbs = [each.choices for each in below._actions if each.metavar == "VERB"]
        for verb in verbs[0] if verbs else [""]:
            assert f"{noun} {verb}".strip() in page, f"{noun} {verb}"
