"""The volume that an attempt's containers share: what lies where in it, and what it tells.

Owns the names in it. It goes with the Batch job: nothing in it survives the host.

    work/                  the working folder of a job that names none
    spot-notice            there once the job was asked to end
    submission.json        the intent as stage has read it
    staged.json            what stage has done, once COMMAND may begin
    nonce                  this job's own, for its claim
    package/               runner, where the image has none
    main/                  what main.sh reads and writes, see there
    agent/                 what the agent keeps
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.errors import UsageError
from runner.files import replace_file
from runner.results.path_map import PathMap

OPEN_TO_ALL = 0o777
"""Of the folders that COMMAND writes to: the image says as which user it runs."""


class Volume:
    """``shared``: folders that all of the job's containers have at the same paths, besides it."""

    def __init__(self, root: str, shared: tuple[str, ...] = ()) -> None:
        self.root = Path(root)
        self.main = self.root / "main"
        self.agent = self.root / "agent"
        self.work = self.root / "work"
        self._shared = (root, *shared)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Volume:
        """RUNNER_VOLUME, and RUNNER_SHARED with folders between colons. Raises UsageError."""
        root = environment.get("RUNNER_VOLUME", "")
        if not root.startswith("/"):
            raise UsageError("RUNNER_VOLUME: names the folder that the job's containers share")
        shared = environment.get("RUNNER_SHARED", "")
        return cls(root, tuple(each for each in shared.split(":") if each.startswith("/")))

    def make(self) -> None:
        """Have all folders and pipes. Raises OSError."""
        for folder in (self.root, self.agent):
            folder.mkdir(exist_ok=True)
        for folder in (self.main, self.work, self.main / "empty"):
            folder.mkdir(exist_ok=True)
            folder.chmod(OPEN_TO_ALL if folder.name != "empty" else 0o755)
        for name in ("orders", "alive"):
            if not (self.main / name).exists():
                os.mkfifo(self.main / name)
                (self.main / name).chmod(0o666)
        for name in ("stdout", "stderr"):
            (self.main / name).touch()
            (self.main / name).chmod(0o666)

    def nonce(self) -> str:
        """This job's own word, made once. Raises OSError."""
        path = self.root / "nonce"
        if not path.exists():
            replace_file(path, [os.urandom(16).hex().encode()])
        return path.read_text()

    @property
    def own(self) -> frozenset[str]:
        """What is no result, whatever a pattern says, as real paths."""
        root = os.path.realpath(self.root)
        names = ("main", "agent", "package", "nonce", "submission.json", "staged.json")
        return frozenset(os.path.join(root, name) for name in (*names, "inputs.json"))

    def to_be_placed(self) -> PathMap:
        """Where files go that main.sh puts in their place."""
        return PathMap(self._shared, str(self.main / "place"))

    def collected(self) -> PathMap:
        """Where main.sh has left copies of what is elsewhere."""
        return PathMap(self._shared, str(self.main / "outside"))

    def is_elsewhere(self, path: str) -> bool:
        """Whether a path of COMMAND's is in none of the volumes."""
        return self.collected().here(path) != path

    # -- what main.sh tells -------------------------------------------------------------------

    @property
    def begun(self) -> float | None:
        """When COMMAND began (wall time)."""
        return time_of(self.main / "started")

    def status(self) -> CommandStatus | None:
        """How COMMAND ended, if it has."""
        return _status(_line(self.main / "code"), time_of(self.main / "code"))

    @property
    def unrunnable(self) -> str | None:
        """Why COMMAND was not run."""
        return _line(self.main / "unrunnable")

    @property
    def stopped_at(self) -> float | None:
        """When main was asked to end, if that was before COMMAND had ended."""
        return time_of(self.main / "stopped")

    @property
    def stopped(self) -> bool:
        """Whether it was."""
        return self.stopped_at is not None

    @property
    def over(self) -> bool:
        """Whether nothing more comes from main."""
        return _line(self.main / "end") is not None

    def figures(self) -> dict[str, int]:
        """What main's control group counted, by name."""
        found: dict[str, int] = {}
        try:
            text = (self.main / "usage").read_text()
        except (OSError, UnicodeDecodeError):
            return found
        for name, value in re.findall(r"^([a-z_]+) ([0-9]{1,18})$", text, re.MULTILINE):
            found.setdefault(name, int(value))
        return found


@dataclass(frozen=True, slots=True)
class CommandStatus:
    """``code``: the shell's, ``signalled``: it was a signal's; ``at``: wall time."""

    code: int
    signalled: bool
    at: float


def _line(path: Path) -> str | None:
    """A file's first line, once it is whole."""
    try:
        text = path.read_bytes().decode("utf-8", "backslashreplace")
    except OSError:
        return None
    line, newline, _ = text.partition("\n")
    return line if newline else None


def time_of(path: Path) -> float | None:
    """When a file was written (wall time); None where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _status(line: str | None, at: float | None) -> CommandStatus | None:
    found = re.fullmatch(r"([0-9]{1,3})(?: (signal)?)?", line or "")
    if found is None or at is None or int(found[1]) > 255:
        return None
    return CommandStatus(int(found[1]), found[2] is not None, at)
