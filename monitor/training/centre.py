"""Limits of the sensors' slow CUSUMs, from the whole normal history."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.settings import AssetClass
from monitor.thresholds.centre import cumulative, largest_sums, limit_of
from monitor.thresholds.threshold import autocorrelation_time
from monitor.training.history import Normal, Rows

_MOST = 200_000
"""Slots that the autocorrelation times are taken from, at most."""


def centre_limits(asset_class: AssetClass, rows: Rows, normal: Normal) -> NDArray[np.float64]:
    """The limit h [D] of each scored sensor, in sigma samples."""
    held_out = ~normal.fits if not normal.fits.all() else normal.fits
    row = rows.slots.row
    reached = largest_sums(cumulative(normal.z[held_out], normal.usable[held_out], row[held_out]))
    samples = asset_class.drift.sensor_false_alarms / asset_class.sampling
    some = slice(0, _MOST)
    breaks = np.flatnonzero(np.diff(row[some])) + 1
    runs = np.diff(np.concatenate([[0], breaks, [len(row[some])]])).tolist()
    taus = [autocorrelation_time(column, runs) for column in normal.z[some].T]
    return np.array(
        [limit_of(most, tau, len(taus), samples) for most, tau in zip(reached.tolist(), taus, strict=True)]
    )
