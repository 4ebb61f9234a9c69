"""Completion, as the shells themselves do it when TAB is pressed."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from argcomplete.finders import ExclusiveCompletionFinder
from world import World

from runner.cli.completion import complete
from runner.cli.main import VERBS, parser_of

BIN = Path(sys.executable).parent
PATIENCE = 60.0
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
SET_UP = {
    "bash": "bind 'set enable-bracketed-paste off'; PS1='$ '; source <(runner completion bash)",
    "zsh": "PS1='$ '; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -D; "
    "source <(runner completion zsh)",
}


def shell_or_skip(name: str) -> None:
    if shutil.which(name) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"there is no {name}")


class Terminal:
    """A shell in a terminal, and all that it has shown."""

    def __init__(self, world: World, shell: str) -> None:
        self.shown = ""
        pid, self._fd = pty.fork()
        if pid == 0:
            os.chdir(world.home)
            env = {**world.env, "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb"}
            os.execvpe(START[shell][0], START[shell], env)
        self._pid = pid
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", 50, 200, 0, 0))
        self.types(f"{SET_UP[shell]}; echo rea''dy\n")
        self.sees("ready")

    def types(self, text: str) -> None:
        """As a person would; what was shown before is forgotten."""
        self.shown = ""
        os.write(self._fd, text.encode())

    def sees(self, what: str) -> None:
        """Wait for it."""
        deadline = time.monotonic() + PATIENCE
        while what not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\a\b]", "", self.shown):
            assert time.monotonic() < deadline, f"no {what!r} in {self.shown!r}"
            if select.select([self._fd], [], [], 0.2)[0]:
                self.shown += os.read(self._fd, 4096).decode(errors="replace")

    def close(self) -> None:
        os.close(self._fd)
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)


@pytest.fixture(params=["bash", "zsh"])
def terminal(world: World, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    shell_or_skip(request.param)
    # A queue to be named.
    job = {"job_id": "preprocess", "command": "true", "timeout": "1m"}
    done = world.call("run", world.document(job, name="nightly-7"), cwd=world.home)
    assert done.returncode == 0, done.stderr
    made = Terminal(world, request.param)
    yield made
    made.close()


def test_a_line_is_completed(terminal: Terminal) -> None:
    """Broken: TAB gives nothing, or what the verb doesn't take."""
    for typed, becomes in (
        ("runner vali", "runner validate "),
        ("runner run night", "runner run nightly-7.json "),
        ("runner logs prep", "runner logs preprocess "),
        ("runner status --queue night", "runner status --queue nightly-7 "),
        ("runner status --queue=night", "runner status --queue=nightly-7 "),
        ("runner-status --exit", "runner-status --exit-code "),
    ):
        terminal.types(f"{typed}\t")
        terminal.sees(becomes)
        terminal.types("\x15")


def test_fish_completes_a_line(world: World) -> None:
    """Broken: fish offers files where a verb is meant, or no word of what it does."""
    shell_or_skip("fish")
    env = {**world.env, "PATH": f"{BIN}:{os.environ['PATH']}"}
    (world.home / "nightly.json").touch()

    def offers(line: str) -> list[str]:
        ask = f"runner completion fish | source; complete -C '{line}'"
        words = ["fish", "--no-config", "-c", ask]
        told = subprocess.run(words, env=env, cwd=world.home, capture_output=True, text=True)
        assert told.stderr == ""
        return told.stdout.splitlines()

    assert offers("runner vali") == ["validate\tcheck a document and print the order of its jobs"]
    assert "nightly.json" in offers("runner run ")
    assert "--results\tstore logs and result files there, not where the document says" in offers(
        "runner run --"
    )


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], list[str]]:
    """What a shell is told at the end of a line."""
    # It would take descriptor 9, whoever has it.
    monkeypatch.setattr(ExclusiveCompletionFinder, "_init_debug_stream", lambda self: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").touch()
    (tmp_path / "folder").mkdir()

    def offers(line: str) -> list[str]:
        for name, value in {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_SHELL": "fish",
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }.items():
            monkeypatch.setenv(name, value)
        out = io.StringIO()
        command, _, _ = line.partition(" ")
        only = "status" if command.endswith("-status") else None
        complete(VERBS, parser_of, only, out=out, leave=lambda code: None)
        return [word for word in out.getvalue().split("\v") if word]

    return offers


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_flag_of_every_verb_is_offered(
    verb: str, offered: Callable[[str], list[str]]
) -> None:
    """Broken: a flag that was added is not known to the shells."""
    parser = parser_of(verb, "runner")
    flags = {flag for action in parser._actions for flag in action.option_strings}
    assert {*offered(f"runner {verb} -")} == flags
    text = parser.format_help()
    assert all(flag in text for flag in flags)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("runner va", ["validate"]),
        ("runner --ver", ["--version"]),
        ("runner completion ", ["bash", "zsh", "fish"]),
        ("runner run ", ["a.json", "folder/"]),
        ("runner run a.json ", []),
        ("runner run a.json --results ", ["folder/"]),
        ("runner run --results x --fr", ["--fresh"]),
        ("runner run --fresh --fr", []),
        ("runner daemon --config ", ["a.json", "folder/"]),
        ("runner daemon --config=", ["--config=a.json", "--config=folder/"]),
        ("runner run --seed ", []),
        ("/usr/local/bin/runner-status --exit", ["--exit-code"]),
    ],
)
def test_what_comes_next(line: str, values: list[str], offered: Callable[[str], list[str]]) -> None:
    """Broken: a value is taken for a flag, or the wrong thing offered in its place."""
    assert offered(line) == values
