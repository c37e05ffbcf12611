"""Scaling along a batch: z-scores around the mean trajectory of each group of rows, indexed by reaction time.

A group is a recipe and phase; its index is the number of grid samples since the phase (or batch) began. With
one group of length 1 this is plain scaling, so a continuous process and a batch process share one code path.
Only elementwise arithmetic: a row's z-scores never depend, in any bit, on other rows.

Subtracting the aligned mean trajectory before modelling is a batch-process practice: Nomikos and MacGregor,
'Monitoring batch processes using multiway principal component analysis', AIChE Journal 40(8), 1994.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.scaling import Scaling

UNTRAINED = -1
"""Group of rows whose recipe or phase was not in the training history."""


class Trajectory(NamedTuple):
    """Mean and standard deviation per group, index and sensor, in engineering units.

    Shape letters: G groups, L indices of the longest group, D sensors. A shorter group repeats its last row.

    Attributes:
        mean: [G, L, D] float64.
        std: [G, L, D] float64, > 0.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def z(
        self, values: NDArray[np.float64], group: NDArray[np.int32], index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Z-scores of rows.

        Args:
            values: [N, D] engineering units; NaN stays NaN.
            group: [N] group of each row; `UNTRAINED` rows become NaN.
            index: [N] samples since the group began; beyond the trained length the last one is used.

        Returns:
            [N, D] float32.
        """
        mean, std = self.at(group, index)
        z = Scaling(mean, std).z(values)
        z[group == UNTRAINED] = np.nan
        return z

    def inverse(
        self, z: NDArray[np.float32], group: NDArray[np.int32], index: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Engineering units of z-scores [N, D]."""
        mean, std = self.at(group, index)
        return Scaling(mean, std).inverse(z)

    def at(
        self, group: NDArray[np.int32], index: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation [N, D] that apply to rows."""
        picked = np.clip(index, 0, self.mean.shape[1] - 1)
        return self.mean[group, picked], self.std[group, picked]


def fit_trajectory(
    values: NDArray[np.float64],
    mask: NDArray[np.bool_],
    group: NDArray[np.int32],
    index: NDArray[np.int64],
    plain: Scaling,
    smoothing: int = 5,
) -> Trajectory:
    """Mean trajectories of training rows.

    Each index pools the rows within ``smoothing`` indices of it, so that few batches still give a smooth
    curve. The spread is that around the mean trajectory, never below a tenth of the sensor's spread over all
    rows: between identical batches a trajectory would otherwise call its own quantisation an anomaly.

    Args:
        values: [N, D] engineering units.
        mask: [N, D] True where real.
        group: [N] group of each row, 0 to G - 1.
        index: [N] samples since the group began.
        plain: scaling over all rows; stands in where a group has no real reading of a sensor.
        smoothing: half width of the pooling, in samples.
    """
    groups, length = int(group.max()) + 1, int(index.max()) + 1
    shape = (groups, length, values.shape[1])
    cell = group.astype(np.int64) * length + index
    count = _pooled(_sums(mask.astype(np.float64), cell, shape), smoothing)
    total = _pooled(_sums(np.where(mask, values, 0.0), cell, shape), smoothing)
    mean = _hold_last(np.where(count > 0, total / np.maximum(count, 1.0), np.nan), plain.mean)
    residual = np.where(mask, values - mean[group, index], 0.0)
    squares = _pooled(_sums(np.square(residual), cell, shape), smoothing)
    std = _hold_last(np.where(count > 0, np.sqrt(squares / np.maximum(count, 1.0)), np.nan), plain.std)
    return Trajectory(mean, np.maximum(std, 0.1 * plain.std))


def _sums(
    values: NDArray[np.float64], cell: NDArray[np.int64], shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    sums = np.zeros((shape[0] * shape[1], shape[2]))
    np.add.at(sums, cell, values)
    return sums.reshape(shape)


def _pooled(sums: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Sums over indices within ``half`` of each index, per group."""
    padded = np.pad(sums, ((0, 0), (half + 1, half), (0, 0)))
    running = np.cumsum(padded, axis=1)
    return running[:, 2 * half + 1 :] - running[:, : -(2 * half + 1)]


def _hold_last(curve: NDArray[np.float64], fallback: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill indices without data by the last one with data before them, else by ``fallback``."""
    known = np.isfinite(curve)
    index = np.where(known, np.arange(curve.shape[1])[None, :, None], 0)
    last = np.maximum.accumulate(index, axis=1)
    held = np.take_along_axis(curve, last, axis=1)
    return np.where(np.isfinite(held), held, fallback)
