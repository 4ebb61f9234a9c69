"""Real shims without an engine: a spawner in a folder of its own, and all that it tells."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from runner.process.forker_client import ForkerHolder
from runner.process.shim_protocol import User
from runner.process.shim_records import Exit, ShimRecord, ShimRecordFile
from runner.process.spawner import Request, Spawner
from runner.process.tree import TOKEN_VARIABLE

OK = ("exit", "0")
BASE = {"PATH": os.defpath, "HOME": "/"}
PATIENCE = 15.0

T = TypeVar("T")


def eventually(look: Callable[[], T | None], what: str) -> T:
    """Poll until ``look`` gives something true; fails after some seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)  # reason: the poll's own interval
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie doesn't)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def parent_of(pid: int) -> int:
    """The parent of a living process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@dataclass(frozen=True)
class Ended:
    """How an attempt ended, as a listener hears it."""

    end: Exit | None
    since: float | None
    background: bool

    @property
    def what(self) -> tuple[str, str] | None:
        return (self.end.kind, self.end.value) if self.end else None


class Heard:
    """A listener that remembers; ``wait`` gives what was said of an attempt, in the loop."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, Any]] = []
        self._news = asyncio.Event()

    def _note(self, kind: str, token: str, what: Any) -> None:
        self.said.append((kind, token, what))
        self._news.set()

    def started(self, token: str, pid: int | None, since: float, adopted: bool) -> None:
        self._note("started", token, (pid, since, adopted))

    def ended(self, token: str, end: Exit | None, since: float | None, background: bool) -> None:
        self._note("ended", token, Ended(end, since, background))

    def voided(self, token: str, reason: str | None) -> None:
        self._note("voided", token, reason)

    def background_ended(self, token: str) -> None:
        self._note("background_ended", token, None)

    async def wait(self, kind: str, token: str, seconds: float = PATIENCE) -> Any:
        async with asyncio.timeout(seconds):
            while True:
                for said in self.said:
                    if said[:2] == (kind, token):
                        return said[2]
                self._news.clear()
                await self._news.wait()


class Pool:
    """A spawner over ``root``'s record file. A second one in its place is a restarted daemon."""

    def __init__(
        self,
        root: Path,
        base: Mapping[str, str] | None = None,
        user: User | None = None,
        unit: str | None = None,
        forkers: ForkerHolder | None = None,
    ) -> None:
        self.root = root
        self.slots = ShimRecordFile.open(str(root / "attempts"))
        self.heard = Heard()
        self.spawner = Spawner(self.slots, self.heard, base or BASE, user, unit, forkers)
        self._count = 0
        self._prefix = f"{uuid.uuid4().hex[:12]}-"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()

    def close(self) -> None:
        """Let go, as a daemon does."""
        self.spawner.close()
        self.slots.close()

    def end(self) -> None:
        """Leave nothing behind, also after a failure: shims of this file, and their jobs.

        What is killed is decided here, and not by what is under test.
        """
        shim = f"\0runner-shim\0{self.slots.mark}\0".encode()
        job = f"{TOKEN_VARIABLE}={self._prefix}".encode()
        self.close()
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            carried = _read(pid, "environ").split(b"\0")
            if _read(pid, "cmdline").endswith(shim) or any(v.startswith(job) for v in carried):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def start(self, command: str, slot: int = 0, **more: Any) -> str:
        """Start a command in a slot; its token."""
        self._count += 1
        token = f"{self._prefix}{self._count:x}"
        fields: dict[str, Any] = {
            "cwd": str(self.root),
            "environment": {TOKEN_VARIABLE: token, **more.pop("environment", {})},
            "stdout": str(self.root / f"{token}.out"),
            "stderr": str(self.root / f"{token}.err"),
            "keep_background": False,
            **more,
        }
        self.spawner.start(Request(token=token, slot=slot, command=command, **fields))
        return token

    async def run(self, command: str, **more: Any) -> tuple[tuple[str, str] | None, bytes]:
        """Run a command to its end: how it ended, and its standard output."""
        token = self.start(command, **more)
        ended = await self.heard.wait("ended", token)
        return ended.what, self.output(token)

    def output(self, token: str) -> bytes:
        path = self.root / f"{token}.out"
        return path.read_bytes() if path.exists() else b""

    def file(self, name: str) -> str:
        """What a job has written into a file, once there is a whole line of it."""
        path = self.root / name

        def line() -> str:
            text = path.read_text() if path.exists() else ""
            return text.strip() if text.endswith("\n") else ""

        return eventually(line, name)

    def claimed(self, slot: int = 0) -> ShimRecord:
        """The slot once its command is known."""

        def known() -> ShimRecord | None:
            state = self.slots.read(slot)
            return state if state.claim and state.command else None

        return eventually(known, "a claim")


Story = Callable[[Pool], Awaitable[None]]


def play(root: Path, story: Story, **more: Any) -> None:
    """Run a test's coroutine with a pool that is closed afterwards."""

    async def run() -> None:
        async with Pool(root, **more) as pool:
            await story(pool)

    asyncio.run(run())
