"""Load the observations into SQLite: all of them or none, and twice is the same as once."""

from __future__ import annotations

import argparse
import csv
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple
from pathlib import Path

from atomic import write_json
from observations import Observation, read_clean

TABLES = """
CREATE TABLE IF NOT EXISTS stations (
    station TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    elevation_m REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS observations (
    station TEXT NOT NULL REFERENCES stations (station),
    observed_at TEXT NOT NULL,
    temperature_c REAL NOT NULL,
    humidity_percent REAL NOT NULL,
    wind_m_s REAL NOT NULL,
    pressure_hpa REAL NOT NULL,
    PRIMARY KEY (station, observed_at)
) WITHOUT ROWID;
"""

# The WHERE keeps a row that is already there from counting as a change.
PUT_STATION = """
INSERT INTO stations VALUES (:station, :name, :elevation_m)
ON CONFLICT DO UPDATE SET name = excluded.name, elevation_m = excluded.elevation_m
"""
PUT_OBSERVATION = """
INSERT INTO observations VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    temperature_c = excluded.temperature_c, humidity_percent = excluded.humidity_percent,
    wind_m_s = excluded.wind_m_s, pressure_hpa = excluded.pressure_hpa
WHERE (temperature_c, humidity_percent, wind_m_s, pressure_hpa) IS NOT
    (excluded.temperature_c, excluded.humidity_percent, excluded.wind_m_s, excluded.pressure_hpa)
"""


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block does, or, if it raises, nothing of it."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def count(database: sqlite3.Connection) -> int:
    """Count the observations in the database."""
    return int(database.execute("SELECT count(*) FROM observations").fetchone()[0])


def load(
    database: sqlite3.Connection, stations: list[dict[str, str]], rows: list[Observation]
) -> dict[str, int]:
    """Put everything into the database and say how many rows were new, changed and the same."""
    database.executescript(TABLES)
    with transaction(database):
        database.executemany(PUT_STATION, stations)
        before, changes = count(database), database.total_changes
        database.executemany(PUT_OBSERVATION, map(astuple, rows))
        after, touched = count(database), database.total_changes - changes
    inserted = after - before
    return {
        "inserted": inserted,
        "updated": touched - inserted,
        "unchanged": len(rows) - touched,
        "total": after,
    }


def main() -> None:
    """Write the database and load_report.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    args = parser.parse_args()

    rows = read_clean(args.input / "observations.csv")
    with (args.input / "stations.csv").open(newline="", encoding="utf-8") as file:
        stations = list(csv.DictReader(file))
    args.database.parent.mkdir(parents=True, exist_ok=True)
    # No implicit transactions: ours says where it begins and ends.
    with closing(sqlite3.connect(args.database, isolation_level=None)) as database:
        database.execute("PRAGMA foreign_keys = ON")
        try:
            report = load(database, stations, rows)
        except sqlite3.Error as error:
            sys.exit(f"nothing was loaded into {args.database}: {error}")
    write_json(args.report, report)
    print(", ".join(f"{number} {what}" for what, number in report.items()))


if __name__ == "__main__":
    main()
