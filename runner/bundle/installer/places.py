"""Where everything is: the bundle, and what an installation puts onto the machine."""

from __future__ import annotations

import zipfile
from configparser import ConfigParser
from pathlib import Path

BUNDLE = Path(__file__).resolve().parent.parent

HOME = Path("/opt/runner")
VERSIONS = HOME / "versions"
CURRENT = HOME / "current"
BIN = HOME / "bin"
# Names the version that the service was last started with, by an installation that came to its end.
SERVED = HOME / "served"
COMMANDS = Path("/usr/local/bin")
# Not below /usr/lib: that is a distribution's packages' own, and read-only on some machines.
UNITS = Path("/etc/systemd/system")
# Where else systemd finds a unit; one of ours would stand before it (systemd.unit(5)).
OTHER_UNITS = tuple(
    Path(folder)
    for folder in (
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    )
)
KINDS = {
    "systemd/sysusers.d/": Path("/etc/sysusers.d"),
    "systemd/tmpfiles.d/": Path("/etc/tmpfiles.d"),
    "systemd/": UNITS,
}
# Makes the home of the user that sysusers made, and no other's.
HOME_RULE = KINDS["systemd/tmpfiles.d/"] / "runner-home.conf"

SETTINGS = Path("/etc/runner/runner.toml")
STATE = Path("/var/lib/runner")
LOGS = Path("/var/log/runner")
RUN = Path("/run/runner")

JOB_USER = "runner"
JOB_HOME = Path("/home/runner")
# Whoever is in it may act through the daemon's socket.
CONTROL_GROUP = "runner"
GROUPS = (CONTROL_GROUP, "runner-jobs")
LOGINS = ("ec2-user", "ubuntu", "admin")


class InstallRefused(Exception):
    """Why nothing was done; for the user."""


def unit_files() -> dict[Path, Path]:
    """Where each file of systemd's goes, and which of the bundle's it is."""
    found = {}
    for source in sorted((BUNDLE / "systemd").rglob("*")):
        name = source.relative_to(BUNDLE).as_posix()
        if source.is_file():
            prefix = next(prefix for prefix in KINDS if name.startswith(prefix))
            found[KINDS[prefix] / name.removeprefix(prefix)] = source
    return found


def scripts() -> dict[str, str]:
    """The commands that runner's own wheel brings, and what each calls."""
    [ours] = (BUNDLE / "wheels").glob("queue_runner-*.whl")
    with zipfile.ZipFile(ours) as archive:
        [points] = (n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))
        text = archive.read(points).decode()
    told = ConfigParser()
    told.read_string(text)
    return dict(told["console_scripts"])


def links() -> dict[Path, str]:
    """In the order of their making: what the units and the PATH name leads to `current`."""
    return {BIN: "current/bin", **{COMMANDS / name: f"{BIN}/{name}" for name in scripts()}}
