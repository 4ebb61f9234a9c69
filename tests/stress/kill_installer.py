"""Runs the real installer on a machine, with a signal right after one of its steps.

A program of the tests, called in the machine: the installer knows nothing of it. It forks a
process for each order (a line of JSON on stdin: ``bundle``, ``arguments``, ``kill_at`` and
``signal``), and answers with its exit code (-9: killed), what it said, and what is on the disk
then. A step is a call that changes the disk or the machine; they are counted from 1.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOME = Path("/opt/runner")
PLACES = ("/etc", "/opt", "/usr/local", "/var/lib")
STEPS: list[tuple[Any, str]] = [
    *((os, name) for name in ("rename", "symlink", "unlink", "rmdir", "mkdir", "chmod", "fsync")),
    (zipfile.ZipFile, "_extract_member"),
    (subprocess, "run"),
]


def count_steps(kill_at: int, by: int) -> None:
    """Wrap the calls in this process, which gets a signal after so many of them."""
    done = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **named: Any) -> Any:
            nonlocal done
            result = call(*args, **named)
            done += 1
            if done == kill_at:
                os.kill(os.getpid(), by)
            return result

        return wrapped

    subprocess.run = unless_users(subprocess.run)  # type: ignore[assignment]
    # Nobody pulls the plug here, and a busy host takes its time for these.
    os.sync = lambda: None
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    for owner, name in STEPS:
        setattr(owner, name, counted(getattr(owner, name)))


def unless_users(run: Callable[..., Any]) -> Callable[..., Any]:
    """The tools that make and remove users are slow, and their own masters: a step, and no more."""

    def wrapped(words: Any, *args: Any, **named: Any) -> Any:
        if words[0] in ("systemd-sysusers", "userdel", "groupdel"):
            return subprocess.CompletedProcess(words, 0)
        return run(words, *args, **named)

    return wrapped


def obey(order: dict[str, Any], said: int) -> int:
    """In the child: the installer's own main."""
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.path.insert(0, order["bundle"])
    main = importlib.import_module("installer.main")
    # The same for every bundle, and most of the time.
    importlib.import_module("installer.versions").compile_all = lambda library: None  # type: ignore[attr-defined]
    sys.argv = ["install.sh", *order["arguments"]]
    count_steps(order["kill_at"], order["signal"])
    try:
        code: int = main.main()
    except SystemExit as ended:
        code = int(str(ended.code))
    sys.stdout.flush()
    return code


def found() -> dict[str, Any]:
    """All that bears our name, and what the link in use leads to: its name and files, or None."""
    ours = set(below(HOME))
    for place in PLACES:
        for folder, folders, files in os.walk(place):
            ours |= {os.path.join(folder, name) for name in (*folders, *files) if "runner" in name}
            folders[:] = [name for name in folders if "runner" not in name]
    current = HOME / "current"
    used = None
    if current.exists():
        version = current.resolve()
        used = [version.name, [path.removeprefix(f"{version}/") for path in below(version)]]
    return {"ours": sorted(ours), "used": used}


def below(folder: Path) -> list[str]:
    """Without the bytecode that any use of a version adds."""
    return sorted(str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryFile() as said:
            pid = os.fork()
            if pid == 0:
                os._exit(obey(order, said.fileno()))
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            said.seek(0)
            told = said.read().decode()
        print(json.dumps({"code": code, "said": told, **found()}), flush=True)


if __name__ == "__main__":
    main()
