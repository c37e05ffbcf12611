"""SKAB, the Skoltech Anomaly Benchmark (Katser & Kozitsin 2020): a water-circulation rig, 34 runs of 20 minutes.

The protocol of its leaderboard: per file, the first 400 rows teach (whatever their labels) and the rest is judged.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.detection.data import DataSet, Series, Split, data_folder, own_model
from monitor.errors import UsageError

LEARN: Final = 400
QUICK: Final = 3
FOLDERS: Final = ("valve1", "valve2", "other")


def skab(given: Path | None = None, *, quick: bool = False) -> DataSet:
    """Read SKAB.

    Args:
        given: folder that holds ``skab/``; None: `NUWATCH_DATA`.
        quick: three files only, of different kinds.

    Raises:
        UsageError: it is not there.
    """
    folder = data_folder("skab", given)
    paths = [path for name in FOLDERS for path in sorted((folder / name).glob("*.csv"), key=_number)]
    if not paths:
        raise UsageError(f"{folder}: no valve1/*.csv, valve2/*.csv or other/*.csv")
    if quick:
        paths = paths[:: -(-len(paths) // QUICK)]
    sensors = _header(paths[0])
    return DataSet("skab", tuple(own_model(_series(path, sensors), sensors) for path in paths))


def _number(path: Path) -> int:
    return int(path.stem)


def _header(path: Path) -> tuple[str, ...]:
    with path.open(newline="") as file:
        header = next(csv.reader(file, delimiter=";"))
    return tuple(name for name in header[1:] if name not in ("anomaly", "changepoint"))


def _series(path: Path, sensors: tuple[str, ...]) -> Series:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file, delimiter=";")
    anomaly = header.index("anomaly")
    columns = [header.index(name) for name in sensors]
    times = [datetime.fromisoformat(row[0]).replace(tzinfo=UTC) for row in rows]
    split = np.full(len(rows), Split.TEST, np.int8)
    split[:LEARN] = Split.TRAIN
    return Series(
        name=f"{path.parent.name}-{path.stem}",
        time=np.array([round(time.timestamp()) for time in times], np.int64) * 10**9,
        values=np.array([[float(row[column]) for column in columns] for row in rows]),
        label=np.array([float(row[anomaly]) for row in rows]).astype(np.int8),
        split=split,
        stamps=[row[0] for row in rows],
        kind=path.parent.name,
    )
