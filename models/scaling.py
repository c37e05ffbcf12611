"""Engineering units to z-scores and back, one scale per sensor.

Only elementwise arithmetic: a reading's z-score never depends, in any bit, on the readings around it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z_LIMIT = 1e6
"""Largest magnitude of a z-score: its square, summed over sensors, still fits a float32."""

_RANGE_SHARE = 1e-4
_MEAN_SHARE = 1e-3


class Scaling(NamedTuple):
    """Mean and standard deviation per sensor, in engineering units.

    Attributes:
        mean: [D] float64.
        std: [D] float64, > 0.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def z(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Z-scores of readings.

        Args:
            values: [..., D] float64, engineering units; NaN stays NaN.

        Returns:
            [..., D] float32, limited to ±`Z_LIMIT`.
        """
        return np.clip((values - self.mean) / self.std, -Z_LIMIT, Z_LIMIT).astype(np.float32)

    def inverse(self, z: NDArray[np.float32]) -> NDArray[np.float64]:
        """Engineering units of z-scores [..., D]."""
        return z.astype(np.float64) * self.std + self.mean


def fit_scaling(
    values: NDArray[np.float64],
    mask: NDArray[np.bool_],
    resolution: NDArray[np.float64] | None = None,
    span: NDArray[np.float64] | None = None,
) -> Scaling:
    """Mean and standard deviation of the real readings, with a floor for sensors that hardly move.

    The floor is the largest of the quantisation noise of ``resolution`` and a ten-thousandth of the
    engineering ``span``; a constant sensor that declares neither gets a thousandth of its value, or 1.

    Args:
        values: [N, D] training rows, engineering units.
        mask: [N, D] True where a real reading stands.
        resolution: [D] smallest step of each sensor, 0 where unknown.
        span: [D] upper less lower end of the engineering range, 0 where unknown.

    Raises:
        ValueError: a sensor has no real reading, or a masked-in reading is not finite.
    """
    count = mask.sum(axis=0)
    if not bool((count > 0).all()):
        raise ValueError(
            f"scaling: got no real reading of columns {np.flatnonzero(count == 0).tolist()}, expected some; "
            "hint: widen the training interval or leave the sensor out"
        )
    if not bool(np.isfinite(values[mask]).all()):
        raise ValueError("scaling: got a reading that is not finite, expected it to be masked")
    mean = np.where(mask, values, 0.0).sum(axis=0) / count
    std = np.sqrt(np.square(np.where(mask, values - mean, 0.0)).sum(axis=0) / count)
    return Scaling(mean, np.maximum(std, _floor(mean, std, resolution, span)))


def _floor(
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    resolution: NDArray[np.float64] | None,
    span: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    declared = np.zeros_like(mean)
    if resolution is not None:
        declared = np.maximum(declared, resolution / np.sqrt(12.0))
    if span is not None:
        declared = np.maximum(declared, span * _RANGE_SHARE)
    constant = std <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
    fallback = np.where(mean == 0.0, 1.0, np.abs(mean) * _MEAN_SHARE)
    return np.where(constant & (declared == 0.0), fallback, declared)
