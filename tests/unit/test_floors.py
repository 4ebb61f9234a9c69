"""The floors of the house: who may import whom."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "runner"
# They run on machines without runner, where these folders have another place.
BARE = ROOT / "bundle/bare"
MOVED = (BARE, ROOT / "targets/ec2/boot/first_boot", ROOT / "bundle/installer")
FLOORS = [
    {"errors", "files", "timestamps"},
    {"model"},
    {"core"},
    {"aws", "rights"},
    {"process", "store", "results", "host", "control", "bundle"},
    {"batch"},
    {"engine"},
    {"service"},
    {"targets", "report"},
    {"fleet"},
    {"api"},
    {"cli"},
    {"__main__", "__init__"},
]
LEVEL = {folder: level for level, floor in enumerate(FLOORS) for folder in floor}
IMPURE = {"boto3", "subprocess", "socket", "threading", "asyncio", "structlog", "time"}


@cache
def imports(path: Path) -> set[str]:
    """Every module that a file names, for type checkers and inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names}
    return found


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def test_a_module_imports_lower_floors_and_its_own_folder_only() -> None:
    """A change above would reach code below it, and no adapter could be had without the others."""
    assert {
        p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    } <= {*LEVEL}
    for path in ROOT.rglob("*.py"):
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        hidden = "" in roots(path) and path.parent not in MOVED
        assert not hidden, f"{path}: a relative import hides its floor"
        for there in {name.split(".")[1] for name in imports(path) if name.startswith("runner.")}:
            above = there in LEVEL and there != here and LEVEL[there] >= LEVEL[here]
            assert not above, f"{path.relative_to(ROOT)} imports {there}"


@pytest.mark.parametrize("folder", MOVED, ids=lambda folder: folder.name)
def test_what_is_sent_without_runner_imports_its_own_folder_only(folder: Path) -> None:
    """It would end with a traceback on a machine that has no runner yet."""
    for path in folder.glob("*.py"):
        for name in imports(path):
            own = name.startswith(".") and not name.startswith("..")
            # It is sent along, below the same name.
            own |= name.startswith("runner.bundle.bare.") and folder.name == "first_boot"
            assert own or name.partition(".")[0] in sys.stdlib_module_names, f"{path}: {name}"


@pytest.mark.parametrize("folder", ["model", "core"])
def test_what_is_pure_stays_pure(folder: str) -> None:
    """The rules could not be tested any more without processes and sleeps."""
    for path in (ROOT / folder).rglob("*.py"):
        assert not IMPURE & roots(path), path


def test_pydantic_is_where_documents_are_built_in_python() -> None:
    """Every verb would start 0.1 s later, and the idle daemon be 15 MB larger."""
    models = "runner.model.pydantic_"
    pure = ("pydantic", "pydantic_core", "typing_extensions")
    found = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if roots(path) & {*pure} or any(name.startswith(models) for name in imports(path))
    }
    kinds = ("base", "given", "models", "notify", "paths", "types")
    own = {f"model/pydantic_{name}.py" for name in kinds}
    assert found == {"__init__.py", "model/schema.py"} | own


def test_a_jobs_parent_needs_only_the_standard_library() -> None:
    """A shim would grow with what it imports, once for each slot, and break with an upgrade."""
    todo, seen = ["shim_forker"], {"shim_forker"}
    while todo:
        path = ROOT / "process" / f"{todo.pop()}.py"
        assert roots(path) - {"runner"} <= sys.stdlib_module_names - {"asyncio"}, path
        ours = {name for name in imports(path) if name.startswith("runner.")}
        assert all(name.startswith("runner.process.") for name in ours), path
        new = {name.split(".")[2] for name in ours} - seen
        todo, seen = todo + list(new), seen | new
    assert {"shim_records", "tree", "identity"} <= seen


QUEUE_VERBS = {
    "cancel", "close", "explain", "keep", "logs", "pause", "queues", "results", "retry", "status",
    "stop", "submit", "unpause", "upload", "wait",
}  # fmt: skip
PORT = ("port", "registry", "request")


def test_a_verb_about_a_queue_knows_no_target() -> None:
    """It would have to be changed for every new target, and do without some of them."""
    todo = [path for path in (ROOT / "cli/verbs").glob("*.py") if path.stem in QUEUE_VERBS]
    assert {path.stem for path in todo} == QUEUE_VERBS
    seen = set(todo)
    while todo:
        path = todo.pop()
        for name in imports(path):
            parts = name.split(".")
            if parts[:2] == ["runner", "targets"]:
                assert parts[2] in PORT, f"{path.relative_to(ROOT)} imports {name}"
            if parts[:2] == ["runner", "cli"]:
                folder = ROOT.joinpath(*parts[1:-1])
                meant = {folder.with_suffix(".py"), folder / f"{parts[-1]}.py"}
                new = {each for each in meant if each.exists()} - seen
                todo, seen = todo + list(new), seen | new
    assert {"connect", "options"} <= {path.stem for path in seen}
