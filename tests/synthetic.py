"""A small correlated autoregressive plant with planted faults, shared by the model tests."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from models.scorer import Windows
from models.windows import gather_windows, window_ends

SENSORS = 6
LENGTH = 24


def normal_rows(count: int, seed: int, sensors: int = SENSORS) -> np.ndarray:
    """Correlated AR(1) rows with unit variance, as float32 z-scores; the plant is the same for every seed."""
    mixing = np.random.default_rng(0).normal(size=(sensors, sensors)) * 0.6 + np.eye(sensors)
    rng = np.random.default_rng(seed)
    state, rows = np.zeros(sensors), np.empty((count + 100, sensors))
    for index in range(count + 100):
        state = 0.8 * state + 0.6 * rng.normal(size=sensors)
        rows[index] = mixing @ state + 0.2 * rng.normal(size=sensors)
    scale = np.sqrt((mixing**2).sum(axis=1) + 0.04)
    return (rows[100:] / scale).astype(np.float32)


def as_windows(rows: np.ndarray, length: int = LENGTH, stride: int = 1) -> Windows:
    """Fully real windows of rows."""
    ends = window_ends(np.zeros(len(rows), np.int64), length, stride)
    return gather_windows(rows, np.ones(rows.shape, bool), ends, length)


def with_step(windows: Windows, sensor: int, size: float, samples: int = 1) -> Windows:
    """The same windows with a step of one sensor in the last samples."""
    values = np.array(windows.values)
    values[:, -samples:, sensor] += size
    return Windows(values, np.array(windows.mask))


def with_masked(windows: Windows, sensor: int) -> Windows:
    """The same windows with one sensor masked throughout; what stands there is 0."""
    values, mask = np.array(windows.values), np.array(windows.mask)
    values[:, :, sensor], mask[:, :, sensor] = 0.0, False
    return Windows(values, mask)


def data_folder(name: str) -> Path:
    """A folder of the shared data, or a skip by name."""
    for root in (os.environ.get("NUWATCH_DATA"), Path(__file__).parents[1] / ".." / "shared" / "data"):
        if root and (Path(root) / name).is_dir():
            return Path(root) / name
    pytest.skip(f"the data set {name!r} is neither under NUWATCH_DATA nor in ../shared/data")


def tennessee(folder: Path, name: str) -> np.ndarray:
    """A Tennessee Eastman file as [rows, 52] float64 (d00 is stored transposed)."""
    with gzip.open(folder / f"{name}.dat.gz") as file:
        table = np.loadtxt(file)
    return table.T if table.shape[0] == 52 else table
