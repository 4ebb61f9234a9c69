"""Copy the raw tables out of the data lake, which here is a folder."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from atomic import replacing, write_json


def main() -> None:
    """Write every CSV file of the source, and manifest.json with their checksums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    tables = sorted(args.source.glob("*.csv"))
    if not tables:
        sys.exit(f"no CSV files in {args.source}")
    checksums = {}
    for table in tables:
        content = table.read_bytes()
        with replacing(args.output / table.name) as draft:
            draft.write_bytes(content)
        checksums[table.name] = hashlib.sha256(content).hexdigest()
        print(f"{table.name}: {len(content)} bytes")
    write_json(args.output / "manifest.json", {"source": str(args.source), "sha256": checksums})


if __name__ == "__main__":
    main()
