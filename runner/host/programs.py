"""A program of the administrator's, run once with a text on its standard input.

Owns its rights, its time, and that nothing of the text is on its command line, which `ps` shows.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress

from runner.rights import Rights

TOLD = 300
"""Characters of what it said last that are repeated."""


def run_program(
    path: str, text: bytes, environment: Mapping[str, str], rights: Rights | None, seconds: float
) -> str | None:
    """Why it failed; None if it ended with 0 in time. Its whole process group ends with the time.

    ``rights`` None: our own. It begins in ``/``, in a session of its own.
    """
    try:
        process = subprocess.Popen(
            [path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
            umask=0o022,
            user=None if rights is None else rights.uid,
            group=None if rights is None else rights.gid,
            extra_groups=None if rights is None else rights.groups,
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return f"can't be run: {getattr(error, 'strerror', None) or error}"
    try:
        said, _ = process.communicate(text, timeout=seconds)
    except subprocess.TimeoutExpired:
        if process.poll() is None:
            return f"did not end within {seconds:.0f} s"
        said = b""  # it has ended, and something that it left behind keeps its output open
    finally:
        # What it left behind, too: nobody else would end it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
        if process.stdout is not None:
            process.stdout.close()
    if process.returncode == 0:
        return None
    how = (
        f"exit status {process.returncode}"
        if process.returncode > 0
        else f"signal {-process.returncode}"
    )
    last = said.decode("utf-8", "replace").strip().rpartition("\n")[2][-TOLD:]
    return f"{how}: {last}" if last else how
