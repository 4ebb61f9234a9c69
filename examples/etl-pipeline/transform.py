"""Clean the observations: one set of units, UTC, one row per station and time.

A row that makes no sense goes to rejected.csv with the reason. Of two rows for the same station and
time the later one stands: stations send corrections.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from atomic import replacing, write_json
from observations import COLUMNS, Observation, parse


def read_raw(folder: Path) -> Iterator[tuple[str, int, dict[str, str | None]]]:
    """Yield file name, line number and row of every observation."""
    for table in sorted(folder.glob("observations-*.csv")):
        with table.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            for row in rows:
                yield table.name, rows.line_num, row


def write_table(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Write a CSV file, whole or not at all."""
    with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def station_summary(observations: list[Observation]) -> dict[str, dict[str, object]]:
    """Count the rows of each station; give its period (UTC) and its mean temperature (°C)."""
    summary: dict[str, dict[str, object]] = {}
    for station in sorted({each.station for each in observations}):
        own = [each for each in observations if each.station == station]
        summary[station] = {
            "rows": len(own),
            "first": own[0].observed_at,
            "last": own[-1].observed_at,
            "mean_temperature_c": round(sum(each.temperature_c for each in own) / len(own), 2),
        }
    return summary


def main() -> None:
    """Write observations.csv, rejected.csv and summary.json; copy stations.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    kept: dict[tuple[str, str], Observation] = {}
    rejected: list[tuple[object, ...]] = []
    reasons: Counter[str] = Counter()
    read = 0
    for file, line, row in read_raw(args.input):
        read += 1
        try:
            observation = parse(row)
        except ValueError as error:
            rejected.append((file, line, str(error)))
            reasons[str(error)] += 1
        else:
            kept[observation.station, observation.observed_at] = observation
    clean = [kept[key] for key in sorted(kept)]
    write_table(args.output / "observations.csv", COLUMNS, [astuple(each) for each in clean])
    write_table(args.output / "rejected.csv", ("file", "line", "reason"), rejected)
    with replacing(args.output / "stations.csv") as draft:
        draft.write_bytes((args.input / "stations.csv").read_bytes())
    summary = {
        "rows_read": read,
        "rows_kept": len(clean),
        "rows_replaced": read - len(rejected) - len(clean),
        "rows_rejected": len(rejected),
        "rejected_because": dict(sorted(reasons.items())),
        "stations": station_summary(clean),
    }
    write_json(args.output / "summary.json", summary)
    print(f"{read} rows read, {len(clean)} kept, {len(rejected)} rejected")


if __name__ == "__main__":
    main()
