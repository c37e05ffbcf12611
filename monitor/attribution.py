"""Which sensors an anomaly shows in: each one's share in the smoothed ratio.

Of a window each sensor has the contribution c_j of the scorer with the largest ratio, and its distance u_j from what
the trusted sensors let one expect, in standard deviations. With c0_j, what is usual for c_j in normal operation:

    p_j   = c_j / c0_j^0.4 * (1 + 0.05 u_j^2)        then divided by their sum
    P_j   = EWMA of p_j * max(0, 1 + ratio)
    U_j   = EWMA of u_j, in its own standard deviations
    share = P_j * (1 + 0.0075 U_j^2)^2               divided by their sum

- **Relative to what is usual** (Alcala & Qin 2011, J. Process Control 21:322; Westerhuis, Gurden & Smilde 2000, Chemom.
  Intell. Lab. 51:95): contributions of some sensors are larger than others' whatever happens. Dividing by all of c0
  makes much of sensors that hardly ever contribute; a part of it, in logarithms, named the planted sensor most often.
- **Over several windows**, weighted by how far the window lies above one limit below the median: a fault that grows
  stands in the shares before it stands in the ratio, and averaging over more than the worst windows cancels what
  chance puts there. Weighted by the ratio alone, the few windows that raise an alert would name its sensors by
  themselves.
- **By the distance from expected** a little: with several sensors at fault a contribution, which corrects one sensor
  alone, also falls on sensors that are as they should be. U keeps the sign: a sensor that is off on one side for long
  counts more than one that scatters.

The constants were chosen on faults planted into other runs than ``nuwatch benchmark detection --section attribution``
judges, with its figures in view, and so that of two sensors at fault neither comes behind a sound one.

Shape letters: n windows of distinct assets, S scorers, D scored sensors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.table import Table

Floats = NDArray[np.float64]

_USUAL = 0.4
_AWAY = 0.05
_ONE_SIDED = 0.0075


class Attribution:
    """Shares of the sensors of many assets.

    Args:
        usual: [S, D] > 0, mean contributions in normal operation.
        weight: of the newest window in the averages, in (0, 1]: the ratio's.
    """

    def __init__(self, usual: Floats, weight: float) -> None:
        self._unusual = usual**-_USUAL
        self._weight = weight
        sensors = usual.shape[1]
        self._table = Table(
            [
                ("parts", np.float64, (sensors,)),
                ("off", np.float64, (sensors,)),
            ]
        )

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        return self._table.dump(row)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave.

        Raises:
            ValueError: the bytes are of another layout.
        """
        self._table.load(row, data)

    def step(
        self,
        rows: NDArray[np.int32],
        fresh: NDArray[np.bool_],
        contributions: NDArray[np.floating],
        ratios: Floats,
        combined: Floats,
        away: Floats,
    ) -> Floats:
        """One scored window of each of n distinct assets.

        Args:
            rows: [n] the assets' rows.
            fresh: [n] where the smoothed ratio has begun anew with this window, and so does this.
            contributions: [n, S, D] >= 0, as each scorer gives them.
            ratios: [n, S] of each scorer.
            combined: [n] what they come to, before smoothing.
            away: [n, D] distance from expected, in standard deviations; 0 where masked.

        Returns:
            Shares [n, D], summing to 1; 0 where nothing stands out.
        """
        table = self._table
        kept = np.where(fresh, 0.0, 1.0 - self._weight)[:, None]
        part = self._part(contributions, ratios, away) * np.maximum(1.0 + combined, 0.0)[:, None]
        table["parts"][rows] = self._weight * part + kept * table["parts"][rows]
        table["off"][rows] = self._weight * away + kept * table["off"][rows]
        variance = self._weight / (2.0 - self._weight)  # of an average of many independent u
        one_sided = 1.0 + _ONE_SIDED * table["off"][rows] ** 2 / variance
        return _normalised(table["parts"][rows] * one_sided**2)

    def _part(self, contributions: NDArray[np.floating], ratios: Floats, away: Floats) -> Floats:
        leading = np.argmax(ratios, axis=1)
        relative = contributions[np.arange(len(leading)), leading] * self._unusual[leading]
        return _normalised(relative * (1.0 + _AWAY * away**2))


def _normalised(parts: Floats) -> Floats:
    total = parts.sum(axis=1, keepdims=True)
    return np.divide(parts, total, out=np.zeros_like(parts), where=total > 0)
