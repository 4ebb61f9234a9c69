"""The tests' end of ``kill_launcher``: orders, and a sweep over all boundaries of a story."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kill_support import Build, World, world
from kill_timing import PATIENCE
from scale import SCALE, SEED, scaled

AT_ONCE = 3

KillAt = str | float | None
"""A boundary (``after Database.commit#3``), seconds, or never."""

NOWHERE = "nowhere"
"""A boundary that never comes: what is crossed is written down all the same."""


class Launched:
    """One process that the launcher has forked; a zombie from its end to the next order."""

    def __init__(self, pid: int, read_line: Callable[[], str]) -> None:
        self.pid = pid
        self._read_line = read_line
        self._code: int | None = None

    def wait(self) -> int:
        """The exit code; that of a kill is negative. Fails if it doesn't come to an end."""
        if self._code is None:
            self._code = int(self._read_line())
        return self._code

    def ended(self) -> bool:
        """Whether it is over; nothing is waited for."""
        if self._code is None:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
            return stat.rpartition(")")[2].split()[0] == "Z"
        return True

    @property
    def killed(self) -> bool:
        return self.wait() in (-signal.SIGKILL, -signal.SIGALRM)

    def end(self, number: int) -> int:
        """Signal it, if it has not ended, then wait."""
        if self._code is None:
            os.kill(self.pid, number)
        return self.wait()


class Launcher:
    """A warm process: a command costs no import. One command at a time."""

    def __init__(self, *modules: str) -> None:
        """``modules``: what is imported before, if not what `run` and `daemon` need."""
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "kill_launcher.py"), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def start(
        self,
        place: World,
        *words: str,
        kill_at: KillAt = None,
        request: str | None = None,
        until: str | None = None,
        freeze: int = 0,
    ) -> Launched:
        """Start a command that is killed at that boundary, or after so many seconds.

        With ``freeze`` it dies of the N-th start, while those who are to carry it out stand still.
        With ``request`` boundaries count from its arrival, and up to the one called ``until``.
        """
        trace = place.root / "trace"
        told = str(trace) if kill_at == NOWHERE else os.devnull
        order = {
            "argv": words,
            "env": place.environment,
            "cwd": str(place.root),
            **dict.fromkeys(("out", "err"), str(place.root / "output")),
            "trace": told,
            "kill_at": kill_at,
            "request": request,
            "until": until,
            "freeze": freeze,
        }
        launched = self.send(order)
        place.launched.append(launched)
        return launched

    def send(self, order: dict[str, Any]) -> Launched:
        """Have a process forked that carries out an order, as ``kill_launcher`` reads it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return Launched(int(self._read_line()), self._read_line)

    def _read_line(self) -> str:
        out = self._process.stdout
        assert out is not None
        ready, _, _ = select.select([out], [], [], PATIENCE)
        assert ready, "the command doesn't come to an end"
        return out.readline().decode()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def launcher(*modules: str) -> Iterator[Launcher]:
    """A launcher that is ended again."""
    made = Launcher(*modules)
    try:
        yield made
    finally:
        made.close()


Story = Callable[[World, Launcher, KillAt], bool]
"""Kill there, recover, check; False if the story ended before that came."""


def sweep(tmp_path: Path, build: Build, story: Story, *, instants: int = 3) -> set[str]:
    """Tell the story undisturbed, then with a kill at every boundary that it has crossed.

    And at so many random instants. Returns the kinds of boundaries that were crossed.
    """
    with launcher() as warm, world(tmp_path / "undisturbed", build) as quiet:
        assert not story(quiet, warm, NOWHERE)
        crossed = (quiet.root / "trace").read_text().splitlines()
    dice = random.Random(SEED)
    # The first comes in any case.
    chosen = {0, *dice.sample(range(len(crossed)), scaled(len(crossed)))}
    boundaries = [crossed[number] for number in sorted(chosen)]
    moments: list[KillAt] = [dice.uniform(0, 0.1) for _ in range(scaled(instants))]
    numbered = iter(list(enumerate([*boundaries, *moments])))
    killed_at: Counter[str] = Counter()
    lock = threading.Lock()
    failed = threading.Event()

    def told(warm: Launcher, number: int, kill_at: KillAt) -> None:
        with world(tmp_path / str(number), build) as killed:
            try:
                was_killed = story(killed, warm, kill_at)
            except BaseException as error:
                failed.set()
                error.add_note(f"killed at {kill_at}, SEED={SEED}: {killed.root}")
                raise
        if was_killed:
            with lock:
                killed_at[_kind(kill_at)] += 1

    def work() -> None:
        with launcher() as warm:
            while not failed.is_set():
                with lock:
                    number, kill_at = next(numbered, (None, None))
                if number is None:
                    break
                told(warm, number, kill_at)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(work) for _ in range(AT_ONCE)]:
            done.result()
    # Not all: how many commits and projections there are depends on how fast things go.
    least = len(crossed) // 2 if SCALE >= 1 else 1
    assert sum(killed_at.values()) >= least, f"{killed_at} of {boundaries}"
    print(f"{sum(killed_at.values())} kills: {dict(killed_at)}")
    return {_kind(boundary) for boundary in crossed}


def _kind(kill_at: KillAt) -> str:
    return kill_at.partition("#")[0] if isinstance(kill_at, str) else "random instant"
