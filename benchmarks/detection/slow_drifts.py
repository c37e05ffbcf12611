"""Sensors that drift slowly: planted into every channel of fault-free runs, for the CUSUM against trained centres.

Shape letters: N rows, D sensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.contract import Bar, Table
from monitor.quantities import Duration
from monitor.settings import DriftSettings
from monitor.thresholds.centre import CentreWatch, cumulative, largest_sums, limit_of
from monitor.thresholds.threshold import autocorrelation_time

Floats = NDArray[np.float64]

SLOPES = (200, 500, 1000, 2000, 4000)
"""Rows in which a drifting sensor reaches 5 sigma."""


def found(
    fit: Floats, calibration: Floats, normal: Floats, sensors: Sequence[int], seeds: int
) -> dict[int, tuple[float, float, float]]:
    """By rows to 5 sigma: share of planted drifts found before 5 sigma, before 3, and the spread of the latter.

    Args:
        fit: [runs, rows, D] that sets centres and spreads.
        calibration: [runs, rows, D] that helps to set the CUSUMs' limits.
        normal: [runs, rows, D] into which drifts are planted.
        sensors: that drift, one at a time.
        seeds: places in the normal runs at which every drift begins.

    Returns:
        Also at 0: the share of sensors with a false alarm in all of ``normal``.
    """
    flat = fit.reshape(-1, fit.shape[-1])
    mean, std = flat.mean(axis=0), flat.std(axis=0)

    def z_of(values: Floats) -> NDArray[np.float32]:
        return ((values - mean) / std).reshape(-1, values.shape[-1]).astype(np.float32)

    limits = _limits(z_of(calibration), z_of(fit), fit.shape[1])
    z = z_of(normal)
    figures = {0: (float(_away(limits, z).any(axis=0).mean()), np.nan, np.nan)}
    for rows in SLOPES:
        reached = np.array([_reached(limits, z, rows, sensors, seed) for seed in range(seeds)])
        before = (reached < 3).mean(axis=1)
        figures[rows] = (float((reached < 5).mean()), float(before.mean()), float(before.std()))
    return figures


def _reached(
    limits: Floats, z: NDArray[np.float32], rows: int, sensors: Sequence[int], seed: int
) -> list[float]:
    """Sigmas at which each sensor's drift is found."""
    level, reached = 5.0 * np.arange(1, rows + 1, dtype=np.float32) / rows, list[float]()
    for number, sensor in enumerate(sensors):
        begin = (number * 960 + seed * 1777) % (len(z) - rows)
        drifted = z[begin : begin + rows].copy()
        drifted[:, sensor] += level
        hit = np.flatnonzero(_away(limits, drifted)[:, sensor])
        reached.append(float(level[hit[0]]) if len(hit) else np.inf)
    return reached


def _limits(held_out: NDArray[np.float32], fit: NDArray[np.float32], run: int) -> Floats:
    """As training sets them."""
    largest = largest_sums(
        cumulative(held_out, np.ones(held_out.shape, np.bool_), np.zeros(len(held_out), np.int32))
    )
    z = np.concatenate([fit, held_out])
    taus = [autocorrelation_time(column, [run] * (len(z) // run)) for column in z.T]
    samples = DriftSettings().sensor_false_alarms / Duration.parse("1s")
    return np.array([limit_of(m, t, len(taus), samples) for m, t in zip(largest.tolist(), taus, strict=True)])


def _away(limits: Floats, z: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where [N, D] sensors are away from their centres."""
    watch = CentreWatch(limits)
    watch.grow(1)
    return watch.step(np.zeros(len(z), np.int32), z, np.ones(z.shape, np.bool_)).away


def table(slopes: Mapping[int, tuple[float, float, float]]) -> Table:
    """For people."""
    rows = tuple((str(k), f"{a:.3f}", f"{b:.3f} ± {s:.3f}") for k, (a, b, s) in slopes.items() if k)
    note = f"sensors with a false alarm in 14,400 normal rows: {slopes[0][0]:.3f}"
    return Table("Slow sensor drifts", ("rows to 5 sigma", "found before 5 sigma", "before 3"), rows, (note,))


def bars(slopes: Mapping[int, tuple[float, float, float]]) -> list[Bar]:
    """Its bars."""
    five, three = (min(values[at] for rows, values in slopes.items() if rows) for at in (0, 1))
    return [
        Bar("slow sensor drifts found before 5 sigma, worst of five slopes", five, 0.9),
        Bar("an aim, no bar: slow sensor drifts found before 3 sigma, worst of five slopes", three, 0.9),
        Bar(
            "sensors with a false alarm of their CUSUM in 14,400 normal rows", slopes[0][0], 0.0, None, False
        ),
    ]
