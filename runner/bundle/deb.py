"""A Debian package of a bundle: it brings its files, and its scripts call the installer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from runner.bundle.archives import make_ar, make_tar_gz

_PLACE = "usr/lib/queue-runner"
_RECORD = "/var/lib/queue-runner"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_CONTROL = """\
Package: queue-runner
Version: {version}
Architecture: {machine}
Maintainer: the queue-runner project <root@localhost>
Installed-Size: {kilobytes}
Depends: python3 (>= 3.11) | python3.13 | python3.12 | python3.11, systemd
Section: admin
Priority: optional
Description: run a long chain of jobs on one machine
 A service that works on queues of jobs in the order of their dependencies,
 with timeouts, retries and results in S3, and loses no work on a restart.
"""
# /opt/runner is the installer's, not dpkg's: an upgrade leaves the old code to the jobs on it.
_SCRIPTS = {
    "postinst": f"""\
#!/bin/sh
set -e
[ "$1" != configure ] || exec sh /{_PLACE}/install.sh
""",
    "prerm": f"""\
#!/bin/sh
set -e
[ "$1" = remove ] || exit 0
sh /{_PLACE}/install.sh --uninstall
# For a purge, which finds none of our files: it removes what is on record there, and that alone.
if [ -d {_RECORD} ]; then cp -r /{_PLACE}/install.sh /{_PLACE}/installer {_RECORD}/; fi
""",
    "postrm": f"""\
#!/bin/sh
set -e
[ "$1" = purge ] && [ -f {_RECORD}/install.sh ] || exit 0
sh {_RECORD}/install.sh --uninstall --purge
""",
}


def deb_version(version: str, time: int) -> str:
    """That of a commit between releases sorts before the release, and by its time."""
    number, plus, commit = version.partition("+")
    return f"{number}~{time}.{commit}" if plus else number


def make_deb(
    bundle: Mapping[str, bytes], version: str, architecture: str, time: int
) -> tuple[str, bytes]:
    """The file's name and content; ``time``: the commit's, in seconds since 1970."""
    version, machine = deb_version(version, time), _MACHINES[architecture]
    size = sum(len(content) for content in bundle.values())
    about = _CONTROL.format(version=version, machine=machine, kilobytes=-(-size // 1024))
    sums = "".join(
        f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}  {_PLACE}/{path}\n"
        for path, content in sorted(bundle.items())
    )
    scripts = {f"./{name}": script.encode() for name, script in _SCRIPTS.items()}
    control = {"./control": about.encode(), "./md5sums": sums.encode(), **scripts}
    data = {f"./{_PLACE}/{path}": content for path, content in bundle.items()}
    package = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": make_tar_gz(control, scripts.keys(), time),
        "data.tar.gz": make_tar_gz(data, {f"./{_PLACE}/install.sh"}, time),
    }
    return f"queue-runner_{version}_{machine}.deb", make_ar(package, time)
