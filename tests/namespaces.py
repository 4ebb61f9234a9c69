"""Machines of namespaces: pids, mounts and clocks of their own. They need root and unshare(1)."""

from __future__ import annotations

import os
import subprocess
import time

import pytest


def unshare(clock: float) -> list[str]:
    """The words before a command that has it run on a machine whose clock is at so many seconds."""
    shift = int(clock - time.clock_gettime(time.CLOCK_BOOTTIME))
    clocks = ["--time", f"--monotonic={shift}", f"--boottime={shift}"]
    return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", *clocks]


def needs_namespaces() -> None:
    """Skip where there can be no such machine; CI has to have it."""
    try:
        done = subprocess.run([*unshare(30), "true"], capture_output=True, text=True)
        why = done.stderr
    except FileNotFoundError as error:
        done, why = None, str(error)
    if done is None or done.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no namespaces, and CI has to have them: {why}")
        pytest.skip(f"a machine of namespaces needs root and unshare(1): {why}")
