"""The combined ratio smoothed over time: one stage, the same in training and live.

EWMA as in S. W. Roberts, 'Control chart tests based on geometric moving averages', Technometrics 1(3), 1959:
``e_t = weight * x_t + (1 - weight) * e_{t-1}``. It restarts at 0, the calibration median, wherever the past does not
belong to the present: at a fresh window (batch, phase, gap) and after more unscored samples than a window holds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.table import Table

_NEVER = np.iinfo(np.int64).min // 2


class Smoother:
    """EWMA state of many assets.

    Args:
        weight: of the newest value, in (0, 1]; 1 is no smoothing.
        length: samples of a window: a longer pause between scored windows restarts the average.
    """

    def __init__(self, weight: float, length: int) -> None:
        self._weight = weight
        self._length = length
        self._table = Table(
            [
                ("value", np.float64, ()),
                ("slot", np.int64, ()),
                ("segment", np.int64, ()),
                ("age", np.int64, ()),
            ],
            {"slot": _NEVER, "segment": _NEVER},
        )

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        return self._table.dump(row)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave."""
        self._table.load(row, data)

    def step(
        self,
        rows: NDArray[np.int32],
        slot: NDArray[np.int64],
        segment: NDArray[np.int64],
        value: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """One scored window of each of n distinct assets.

        Args:
            rows: [n] the assets' rows.
            slot: [n] the windows' last slots.
            segment: [n] the slots at which the windows' segments began.
            value: [n] combined ratios.

        Returns:
            [n] smoothed ratios.
        """
        table = self._table
        paused = slot - table["slot"][rows] > self._length
        restart = paused | (table["segment"][rows] != segment)
        before = np.where(restart, 0.0, table["value"][rows])
        smoothed = self._weight * value + (1.0 - self._weight) * before
        table["value"][rows], table["slot"][rows], table["segment"][rows] = smoothed, slot, segment
        table["age"][rows] = np.where(restart, 0, table["age"][rows]) + 1
        return smoothed

    def ages(self, rows: NDArray[np.int32]) -> NDArray[np.int64]:
        """Windows [n] since the average restarted, 1 for the first."""
        return self._table["age"][rows]


class Segments:
    """At which slot the unbroken stretch began that each slot of an asset belongs to."""

    def __init__(self) -> None:
        self._table = Table([("start", np.int64, ())], {"start": _NEVER})

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        return self._table.dump(row)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave."""
        self._table.load(row, data)

    def step(
        self, row: NDArray[np.int32], slot: NDArray[np.int64], fresh: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Segment starts [M] of slots sorted by (row, slot)."""
        if len(row) == 0:
            return np.zeros(0, np.int64)
        first = np.concatenate([[True], row[1:] != row[:-1]])
        known = np.where(fresh, slot, np.where(first, self._table["start"][row], _NEVER))
        anchor = np.maximum.accumulate(np.where(fresh | first, np.arange(len(row)), 0))
        starts = known[anchor]
        last = np.concatenate([row[1:] != row[:-1], [True]])
        self._table["start"][row[last]] = starts[last]
        return starts
