"""The command line of install.sh."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from .installation import install
from .places import InstallRefused
from .removal import uninstall
from .system import alone


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="install.sh", description="Installs, upgrades or removes runner on this machine."
    )
    parser.add_argument(
        "--no-start", action="store_true", help="neither enable nor start the service"
    )
    parser.add_argument(
        "--adopt",
        action="store_true",
        help="use the user, groups and folders that are there already; they are never removed",
    )
    parser.add_argument(
        "--uninstall", action="store_true", help="remove runner; state, logs and settings stay"
    )
    parser.add_argument("--purge", action="store_true", help="with --uninstall: remove these too")
    given = parser.parse_args()
    if given.purge and not given.uninstall:
        parser.error("--purge goes with --uninstall")
    for flag in ("no_start", "adopt"):
        if given.uninstall and vars(given)[flag]:
            parser.error(f"--{flag.replace('_', '-')} is for an installation")
    os.umask(0o022)
    # As Ctrl-C: what is half-made is cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if os.geteuid() != 0:
            raise InstallRefused("this needs root: call it with sudo")
        alone()
        if given.uninstall:
            uninstall(purge=given.purge)
        else:
            install(start=not given.no_start, adopt=given.adopt)
    except (InstallRefused, OSError) as error:
        print(f"install.sh: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("install.sh: interrupted", file=sys.stderr)
        return 130
    return 0
