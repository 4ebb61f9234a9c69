"""One weather observation: what a clean one is, and how a row of the data lake becomes one."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

TO_METRES_PER_SECOND = {"m/s": 1.0, "km/h": 1 / 3.6, "kn": 1852 / 3600}

LIMITS = {
    "temperature_c": (-60.0, 60.0),
    "humidity_percent": (0.0, 100.0),
    "wind_m_s": (0.0, 110.0),
    "pressure_hpa": (850.0, 1090.0),
}


@dataclass(frozen=True)
class Observation:
    """What one station saw at one time (UTC), in one set of units."""

    station: str
    observed_at: str
    temperature_c: float
    humidity_percent: float
    wind_m_s: float
    pressure_hpa: float


COLUMNS = tuple(field.name for field in fields(Observation))


def parse(row: Mapping[str, str | None]) -> Observation:
    """Read a raw row; ValueError says what is wrong with it."""
    observation = Observation(
        station=_text(row, "station").lower(),
        observed_at=_utc(_text(row, "observed_at")),
        temperature_c=round(_celsius(row), 1),
        humidity_percent=_number(row, "humidity_percent"),
        wind_m_s=round(_metres_per_second(row), 1),
        pressure_hpa=_number(row, "pressure_hpa"),
    )
    for name, (low, high) in LIMITS.items():
        if not low <= getattr(observation, name) <= high:
            raise ValueError(f"{name} out of range")
    return observation


def read_clean(path: Path) -> list[Observation]:
    """Read what transform wrote; ValueError if a column is missing or a number isn't one."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}")
        return [
            Observation(
                row["station"], row["observed_at"], *(float(row[name]) for name in COLUMNS[2:])
            )
            for row in rows
        ]


def _text(row: Mapping[str, str | None], name: str) -> str:
    text = (row.get(name) or "").strip()
    if not text:
        raise ValueError(f"{name} missing")
    return text


def _number(row: Mapping[str, str | None], name: str) -> float:
    text = _text(row, name)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} not a number") from None


def _utc(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError("observed_at not a time") from None
    if moment.tzinfo is None:
        raise ValueError("observed_at without a time zone")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment.utctimetuple())


def _celsius(row: Mapping[str, str | None]) -> float:
    degrees = _number(row, "temperature")
    unit = _text(row, "temperature_unit").upper().lstrip("°")
    if unit == "C":
        return degrees
    if unit == "F":
        return (degrees - 32) * 5 / 9
    raise ValueError("temperature_unit unknown")


def _metres_per_second(row: Mapping[str, str | None]) -> float:
    unit = _text(row, "wind_unit").lower()
    if unit not in TO_METRES_PER_SECOND:
        raise ValueError("wind_unit unknown")
    return _number(row, "wind_speed") * TO_METRES_PER_SECOND[unit]
