"""``make bench``: every promise about speed, measured as a ratio within one run.

Prints a table as it goes and writes ``.bench/figures.json``. Exits 1 if a figure is over its
bound, so that a slow change is seen; what the bounds mean stands with each.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import batch
import batch_queues
import cases
import fleet
import fleet_parts
import fleet_peers
import launch
import machine
import processor
import s3
from measure import Report, folder

CASES = {
    **cases.CASES,
    **processor.CASES,
    **s3.CASES,
    **machine.CASES,
    **launch.CASES,
    **batch.CASES,
    **batch_queues.CASES,
    **fleet.CASES,
    **fleet_parts.CASES,
    **fleet_peers.CASES,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="NAME", action="append", choices=list(CASES))
    arguments = parser.parse_args()
    report = Report()
    with folder() as root:
        for name, case in CASES.items():
            if arguments.only is None or name in arguments.only:
                case(report, root)
    Path(".bench/figures.json").write_text(report.to_json())
    return 0 if all(figure.holds for figure in report.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
