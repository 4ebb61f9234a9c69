"""Installs, upgrades or removes runner on this machine; called by install.sh, from a bundle.

Each step leaves a machine on which the same command can be called again: whatever is replaced is
written beside and renamed, a version's folder appears whole, and what is in use changes by one
rename of a link. Nothing is written before everything was checked.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

BUNDLE = Path(__file__).resolve().parent
HOME = Path("/opt/runner")
VERSIONS = HOME / "versions"
# Names the version that the service was last started with, by an installation that came to its end.
SERVED = HOME / "served"
LINKS = {
    # In the order of their making: what the units and the PATH name leads to `current`.
    HOME / "bin": "current/bin",
    Path("/usr/local/bin/runner"): "/opt/runner/bin/runner",
    Path("/usr/local/bin/runner-launch"): "/opt/runner/bin/runner-launch",
    Path("/usr/local/bin/runner-status"): "/opt/runner/bin/runner-status",
}
# Not below /usr/lib: that is a distribution's packages' own, and read-only on some machines.
UNITS = Path("/etc/systemd/system")
PLACES = {
    "systemd/sysusers.d/": Path("/etc/sysusers.d"),
    "systemd/tmpfiles.d/": Path("/etc/tmpfiles.d"),
    "systemd/": UNITS,
}
SETTINGS = Path("/etc/runner/runner.toml")
KEPT = (Path("/var/lib/runner"), Path("/var/log/runner"))
LOGINS = ("ec2-user", "ubuntu", "admin")
JOB_USER = "runner"


class Refused(Exception):
    """Why nothing was done; for the user."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="install.sh", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--no-start", action="store_true", help="neither enable nor start the service"
    )
    parser.add_argument(
        "--uninstall", action="store_true", help="remove runner; state, logs and settings stay"
    )
    parser.add_argument("--purge", action="store_true", help="with --uninstall: remove these too")
    given = parser.parse_args()
    if given.purge and not given.uninstall:
        parser.error("--purge goes with --uninstall")
    if given.no_start and given.uninstall:
        parser.error("--no-start is for an installation")
    os.umask(0o022)
    try:
        if os.geteuid() != 0:
            raise Refused("this needs root: call it with sudo")
        alone()
        if given.uninstall:
            uninstall(given.purge)
        else:
            install(start=not given.no_start)
    except (Refused, OSError) as error:
        print(f"install.sh: {error}", file=sys.stderr)
        return 1
    return 0


# -- installing ------------------------------------------------------------------------------


def install(*, start: bool) -> None:
    version, sums = checked()
    name = f"{version}-{hashlib.sha256(sums + sys.version.encode()).hexdigest()[:12]}"
    make_version(name)
    if news := not is_in_place(name):
        # Before anything changes: killed after that, the next call restarts the service.
        SERVED.unlink(missing_ok=True)
    for place, source in unit_files().items():
        write(place, source.read_bytes())
    replace_link(HOME / "current", f"versions/{name}")
    for link, target in LINKS.items():
        replace_link(link, target)
    call("systemd-sysusers", *(str(path) for path in installed("systemd/sysusers.d/")))
    if not SETTINGS.exists():
        write(
            SETTINGS,
            f'# All settings: the README, "Settings".\njob_user = "{job_user()}"\n'.encode(),
        )
    if booted():
        # Each boot does it, too.
        files = (str(path) for path in installed("systemd/tmpfiles.d/"))
        call("systemd-tmpfiles", "--create", *files)
        call("systemctl", "daemon-reload")
    if start:
        call("systemctl", "enable", "--quiet", "runner.service", "runner-deadman.timer")
        if booted():
            serve(name, news)
    remove_old(name)
    already = "" if news else " already"
    print(f"runner {version} is installed{already}{' and runs' if start and booted() else ''}")


def is_in_place(name: str) -> bool:
    """Whether the service was started with this very version and these units."""
    try:
        there = all(place.read_bytes() == of.read_bytes() for place, of in unit_files().items())
        current = os.readlink(HOME / "current") == f"versions/{name}"
        return there and current and SERVED.read_text() == name
    except OSError:
        return False


def serve(name: str, news: bool) -> None:
    """Have the service run, with what is installed now."""
    if not news and runs("runner.service"):
        call("systemctl", "start", "runner-deadman.timer")
        return
    # Also the first start. Living jobs go on, and are adopted by the new version.
    call("systemctl", "restart", "runner.service", "runner-deadman.timer")
    write(SERVED, name.encode())


def checked() -> tuple[str, bytes]:
    """The bundle's version and its list of sums, if it is whole and for this machine."""
    try:
        sums = (BUNDLE / "SHA256SUMS").read_bytes()
        for line in sums.decode().splitlines():
            digest, _, name = line.partition("  ")
            if hashlib.sha256((BUNDLE / name).read_bytes()).hexdigest() != digest:
                raise Refused(f"{BUNDLE / name} is damaged: it isn't what SHA256SUMS says")
    except OSError as error:
        raise Refused(f"this bundle isn't whole: {error.filename}: {error.strerror}")
    version, arch = (BUNDLE / "VERSION").read_text().split()
    if arch != platform.machine():
        raise Refused(f"this bundle is for {arch}, and this machine is {platform.machine()}")
    for tool in ("systemctl", "systemd-sysusers", "systemd-tmpfiles"):
        if shutil.which(tool) is None:
            raise Refused(f"runner needs systemd, and there is no {tool} here")
    return version, sums


def make_version(name: str) -> None:
    """An environment of its own with the wheels in it; it is there whole or not at all."""
    target = VERSIONS / name
    if target.exists():
        return
    making = VERSIONS / f".making-{name}"
    shutil.rmtree(making, ignore_errors=True)
    library = (
        making / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    )
    library.mkdir(parents=True)
    (making / "bin").mkdir()
    home = Path(sys.executable).resolve().parent
    (making / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    (making / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    for wheel in sorted((BUNDLE / "wheels").iterdir()):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(library)
    scripts = ConfigParser()
    [ours] = library.glob("queue_runner-*.dist-info/entry_points.txt")
    scripts.read(ours)
    for script, entry in scripts["console_scripts"].items():
        module, _, function = entry.partition(":")
        path = making / "bin" / script
        # -I: no PYTHONPATH, and no packages of the caller's, in what root starts.
        path.write_text(
            f"#!{target}/bin/python -I\nimport sys\n"
            f"from {module} import {function}\nsys.exit({function}())\n"
        )
        path.chmod(0o755)
    compile_all(library)
    os.sync()
    making.rename(target)
    sync(VERSIONS)


def compile_all(library: Path) -> None:
    """Bytecode of our own package, so that the first start is as fast as any other."""
    words = [sys.executable, "-I", "-m", "compileall", "-q", str(library / "runner")]
    subprocess.run(words, check=True)


def job_user() -> str:
    """The login that a stock image has, or the user that sysusers made."""
    for name in LOGINS:
        try:
            pwd.getpwnam(name)
            return name
        except KeyError:
            continue
    return JOB_USER


def unit_files() -> dict[Path, Path]:
    """Where each file of systemd's goes, and which of the bundle's it is."""
    found = {}
    for source in sorted((BUNDLE / "systemd").rglob("*")):
        name = source.relative_to(BUNDLE).as_posix()
        if source.is_file():
            prefix = next(prefix for prefix in PLACES if name.startswith(prefix))
            found[PLACES[prefix] / name.removeprefix(prefix)] = source
    return found


def installed(prefix: str) -> list[Path]:
    return [place for place in unit_files() if place.parent == PLACES[prefix]]


def remove_old(current: str) -> None:
    """Remove other versions, but for those that something runs from: shims of living jobs."""
    used = running()
    for folder in VERSIONS.iterdir():
        if folder.name != current and str(folder) not in used:
            discard(folder)


def discard(version: Path) -> None:
    """Remove a version. It is gone at once: half of one would be taken for a whole by `install`."""
    if not version.name.startswith("."):
        leaving = VERSIONS / f".removing-{version.name}"
        shutil.rmtree(leaving, ignore_errors=True)
        version = version.rename(leaving)
    shutil.rmtree(version)


def running() -> str:
    """The command lines and mapped files of all processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "maps"):
            try:
                found.append((process / name).read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return "\n".join(found)


# -- uninstalling ----------------------------------------------------------------------------


def uninstall(purge: bool) -> None:
    runner = HOME / "bin" / "runner"
    if booted() and runner.exists():
        if runs("runner.service"):
            # Interrupts the jobs, in order: what is left of them would have nobody to tell.
            call(str(runner), "stop")
    units = [path.name for path in unit_files() if path.parent == UNITS and path.exists()]
    now = ["--now"] if booted() else []
    # Timers first: one that fires meanwhile would start its service again, and fail the stop.
    for kind in (".timer", ".service"):
        if active := [name for name in units if name.endswith(kind)]:
            call("systemctl", "disable", "--quiet", *now, *active)
    for path in (*LINKS, HOME / "current", SERVED, *unit_files()):
        remove(path)
    if booted():
        call("systemctl", "daemon-reload")
    if VERSIONS.is_dir():
        for folder in VERSIONS.iterdir():
            discard(folder)
    shutil.rmtree(HOME, ignore_errors=True)
    remove(SETTINGS, beside_only=True)
    if purge:
        for folder in (*KEPT, SETTINGS.parent):
            shutil.rmtree(folder, ignore_errors=True)
        # What sysusers made. A login of the image's own that ran the jobs stays as it was.
        for words in (
            ["userdel", "--remove", JOB_USER],
            ["groupdel", "runner-jobs"],
            ["groupdel", "runner"],
        ):
            subprocess.run(words, capture_output=True)
    shutil.rmtree("/run/runner", ignore_errors=True)
    kept = "" if purge else f"; {', '.join(map(str, (*KEPT, SETTINGS.parent)))} are kept"
    print(f"runner is removed{kept}")


# -- the machine -----------------------------------------------------------------------------


def alone() -> None:
    """Only one installer at a time, until this process ends. The lock leaves no file."""
    try:
        fcntl.flock(os.open("/etc", os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused("another install.sh is at work on this machine")


def booted() -> bool:
    """Whether systemd runs here; it doesn't where an image is made."""
    return Path("/run/systemd/system").is_dir()


def runs(unit: str) -> bool:
    return subprocess.run(["systemctl", "is-active", "--quiet", unit]).returncode == 0


def call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        told = re.sub(r"\s+", " ", done.stderr or done.stdout).strip()
        raise Refused(f"`{' '.join(words)}` failed: {told}; call this again when that is mended")


def write(path: Path, data: bytes) -> None:
    """A file, whole or as it was."""
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = beside_of(path)
    with open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    sync(path.parent)


def replace_link(link: Path, target: str) -> None:
    """A link, to its new target or still to its old one."""
    link.parent.mkdir(parents=True, exist_ok=True)
    beside = beside_of(link)
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.rename(link)
    sync(link.parent)


def remove(path: Path, *, beside_only: bool = False) -> None:
    """A file or link, and what an installation that was killed has left beside it."""
    beside_of(path).unlink(missing_ok=True)
    if not beside_only:
        path.unlink(missing_ok=True)


def beside_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
