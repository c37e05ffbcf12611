"""Single-sensor faults planted in fault-free Tennessee Eastman runs: who is to blame is known, and what was true.

The sensor lies, the plant does not react: the other 51 channels and the planted sensor's own true value stay as
recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

LEAD = 80
"""Fault-free rows before a fault."""
LASTING = 120
"""Rows of a fault."""
SENSORS = tuple(f"XMEAS{n:02d}" for n in range(1, 42)) + tuple(f"XMV{n:02d}" for n in range(1, 12))


class Fault(NamedTuple):
    """One planted fault.

    Attributes:
        kind: of fault.
        size: in the kind's own measure.
        sensor: column of the planted sensor.
        run: which normal run it is planted in.
        start: first row of the stretch, `LEAD` rows before the fault.
    """

    kind: str
    size: float
    sensor: int
    run: int
    start: int


def _bias(value: Rows, spread: float, size: float, rng: np.random.Generator) -> Rows:
    """A constant of ``size`` standard deviations."""
    del rng
    return value + size * spread


def _drift(value: Rows, spread: float, size: float, rng: np.random.Generator) -> Rows:
    """A ramp that ends at ``size`` standard deviations."""
    del rng
    return value + size * spread * np.arange(1, len(value) + 1) / len(value)


def _gain(value: Rows, spread: float, size: float, rng: np.random.Generator) -> Rows:
    """Movements around the first value ``size`` times as large."""
    del spread, rng
    return value[0] + size * (value - value[0])


def _noise(value: Rows, spread: float, size: float, rng: np.random.Generator) -> Rows:
    """White noise of ``size`` standard deviations."""
    return value + size * spread * rng.normal(size=len(value))


def _stuck(value: Rows, spread: float, size: float, rng: np.random.Generator) -> Rows:
    """The first value for ever."""
    del spread, size, rng
    return np.full_like(value, value[0])


def _none(value: Rows, spread: float, size: float, rng: np.random.Generator) -> Rows:
    """No fault."""
    del spread, size, rng
    return value


KINDS: Mapping[str, Callable[[Rows, float, float, np.random.Generator], Rows]] = {
    "bias": _bias,
    "drift": _drift,
    "gain": _gain,
    "noise": _noise,
    "stuck": _stuck,
    "none": _none,
}
CASES = (
    ("bias", 2.0),
    ("bias", 3.0),
    ("bias", 5.0),
    ("bias", 10.0),
    ("drift", 3.0),
    ("drift", 6.0),
    ("drift", 12.0),
    ("gain", 2.0),
    ("gain", 4.0),
    ("noise", 1.5),
    ("noise", 3.0),
    ("stuck", 1.0),
)
"""Fault types and sizes."""


def faults(runs: int, rows: int, seed: int, cases: tuple[tuple[str, float], ...] = CASES) -> list[Fault]:
    """Every case in every sensor, each in a run and at a time drawn by chance."""
    rng = np.random.default_rng(seed)
    return [
        Fault(kind, size, sensor, int(rng.integers(runs)), int(rng.integers(rows - LEAD - LASTING)))
        for kind, size in cases
        for sensor in range(len(SENSORS))
    ]


def planted(fault: Fault, runs: Rows, spread: Rows, seed: int = 0) -> Rows:
    """The stretch [LEAD + LASTING, 52] with its fault.

    Args:
        fault: what to plant.
        runs: [runs, rows, 52] fault-free.
        spread: [52] normal standard deviations.
        seed: of the noise.
    """
    stretch = runs[fault.run, fault.start : fault.start + LEAD + LASTING].astype(np.float64)
    rng = np.random.default_rng([seed, fault.sensor, fault.run, fault.start])
    value = stretch[LEAD:, fault.sensor]
    stretch[LEAD:, fault.sensor] = KINDS[fault.kind](value, float(spread[fault.sensor]), fault.size, rng)
    return stretch


def normal_runs(folder: Path) -> tuple[Rows, Rows]:
    """Training [20, 500, 52] and test [30, 960, 52] runs of ``tep/normal_runs.npz``."""
    with np.load(folder / "tep" / "normal_runs.npz") as file:
        return file["train"].astype(np.float64), file["test"].astype(np.float64)
