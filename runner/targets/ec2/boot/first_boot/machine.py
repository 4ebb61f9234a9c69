"""What is done to the machine: packages, the installation, what must not disturb it."""

import os
import subprocess
import tarfile
from typing import List

from runner.bundle.bare import telling
from runner.bundle.bare.disks import full_disks
from runner.bundle.bare.patience import Again, Failed, patiently
from runner.bundle.bare.telling import say

# What would change the kernel below a GPU driver, or hold the package manager's lock.
UPGRADES = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "unattended-upgrades.service",
    "dnf-automatic.timer",
    "dnf-automatic-install.timer",
    "packagekit.service",
)


def run(words: List[str], seconds: float, what: str = "", **more: str) -> None:
    """A command, its output in the log; ``what``: its name for people. Raises Failed."""
    what = what or "`{}`".format(" ".join(words))
    say("$ " + " ".join(words))
    # Not into the log at once: on a full disk nobody would ever know what it said.
    path = telling.VOLATILE + "/output"
    os.makedirs(telling.VOLATILE, exist_ok=True)
    try:
        with open(path, "wb") as output:
            code = subprocess.call(
                words,
                env={**os.environ, **more},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=seconds,
            )
    except subprocess.TimeoutExpired:
        raise Failed(f"{what} took more than {seconds:.0f} s{_last_words(path)}")
    except OSError as error:
        raise Failed(f"{what}: {error}")
    said = _last_words(path)
    if code:
        raise Failed(f"{what} failed ({code}){said}{full_disks()}")


def _last_words(path: str) -> str:
    """What a command has said goes into the log; its last lines are returned."""
    with open(path, "rb") as output:
        said = output.read()
    try:
        with open(telling.LOG, "ab") as log:
            log.write(said)
    except OSError as error:
        say(f"{telling.LOG}: {error}")
    lines = said.decode(errors="replace").strip().splitlines()
    return ": " + " / ".join(lines[-3:]) if lines else ""


def need_python() -> None:
    """A Python that runner runs on: the image's, or the distribution's. Raises Failed."""
    if whole_python():
        return
    if os.path.exists("/usr/bin/dnf"):
        words = ["dnf", "install", "-y", "python3.11"]
    elif os.path.exists("/usr/bin/apt-get"):
        lock = "-oDPkg::Lock::Timeout=300"
        patiently("the list of packages", lambda: _packages(["apt-get", lock, "update"]))
        words = ["apt-get", lock, "install", "-y", "--no-install-recommends", "python3.11"]
    else:
        raise Failed("this image has no Python >= 3.11, and neither dnf nor apt-get to get one")
    patiently("Python 3.11", lambda: _packages(words))
    if not whole_python():
        raise Failed("there is still no whole Python >= 3.11 after `{}`".format(" ".join(words)))


def _packages(words: List[str]) -> None:
    """Raises Again."""
    try:
        run(words, 600, DEBIAN_FRONTEND="noninteractive")
    except Failed as error:
        raise Again("packages", str(error))


def whole_python() -> bool:
    check = "import sys; assert sys.version_info >= (3, 11); import sqlite3, ssl, zipfile"
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        try:
            if subprocess.call([name, "-I", "-c", check], stderr=subprocess.DEVNULL) == 0:
                return True
        except OSError:
            continue
    return False


def stop_upgrades() -> None:
    """Nothing but runner changes this machine from now on; as far as that can be had."""
    folders = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
    there = [
        unit for unit in UPGRADES if any(os.path.exists(f"{folder}/{unit}") for folder in folders)
    ]
    if there:
        try:
            run(["systemctl", "mask", "--now", *there], 60)
        except Failed as error:
            say(str(error))


def install() -> None:
    """Unpack the bundle, and call what it brings. Raises Failed."""
    try:
        with tarfile.open(telling.PLACE + "/bundle", "r:gz") as archive:
            top = archive.getnames()[0].split("/")[0]
            archive.extractall(telling.PLACE + "/unpacked")
    except (tarfile.TarError, OSError, EOFError, IndexError) as error:
        raise Failed(f"the bundle can't be unpacked: {error}{full_disks()}")
    run(
        ["sh", f"{telling.PLACE}/unpacked/{top}/install.sh", "--no-start", "--adopt"],
        300,
        "the installation",
    )
