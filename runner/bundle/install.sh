#!/bin/sh
# Installs runner from the files beside it, with no network: finds a Python that is new enough, and
# lets that do the rest (the folder installer). `install.sh --help` tells what it can do.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# The modules: a "minimal" Python lacks some.
for python in python3.14 python3.13 python3.12 python3.11 python3; do
    found=$(command -v "$python") || continue
    if "$found" -I -c 'import sys; assert sys.version_info >= (3, 11); import sqlite3, ssl, zipfile' 2>/dev/null; then
        exec "$found" -I -B -c 'import sys; sys.path.insert(0, sys.argv.pop(1))
from installer.main import main; sys.exit(main())' "$here" "$@"
    fi
done
echo "install.sh: runner needs a whole Python, 3.11 or newer, and there is none on the PATH. Install one, and call this again:" >&2
echo "  Amazon Linux 2023:  dnf install python3.11" >&2
echo "  Ubuntu 22.04:       apt-get install python3.11" >&2
exit 1
