"""Builds ``dist/runner-<version>-<arch>.tar.gz`` of the commit that is checked out.

The same commit gives the same bytes: files and times are the commit's. `runner.bundle` does it, so
that an installed runner can, too.

    bundle.py build [--deb] [--version V] [--arch A]    bundle.py lock
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# This repository's own, whichever runner the interpreter has.
sys.path.insert(0, str(REPOSITORY))

from runner.bundle.build import build  # noqa: E402
from runner.bundle.source import of_commit  # noqa: E402
from runner.bundle.wheels import ARCHES, lock  # noqa: E402
from runner.errors import RunnerError  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    builder = verbs.add_parser("build", help="build the bundle of the commit that is checked out")
    builder.add_argument("--version", help="instead of the commit's own")
    builder.add_argument("--arch", choices=ARCHES, action="append", help="default: all")
    builder.add_argument("--into", type=Path, default=REPOSITORY / "dist")
    builder.add_argument("--deb", action="store_true", help="a Debian package of the same files")
    verbs.add_parser("lock", help="choose the newest wheels, and write their hashes down")
    given = parser.parse_args()
    try:
        if given.verb == "lock":
            project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
            fleet = project["optional-dependencies"]["fleet"]
            lock([*project["dependencies"], *fleet])
            return 0
        source = of_commit(REPOSITORY, given.version)
        for arch in given.arch or ARCHES:
            print(build(source, arch, given.into, deb=given.deb))
    except RunnerError as error:
        print(f"bundle.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
