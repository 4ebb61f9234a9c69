"""Decide whether the transformed data may be loaded: every check runs, every failure is told."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from observations import LIMITS, Observation, read_clean

INVALID = 3  # another exit code than a crash of this script has


def check_summary(summary: dict[str, Any], rows: list[Observation], limit: float) -> Iterator[str]:
    """Every row read is accounted for, and not too many of them (percent) were rejected."""
    accounted = sum(summary[f"rows_{fate}"] for fate in ("kept", "replaced", "rejected"))
    if accounted != summary["rows_read"] or summary["rows_kept"] != len(rows):
        yield f"{summary['rows_read']} rows read, but {accounted} accounted for, {len(rows)} there"
    percent = 100 * summary["rows_rejected"] / max(1, summary["rows_read"])
    if percent > limit:
        yield (
            f"{summary['rows_rejected']} of {summary['rows_read']} rows rejected "
            f"({percent:.1f} %, at most {limit:g} % allowed): {summary['rejected_because']}"
        )


def check_rows(rows: list[Observation]) -> Iterator[str]:
    """No key is there twice, and every number lies within its limits."""
    keys = Counter((row.station, row.observed_at) for row in rows)
    for (station, observed_at), count in keys.items():
        if count > 1:
            yield f"{station} at {observed_at}: {count} rows"
    for row in rows:
        for name, (low, high) in LIMITS.items():
            value = getattr(row, name)
            if not low <= value <= high:
                yield f"{row.station} at {row.observed_at}: {name} {value} not in {low}..{high}"


def check_stations(stations: Path, rows: list[Observation], least: float) -> Iterator[str]:
    """Every station is known, and sent enough (percent) of what it should have sent."""
    with stations.open(newline="", encoding="utf-8") as file:
        per_day = {row["station"]: int(row["observations_per_day"]) for row in csv.DictReader(file)}
    days = len({row.observed_at[:10] for row in rows})
    found = Counter(row.station for row in rows)
    for station in sorted(found.keys() - per_day.keys()):
        yield f"station '{station}' isn't in stations.csv"
    for station, count in per_day.items():
        if found[station] < least / 100 * count * days or not rows:
            yield (
                f"station '{station}': {found[station]} rows for {days} days, "
                f"{count * days} expected (at least {least:g} %)"
            )


def main() -> None:
    """Exit 0 if the data is valid; else say why on stderr and exit 3."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--max-rejected-percent", type=float, default=5)
    parser.add_argument("--min-complete-percent", type=float, default=90)
    args = parser.parse_args()

    rows = read_clean(args.data / "observations.csv")
    summary = json.loads((args.data / "summary.json").read_text(encoding="utf-8"))
    failures = [
        *check_summary(summary, rows, args.max_rejected_percent),
        *check_rows(rows),
        *check_stations(args.data / "stations.csv", rows, args.min_complete_percent),
    ]
    for failure in failures:
        print(f"invalid: {failure}", file=sys.stderr)
    if failures:
        sys.exit(INVALID)
    print(f"{len(rows)} rows are valid")


if __name__ == "__main__":
    main()
