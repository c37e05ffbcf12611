"""Made-up data of a cooling-water pump, written as a plant's spreadsheet would write them.

Semicolons, decimal commas, local times, and column names as people give them. Six days of normal running in
`june.csv`; one day with two planted faults in `july.csv`, listed in `faults.csv`.

Usage: python make_data.py
"""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLUMNS = (
    "Datum Uhrzeit",
    "P-101 Druck [bar]",
    "P-101 Durchfluss m³/h",
    "Temp.Lager (°C)",
    "Strom L1",
    "FV-101.OUT",
)
FAULTS = (("clogging strainer", 10 * 60, 14 * 60), ("bearing", 17 * 60, 21 * 60))
"""Name, first minute and last minute of the day."""


def running(minutes: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Pressure, flow, bearing temperature, current and valve opening, one row a minute."""
    clock = np.arange(minutes) / 1440 * 2 * np.pi
    demand = 60 + 8 * np.sin(clock) + slow(minutes, rng, 3.0)
    valve = 0.9 * demand + rng.normal(0, 0.3, minutes)
    flow = demand + rng.normal(0, 0.4, minutes)
    pressure = 6.2 - 0.0002 * flow**2 + rng.normal(0, 0.02, minutes)
    current = 8 + 0.12 * flow + rng.normal(0, 0.1, minutes)
    ambient = 21 - 5 * np.cos(clock) + slow(minutes, rng, 1.0)
    temperature = 25 + ambient + 0.9 * current + rng.normal(0, 0.15, minutes)
    return np.stack([pressure, flow, temperature, current, valve], axis=1)


def slow(size: int, rng: np.random.Generator, spread: float) -> NDArray[np.float64]:
    """Noise that remembers about an hour."""
    values = np.zeros(size)
    for k in range(1, size):
        values[k] = values[k - 1] * 59 / 60 + rng.normal(0, spread * (2 / 60) ** 0.5)
    return values


def with_faults(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The strainer clogs: pressure falls and the valve opens. The bearing warms by 15 degrees, slowly."""
    rows = rows.copy()
    (_, start, end), (_, begin, stop) = FAULTS
    clogged = np.linspace(0, 1, end - start + 1)
    rows[start : end + 1, 0] -= 0.5 * clogged
    rows[start : end + 1, 4] += 6 * clogged
    rows[begin : stop + 1, 2] += np.linspace(0, 15, stop - begin + 1)
    return rows


def write(path: Path, start: datetime, rows: NDArray[np.float64]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, delimiter=";")
        out.writerow(COLUMNS)
        for minute, row in enumerate(rows):
            at = (start + timedelta(minutes=minute)).strftime("%d.%m.%Y %H:%M")
            out.writerow([at, *(f"{value:.2f}".replace(".", ",") for value in row)])


def write_faults(path: Path, day: datetime) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["asset", "start", "end", "label"])
        for name, first, last in FAULTS:
            times = ((day + timedelta(minutes=minute)).isoformat() for minute in (first, last))
            out.writerow(["P-101", *times, name])


if __name__ == "__main__":
    rng = np.random.default_rng(101)
    june, july = datetime(2026, 6, 25), datetime(2026, 7, 1)
    write(Path("june.csv"), june, running(6 * 1440, rng))
    write(Path("july.csv"), july, with_faults(running(1440, rng)))
    write_faults(Path("faults.csv"), july)
