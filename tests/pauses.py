"""How long this machine itself makes things wait, while others are measured: a metronome.

Its own process does what takes time in a step of the product: it starts a program, waits for its
end, and has a line synced to the disk. A busy machine or disk shows in it, a busy daemon doesn't.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

EVERY = 0.05

_METRONOME = f"""
import os, sys, time
ticks = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
while os.getppid() == int(sys.argv[2]):
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {{}}), 0)
    os.write(ticks, b"%.3f\\n" % time.time())
    os.fsync(ticks)
    time.sleep({EVERY})
"""


class Pauses:
    """Measures from its start until it is closed; it ends with this process at the latest."""

    def __init__(self, folder: Path) -> None:
        self._ticks = folder / "ticks"
        words = [sys.executable, "-I", "-S", "-c", _METRONOME, str(self._ticks)]
        self._process = subprocess.Popen([*words, str(os.getpid())])
        deadline = time.monotonic() + 30
        while not self._ticks.exists():
            assert time.monotonic() < deadline, "the metronome doesn't start"
            time.sleep(0.01)  # reason: the poll's own interval

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def longest(self, since: float) -> float:
        """Seconds between two ticks since then (seconds since the epoch), and until now."""
        ticks = [float(line) for line in self._ticks.read_text().splitlines()]
        times = [*(tick for tick in ticks if tick >= since - 1), time.time()]
        return max(late - early for early, late in pairwise(times))
