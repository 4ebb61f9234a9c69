"""The file system that every machine of the lab starts from: Debian with systemd, made once.

It is kept below ``CACHE`` under a hash of its recipe, and appears there whole or not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(os.environ.get("RUNNER_LAB_CACHE", "/var/cache/runner-lab"))
"""Not in the repository, and not in a folder that is emptied at boot: it is worth 50 s."""

SUITE = "bookworm"
PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "procps",
    "python3",
    "python3-venv",
    "sudo",
    "systemd",
    "systemd-sysv",
)
FILES = {
    # Empty: the machine makes its id at its first boot, and keeps it.
    "etc/machine-id": "",
    "etc/hostname": "lab\n",
    "etc/hosts": "127.0.0.1 localhost lab\n",
    # Nothing leaves the machine, names included.
    "etc/resolv.conf": "",
    "etc/default/locale": "LANG=C.UTF-8\n",
    # What a crash loses of the journal is seen after it.
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=persistent\nSyncIntervalSec=1s\n",
}
REMOVED = ("var/lib/dbus/machine-id", "var/cache/apt/archives", "var/lib/apt/lists")
TOOLS = ("debootstrap", "systemd-nspawn", "ip", "nsenter", "chroot")


def what_is_missing() -> str | None:
    """Why no machine can be booted here; None if it can be tried."""
    if os.geteuid() != 0:
        return "the lab needs root"
    for tool in TOOLS:
        if shutil.which(tool) is None:
            return f"the lab needs {tool}"
    if unified_hierarchy() is None:
        return "the lab needs a mount of cgroup v2"
    return None


def unified_hierarchy() -> Path | None:
    """Where cgroup v2 is mounted: alone, or beside v1."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


def build_root(suite: str = SUITE) -> Path:
    """The folder of the root, which nobody writes to; made by one process at a time."""
    recipe = json.dumps([suite, PACKAGES, FILES, REMOVED])
    root = CACHE / f"root-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if root.is_dir():
        return root
    with _one_at_a_time():
        if not root.is_dir():
            for half_made in CACHE.glob("making-*"):
                shutil.rmtree(half_made)
            making = CACHE / f"making-{root.name}"
            _make(making, suite)
            os.sync()
            making.rename(root)
    return root


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(making: Path, suite: str) -> None:
    include = f"--include={','.join(PACKAGES)}"
    words = ["debootstrap", "--variant=minbase", include, suite, str(making), *_mirror()]
    done = subprocess.run(words, env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"debootstrap: {done.stdout[-3000:]}{done.stderr[-1000:]}"
    for name in REMOVED:
        path = making / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name, text in FILES.items():
        path = making / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _mirror() -> list[str]:
    """The mirror that this host is set up for, if it is a Debian; it has the other suites too."""
    form = "$(REPO_URI) $(RELEASE)"
    words = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    told = subprocess.run(words, capture_output=True, text=True).stdout
    for uri, release in (line.split() for line in told.splitlines()):
        if release == SUITE:
            return [uri]
    return []


def _environment() -> dict[str, str]:
    """The host's apt may know a proxy; debootstrap fetches by itself and has to be told."""
    environment = dict(os.environ)
    for scheme in ("http", "https"):
        words = ["apt-config", "shell", "proxy", f"Acquire::{scheme}::Proxy"]
        told = subprocess.run(words, capture_output=True, text=True).stdout.strip()
        if told:
            environment[f"{scheme}_proxy"] = told.removeprefix("proxy=").strip("'")
    return environment
