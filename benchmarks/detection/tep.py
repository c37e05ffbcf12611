"""The Tennessee Eastman Process, Braatz's data (Chiang, Russell & Braatz 2001): 52 channels every three minutes.

One model of the 500 training rows of ``d00`` judges 22 runs of 960 rows, whose fault begins at row 160, and 50
independent normal runs: the fault-free rows of one run say little about a false-alarm rate.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.data import DataSet, Model, Series, Split, data_folder

SAMPLING_NS: Final = 180 * 10**9
START_NS: Final = 1_577_836_800 * 10**9  # 2020-01-01: the data say no time
FAULT_ROW: Final = 160
FAULTS: Final = tuple(range(1, 22))
HARD: Final = (3, 9, 15)
"""Faults that classical methods hardly see: reported apart, and in no mean."""
NORMAL_TRAIN: Final = "normal-a"
NORMAL_TEST: Final = "normal-b"
QUICK_FAULTS: Final = (1, 3, 5, 11)
QUICK_RUNS: Final = 4


def tep(given: Path | None = None, *, quick: bool = False) -> DataSet:
    """Read TEP.

    Args:
        given: folder that holds ``tep/``; None: `NUWATCH_DATA`.
        quick: four faults and four normal runs only.

    Raises:
        UsageError: it is not there.
    """
    folder = data_folder("tep", given)
    learn = normal_run("d00", _rows(folder / "d00.dat.gz").T, Split.TRAIN)
    faults = QUICK_FAULTS if quick else FAULTS
    runs = [normal_run("d00_te", _rows(folder / "d00_te.dat.gz"), Split.TEST)]
    runs += [_faulty(number, _rows(folder / f"d{number:02d}_te.dat.gz")) for number in faults]
    normal = np.load(folder / "normal_runs.npz")
    for name, part in ((NORMAL_TRAIN, "train"), (NORMAL_TEST, "test")):
        some = normal[part][: QUICK_RUNS if quick else None].astype(np.float64)
        runs += [normal_run(f"{name}-{number:02d}", rows, Split.TEST) for number, rows in enumerate(some)]
    return DataSet("tep", (Model("tep", sensors(), (learn,), tuple(runs)),))


def is_normal(series: Series) -> bool:
    """Whether it is one of the independent normal runs."""
    return series.name.startswith((f"{NORMAL_TRAIN}-", f"{NORMAL_TEST}-"))


def fault_of(series: Series) -> int | None:
    """Number of a run's fault."""
    return int(series.kind) if series.kind else None


def sensors() -> tuple[str, ...]:
    """Names of the 52 channels: 41 measurements, 11 manipulated variables."""
    return tuple(f"xmeas_{n}" for n in range(1, 42)) + tuple(f"xmv_{n}" for n in range(1, 12))


def _rows(path: Path) -> NDArray[np.float64]:
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file)


def _faulty(number: int, values: NDArray[np.float64]) -> Series:
    series = normal_run(f"d{number:02d}_te", values, Split.TEST)
    label = series.label.copy()
    label[FAULT_ROW:] = 1
    return series._replace(label=label, kind=str(number))


def normal_run(name: str, values: NDArray[np.floating[Any]], split: Split) -> Series:
    """A series of rows [N, 52] without a fault, all of one split."""
    rows = len(values)
    return Series(
        name=name,
        time=START_NS + np.arange(rows, dtype=np.int64) * SAMPLING_NS,
        values=np.asarray(values, np.float64),
        label=np.zeros(rows, np.int8),
        split=np.full(rows, split, np.int8),
    )
