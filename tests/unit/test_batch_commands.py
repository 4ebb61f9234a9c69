"""What a Batch job's containers are told: the shell text of main.sh, and the commands."""

from __future__ import annotations

import ast
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from old_python import new_annotations

import runner.batch.container
from runner.batch import names
from runner.batch.container import bootstrap, commands
from runner.batch.container.agent import exit_code
from runner.batch.container.shell_text import environment_text, parsed, patterns_text
from runner.batch.records import BatchEnd, EndKind, Writer
from runner.results.path_map import SAME, PathMap

ROOM = Path(runner.batch.container.__file__).parent
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,9}\Z"), TEXT), TEXT)
def test_no_value_leaves_its_quotes(variables: dict[str, str], command: str) -> None:
    """A value with a quote or a newline in it would be run as a command."""
    told = shlex.split(environment_text(variables, command, ("/bin/sh", "-c")).decode())
    words = [word for name, value in variables.items() for word in ("export", f"{name}={value}")]
    assert told == [*words, "exec", "/bin/sh", "-c", command]


def test_patterns_become_what_find_understands() -> None:
    """Results outside the volume would not be found, or the whole disk be searched for them."""
    told = patterns_text(
        parsed(("/d/*.bin", "/d/a b/x", "/d/**/y", "/d[1]/*", "/x/*/../y", "rel/*"), "/runner/work")
    )
    assert told.decode().splitlines() == [
        "outside /d -mindepth 1 -maxdepth 1 -path '/d/*.bin'",
        "outside '/d/a b/x'",
        "outside /d -path '/d/*y'",
        "outside / -mindepth 2 -maxdepth 2 -path '/d[1]/*'",
        "outside /runner/work/rel -mindepth 1 -maxdepth 1 -path '/runner/work/rel/*'",
    ]


def test_only_what_is_in_no_volume_is_copied() -> None:
    """Results would be looked for where they never are."""
    paths = PathMap(("/runner", "/data"), "/runner/main/outside")
    assert paths.here("/runner/work/x") == "/runner/work/x"
    assert paths.here("/data") == "/data"
    assert paths.here("/database/x") == "/runner/main/outside/database/x"
    assert paths.here("/data/../etc/x") == "/runner/main/outside/etc/x"
    assert SAME.here("/any/../where") == "/any/../where"


def test_commands_fit_a_definition_and_are_the_same_each_time() -> None:
    """A definition would be refused, or registered anew by every run."""
    stage = commands.stage_command()
    assert stage == commands.stage_command()
    assert stage[0] == "python3" and stage[-1] == "runner.batch.container.stage"
    all_of_it = [*stage, *commands.main_command(), *commands.agent_command()]
    assert sum(map(len, all_of_it)) < names.MAX_DEFINITION * 0.75
    assert "" not in all_of_it, "Batch refuses an empty string in a command"


def test_the_bootstrap_runs_on_an_old_python() -> None:
    """An image with a Python that is too old for runner would show a traceback, not say so."""
    tree = ast.parse((ROOM / "bootstrap.py").read_text(), feature_version=(3, 6))
    assert new_annotations(tree) == [], "3.9, 3.10: the import would fail"
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert "__future__" not in modules, "annotations of the future came with 3.7"
    ours = {name for name in modules if name is not None and name.startswith("runner.")}
    assert all(name.startswith("runner.bundle.bare.") for name in ours)
    assert {str(name).partition(".")[0] for name in modules - ours} <= sys.stdlib_module_names


def test_wheels_for_another_python_are_left_out() -> None:
    """pydantic's core would be another version's, and fail when it is imported."""
    own = f"cp3{sys.version_info[1]}"
    assert bootstrap.suits("a-1-py3-none-any.whl")
    assert bootstrap.suits("a-1-py2.py3-none-any.whl")
    assert bootstrap.suits(f"a-1-{own}-{own}-manylinux_2_17_x86_64.whl")
    assert bootstrap.suits("a-1-cp36-abi3-manylinux_2_12_x86_64.manylinux2010_x86_64.whl")
    assert not bootstrap.suits("a-1-cp36-cp36m-manylinux_2_17_x86_64.whl")
    assert not bootstrap.suits("a-1-cp399-abi3-manylinux_2_17_x86_64.whl")


def test_a_bundle_for_another_processor_is_refused_with_words() -> None:
    """On Graviton a job would fail with a traceback of an import."""
    wheel = "a-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    bootstrap.check_processor(wheel, "x86_64")
    bootstrap.check_processor("a-1-py3-none-any.whl", "aarch64")
    with pytest.raises(bootstrap.Failed, match=r"for x86_64, and this host's processor is aarch64"):
        bootstrap.check_processor(wheel, "aarch64")


@pytest.mark.parametrize(
    ("kind", "code", "signal", "expected"),
    [
        (EndKind.EXIT, 0, None, 0),
        (EndKind.EXIT, 7, None, 7),
        (EndKind.SIGNAL, None, "SIGKILL", 137),
        (EndKind.SIGNAL, None, "SIGRTMIN+1", 137),
        (EndKind.TIMED_OUT, 0, None, 124),
        (EndKind.TIMED_OUT, 3, None, 3),
        (EndKind.STOPPED, 0, None, 143),
        (EndKind.NOT_RUNNABLE, None, None, 1),
        (EndKind.KILLED, None, None, 137),
    ],
)
def test_only_a_command_that_ended_well_by_itself_succeeds(
    kind: EndKind, code: int | None, signal: str | None, expected: int
) -> None:
    """Batch would call a job SUCCEEDED that was ended for its timeout."""
    end = BatchEnd(Writer.CONTAINER, "t-1", kind, 1.0, code, signal)
    assert exit_code(end, end) == expected
    driver = BatchEnd(Writer.DRIVER, "t-1", EndKind.REASON, 0.5, reason="cancelled")
    assert exit_code(end, driver) != 0
