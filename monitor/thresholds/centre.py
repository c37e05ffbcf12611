"""A slow CUSUM of every sensor against its trained centre: what finds a sensor that drifts under every limit.

Two one-sided cumulative sums of z-scores, ``C+ = max(0, C+ + z - k)`` and its mirror (E. S. Page, Biometrika 41,
1954; Montgomery, 'Introduction to Statistical Quality Control', section 9.1), with the allowance k = 1 sigma: mean
shifts below that are never drift. z is cut at 4 sigma, so that a few wild readings do not pass for a shift; readings
that are masked leave the sums as they are.

**The limit** ``h`` of a sensor states its false alarms. A sum of autocorrelated z-scores moves like a Brownian motion
with drift -k and the variance rate tau, their integrated autocorrelation time: it takes about ``tau exp(2 k h / tau) /
(2 k^2)`` samples to reach h (Siegmund, 'Sequential Analysis', 1985, without the overshoot, which only makes it
longer). h is chosen so that all sensors of an asset together give one false DRIFT in `drift.sensor_false_alarms`,
and is at least half as much again as the largest sum that the normal history itself reached.

The sums are integers (2^-16 sigma): adding them is exact, so they do not depend on how the stream is cut.

Shape letters: M slots in order of asset and time, D sensors.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.event_time.segments import ends_of, latest_true, numbers_of, prefix_maximum, shifted, starts_of
from monitor.table import Table

Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]

ALLOWANCE = 1.0
"""k, in sigma."""
_UNIT = 1 << 16
_CUT = 4.0


class Centres(NamedTuple):
    """Which sensors have left their centre.

    Attributes:
        away: [M, D] True from the slot at which a sum passes its limit to the one where both are under half of it.
        turned: [M] where that changes for a sensor.
    """

    away: Bools
    turned: Bools


class CentreWatch:
    """CUSUMs of many assets.

    Args:
        limits: [D] h of each sensor, in sigma samples.
    """

    def __init__(self, limits: NDArray[np.float64]) -> None:
        self.limits = limits
        self._limit = np.rint(np.minimum(limits, 1e6) * _UNIT).astype(np.int64)
        width = (len(limits),)
        self._table = Table([("sums", np.int64, (2, *width)), ("away", np.bool_, width)])

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        return self._table.dump(row)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave."""
        self._table.load(row, data)

    def step(self, row: NDArray[np.int32], z: NDArray[np.float32], usable: Bools) -> Centres:
        """Take the slots of a pass.

        Args:
            row: [M] assets, sorted.
            z: [M, D] z-scores.
            usable: [M, D] True where a reading stands.
        """
        if not len(row):
            return Centres(np.zeros(z.shape, np.bool_), np.zeros(0, np.bool_))
        starts = starts_of(row)
        last, table = ends_of(starts, len(row)), self._table
        both = [
            sums(side * z, usable, starts, table["sums"][row[starts], number])
            for number, side in enumerate((np.float32(1), np.float32(-1)))
        ]
        largest = np.maximum(*both)
        was = table["away"][row[starts]]
        away = _held(largest > self._limit, largest * 2 < self._limit, starts, was)
        before = shifted(away, starts, was)
        for number, values in enumerate(both):
            table["sums"][row[last], number] = values[last]
        table["away"][row[last]] = away[last]
        return Centres(away, (away != before).any(axis=1))


def sums(z: NDArray[np.float32], usable: Bools, starts: NDArray[np.intp], before: Integers) -> Integers:
    """Cumulative sums C+ [M, D] in units of 2^-16 sigma.

    Args:
        z: [M, D] z-scores.
        usable: [M, D] others move nothing.
        starts: [A] first slots of the assets.
        before: [A, D] the sums that the assets come with.
    """
    cut = np.clip(np.where(usable, z, np.float32(0)), -_CUT, _CUT).astype(np.float64)
    steps = np.where(usable, np.rint((cut - ALLOWANCE) * _UNIT), 0.0).astype(np.int64)
    number = numbers_of(starts, len(z))
    running = np.cumsum(steps, axis=0)
    running -= (running - steps)[starts][number]
    lowest = -prefix_maximum(number, -running)
    return running - np.minimum(lowest, -before[number])


def limit_of(largest: float, tau: float, sensors: int, samples: float) -> float:
    """The limit h of one sensor, in sigma samples.

    Args:
        largest: sum that the normal history reached, in sigma samples.
        tau: autocorrelation time of the sensor's z-scores, in samples.
        sensors: of the asset, which share the false alarms.
        samples: between two false alarms of an asset.
    """
    wanted = 2.0 * sensors * samples  # two sides of every sensor
    theory = tau / (2.0 * ALLOWANCE) * math.log(max(math.e, 2.0 * ALLOWANCE**2 * wanted / tau))
    return max(theory, 1.5 * largest)


def largest_sums(sums_: Integers) -> NDArray[np.float64]:
    """The largest sum [D] of [M, D], in sigma samples."""
    return sums_.max(axis=0, initial=0) / _UNIT


def _held(over: Bools, under: Bools, starts: NDArray[np.intp], before: Bools) -> Bools:
    """True [M, D] from where it is over to where it is under; ``before`` [A, D] where neither has been yet."""
    number = numbers_of(starts, len(over))
    latest = latest_true(over | under, starts[number])
    return np.where(latest >= 0, np.take_along_axis(over, np.maximum(latest, 0), axis=0), before[number])


def cumulative(z: NDArray[np.float32], usable: Bools, row: NDArray[Any]) -> Integers:
    """Both one-sided sums of a history [M, D], whichever is larger."""
    starts = starts_of(row)
    fresh = np.zeros((len(starts), z.shape[1]), np.int64)
    return np.maximum(sums(z, usable, starts, fresh), sums(-z, usable, starts, fresh))
