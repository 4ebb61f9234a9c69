"""Say which models there are and how good they are, also when some of them failed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from atomic import write_json


def accuracy(metrics: Path) -> float | None:
    """Read the accuracy; None if the job that should have written it didn't."""
    if not metrics.exists():
        return None
    return float(json.loads(metrics.read_text(encoding="utf-8"))["accuracy"])


def main() -> None:
    """Write report.json: the accuracy of each model and of the ensemble, null where missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--ensemble", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    report = {name: accuracy(args.metrics / f"{name}.json") for name in args.models}
    report["ensemble"] = accuracy(args.ensemble)
    write_json(args.output, report)
    for name, value in report.items():
        print(f"{name:10} {'missing' if value is None else value}")


if __name__ == "__main__":
    main()
