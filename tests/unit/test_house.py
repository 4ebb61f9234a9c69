"""The house as a whole: no circles, one name for one thing, files of a size one can read."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2] / "runner"
LONGEST = 400
"""Lines of a file."""

# Riddles that were names once (see CHANGELOG): none comes back.
OLD = re.compile(
    r"(?i)^_*(dead_?man|shelf|desk|hall|nursery|nursing|surroundings|wish|asker|cargo|recipe"
    r"|whereabouts|survey|poke|bury|outlook|ledger)(_|$)"
)


@cache
def trees() -> dict[str, ast.Module]:
    """Every module of runner, parsed, by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        dotted = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        found[dotted.removesuffix(".__init__")] = ast.parse(path.read_text())
    return found


def edges() -> dict[str, set[str]]:
    """Which modules each imports: inside functions too, but not for type checkers alone."""
    graph: dict[str, set[str]] = {}
    for name, tree in trees().items():
        graph[name] = set()
        typed = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) in typed:
                continue
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    graph[name].add(inner if inner in trees() else node.module)
            elif isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names}
        graph[name] &= trees().keys() - {name}
    return graph


def test_no_module_imports_itself_by_way_of_others() -> None:
    """A change would reach back into its cause, and the order of imports decide what works."""
    graph = edges()
    while leaves := {name for name in graph if not graph[name]}:
        graph = {name: graph[name] - leaves for name in graph if name not in leaves}
    # What is left is circles and what leads to them.
    while unused := graph.keys() - set().union(*graph.values()):
        graph = {name: graph[name] for name in graph if name not in unused}
    assert not graph


def test_one_class_name_means_one_thing() -> None:
    """A reader who searches a name would find two things, and take one for the other."""
    where = defaultdict(list)
    for module, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(module)
    # It runs where there is no runner, and can't share with it.
    alone = ("runner.targets.ec2.boot.first_boot.", "runner.bundle.bare.")
    twice = {
        name: modules
        for name, modules in where.items()
        if len([each for each in modules if not each.startswith(alone)]) > 1
    }
    assert not twice


def test_a_module_says_what_it_owns() -> None:
    """Whoever opens it would have to read it all to know whether it is the right place."""
    assert [name for name, tree in trees().items() if not ast.get_docstring(tree)] == []


def test_no_file_is_too_long_to_read() -> None:
    """What belongs apart would grow together."""
    lines = {path: len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert {str(path): count for path, count in lines.items() if count > LONGEST} == {}


def test_no_old_name_comes_back() -> None:
    """A name that nobody knows from elsewhere has to be learned before the code can be read."""
    found = set()
    for module, tree in trees().items():
        names = {module.rpartition(".")[2]}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.name))
            elif isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.Name):
                names.add(node.id)
        found |= {f"{module}: {name}" for name in names if OLD.match(name)}
    assert not found


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest would collect only one of them, and end with an error, when both are run at once."""
    names = Counter(path.name for path in ROOT.parent.joinpath("tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
