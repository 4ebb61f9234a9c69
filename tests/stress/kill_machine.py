"""A machine of namespaces: its own pids, clocks and boot id. Cutting its power takes all at once.

What the kernel keeps (files, the page cache) outlives it, as a disk does. Needs root, and
unshare(1) of util-linux 2.36.
"""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from kill_support import World
from kill_timing import PATIENCE
from namespaces import unshare

_BOOT = """
mount --bind "$BOOT_ID" /proc/sys/kernel/random/boot_id || exit 71
"$@"
exit $?
"""
"""The machine's first process: it has a shell's patience with orphans, and ends with the runner."""


class Machine:
    """One boot, from when the runner is started on it."""

    def __init__(self, place: World, clock: float) -> None:
        """Boot with the monotonic clock at so many seconds, and run the queue."""
        boot_id = Path(place.root / f"boot-{uuid.uuid4()}")
        boot_id.write_text(f"{uuid.uuid4()}\n")
        with open(place.root / "output", "ab") as output:
            self._process = subprocess.Popen(
                [*unshare(clock), "sh", "-c", _BOOT, "sh", *place.command(*place.run_words())],
                cwd=place.root,
                env={**place.environment, "BOOT_ID": str(boot_id)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        place.processes.append(self._process)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        """The runner's exit code."""
        return self._process.wait(PATIENCE)

    def cut_power(self) -> None:
        """SIGKILL to everything that runs on it."""
        self._process.kill()
        self._process.wait()
