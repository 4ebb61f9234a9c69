"""The documentation: generated parts are the code's, links lead somewhere, commands parse."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runner.batch.monitor import parse_args
from runner.cli.main import VERBS, parser_of, run_command

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "examples/README.md", *sorted(DOCS.rglob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]

_FENCED = re.compile(r"^ *```.*?^ *```$", re.M | re.S)
_PROGRAM = re.compile(r"(?:\$ )?(?:sudo )?(?:[A-Z_]+=\S* )*(runner(?:-launch|-status)?)(?= |$)(.*)")


def reference() -> ModuleType:
    """The generator, which is no module of the package."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "packaging/reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_up_to_date() -> None:
    """The reference would list fields, flags or states that the code doesn't have."""
    generator = reference()
    pages = list(generator.rendered())
    shown = {name for _, text, _ in pages for name in re.findall(r"<!-- generated: (\S+)", text)}
    assert shown == set(generator.BLOCKS)
    outdated = [str(page.relative_to(ROOT)) for page, old, new in pages if old != new]
    assert not outdated, "run `make docs`"


def test_the_readme_is_short() -> None:
    """A newcomer would face a manual in place of an introduction."""
    assert len((ROOT / "README.md").read_bytes()) <= 8 * 1024


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    """A reader would follow a link to a page, file or heading that isn't there."""
    text = _FENCED.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(path), target


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    text = _FENCED.sub("", page.read_text())
    heads = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_page_can_be_found() -> None:
    """A page that no other names is read by nobody."""
    contents = (DOCS / "README.md").read_text()
    missing = [
        str(p.relative_to(DOCS)) for p in PAGES if DOCS in p.parents and p != DOCS / "README.md"
    ]
    assert [name for name in missing if f"]({name})" not in contents] == []


@pytest.mark.parametrize("page", PAGES[2:], ids=IDS[2:])
def test_a_page_begins_with_what_it_is_for(page: Path) -> None:
    """A reader would have to read on to see whether it is the right page."""
    title, blank, first = page.read_text().split("\n")[:3]
    assert title.startswith("# ")
    assert blank == ""
    assert first.startswith(("This page", "Start with")), first


def commands(text: str) -> Iterator[str]:
    """Each line of a code block that calls one of our programs, without what follows it."""
    blocks = [found[0] for found in _FENCED.finditer(text)]
    indented = re.findall(r"^ {4,}\S.*$", _FENCED.sub("", text), re.M)
    for line in [*"\n".join(blocks).splitlines(), *indented]:
        for part in re.split(r" (?:\||&&|;|#) ?|; | &$| #", line.strip()):
            yield part.strip().removeprefix("(")


def calls(line: str) -> list[str]:
    """The verb and the words of a command line of ours; nothing of any other line."""
    found = _PROGRAM.fullmatch(line)
    if found is None or any(word in line for word in ("…", "VERB", "[flags]")):
        return []
    verb = found[1].removeprefix("runner").removeprefix("-")
    rest = f"{verb} {found[2]}".strip()
    if not re.match(r"[a-z]+( |$)", rest):
        return []
    return shlex.split(re.sub(r"\d?>+ ?\S+", "", rest), comments=True)


def refused(words: list[str]) -> str | None:
    """What the parser of its verb says against a command line."""
    if words[0] not in VERBS:
        return f"there is no verb {words[0]}"
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            parser_of(words[0], f"runner {words[0]}").parse_args(words[1:])
    except SystemExit:
        return said.getvalue().splitlines()[-1]
    return None


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_in_code_blocks_parse(page: Path) -> None:
    """A reader would type a command that runner refuses."""
    found = [words for line in commands(page.read_text()) if (words := calls(line))]
    assert [(words, why) for words in found if (why := refused(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_calls_of_the_batch_monitor_parse(page: Path) -> None:
    """A reader would type a command that the monitor, which is no verb, refuses."""
    for line in commands(page.read_text()):
        if found := re.fullmatch(r"(?:\$ )?runner-batch-status (.*)", line):
            parse_args(shlex.split(found[1]))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_in_the_text_have_flags_that_exist(page: Path) -> None:
    """A reader would look for a verb or flag that isn't there."""
    text = _FENCED.sub("", page.read_text())
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text):
        words = calls(" ".join(span.split()))
        if words:
            assert words[0] in VERBS, span
            parser = parser_of(words[0], "")
            if len(words) > 1 and (below := reference().subverbs_of(parser)) is not None:
                assert words[1] in below, span
                parser = below[words[1]]
            known = parser._option_string_actions
            assert [word for word in words if word.startswith("--") and word not in known] == []


@pytest.mark.parametrize("line", ["$ sudo runner keep 2h", "A=1 runner-launch --batch-queue q"])
def test_a_right_command_passes(line: str) -> None:
    """The checks above would find fault with right commands, or see none of them."""
    assert calls(line)
    assert refused(calls(line)) is None


@pytest.mark.parametrize("line", ["runner run q --fast", "runner-status --watsh", "runner stats"])
def test_a_wrong_command_is_found(line: str) -> None:
    """The checks above would pass whatever the pages say."""
    assert refused(calls(line)) is not None


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_documents_are_valid(page: Path, tmp_path: Path) -> None:
    """A reader would copy a document that runner refuses."""
    for block in re.findall(r"^```json\n(.*?)^```", page.read_text(), re.M | re.S):
        if "jobs" in json.loads(block):
            (tmp_path / "queue.json").write_text(block)
            assert run_command(["validate", str(tmp_path / "queue.json")]) == 0


def test_every_verb_has_a_guide() -> None:
    """A verb would be known to its --help only."""
    guides = "\n".join(page.read_text() for page in (DOCS / "guides").glob("*.md"))
    assert [verb for verb in VERBS if not re.search(rf"runner[ \n-]{verb}\b", guides)] == []


def test_every_dependency_is_explained() -> None:
    """Nobody would know why a package is there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    table = (DOCS / "explanation/dependencies.md").read_text()
    names = [re.split(r"[^\w-]", each)[0] for each in project["dependencies"]]
    assert [name for name in names if f"| {name} |" not in table] == []


def test_the_cloudwatch_agent_reads_what_runner_writes() -> None:
    """The agent would wait for files or units of other names."""
    template: dict[str, Any] = json.loads((ROOT / "packaging/cloudwatch-agent.json").read_text())
    collected = template["logs"]["logs_collected"]
    jobs, boot = (each["file_path"] for each in collected["files"]["collect_list"])
    newest = "/var/log/runner/queues/nightly/jobs/train-stdout.log"
    assert fnmatchcase(newest, jobs)
    assert newest in files_page("<logs>", "/var/log/runner", queue_id="nightly", job="train")
    (script,) = (ROOT / "runner").rglob("first_boot/*.sh")
    assert f"log={boot}\n" in script.read_text()
    (journal,) = collected["journald"]["collect_list"]
    # A template's instances have names of their own.
    found = (path.name for path in (ROOT / "systemd").glob("*.service"))
    units = {name for name in found if "@" not in name}
    assert set(journal["units"]) == units


def files_page(placeholder: str, folder: str, **names: str) -> str:
    """The page that says where files are, with these names filled in."""
    text = (DOCS / "reference/files.md").read_text().replace(placeholder, folder)
    for name, value in names.items():
        text = text.replace(f"<{name}>", value)
    return text
