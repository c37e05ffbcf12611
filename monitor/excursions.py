"""Since when each sensor of an asset has been outside its normal band: who moved first.

A single reading outside means little: a band holds 99.9 % of normal readings. So a sensor has left its band from the
first of two windows outside between which it was not back for long, and it is back after three windows inside in a
row. While an ANOMALY is open, what has left stays noted: a fault that swings does not lose its beginning.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.table import Table

INSIDE = np.iinfo(np.int64).max
"""The time of a sensor that has not left its band: later than every other, so that sorting tells who was first."""
CONFIRMED = 2
"""Windows outside that make an excursion; before, one counts only while it lasts."""
BACK = 3
"""Windows inside in a row that end it."""


class Excursions:
    """Excursions of D sensors of many assets.

    Args:
        length: samples of a window: a longer pause between scored windows forgets what was.
        sensors: D.
    """

    def __init__(self, length: int, sensors: int) -> None:
        self._length = length
        self._table = Table(
            [
                ("since", np.int64, (sensors,)),
                ("outside", np.int8, (sensors,)),  # windows outside so far, at most CONFIRMED
                ("inside", np.int8, (sensors,)),  # windows inside in a row since, at most BACK
                ("busy", np.bool_, ()),
                ("slot", np.int64, ()),
                ("segment", np.int64, ()),
            ],
            {"since": INSIDE},
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
        end_ns: NDArray[np.int64],
        slot: NDArray[np.int64],
        segment: NDArray[np.int64],
        outside: NDArray[np.bool_],
        masked: NDArray[np.bool_],
        held: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """One scored window of each of n distinct assets.

        Args:
            rows: [n] the assets' rows.
            end_ns: [n] the windows' ends.
            slot: [n] the windows' last slots.
            segment: [n] the slots at which the windows' segments began; a new one forgets what was.
            outside: [n, D] the sensor is outside its normal band.
            masked: [n, D] nothing is known of it: its state holds.
            held: [n] an ANOMALY is open: excursions do not end.

        Returns:
            [n, D] since when each sensor has been outside; `INSIDE` where it is not, or was only once and is back.
        """
        table = self._table
        if not outside.any() and not table["busy"][rows].any():
            return np.full(outside.shape, INSIDE)
        restart = (slot - table["slot"][rows] > self._length) | (table["segment"][rows] != segment)
        stale = (restart | ~table["busy"][rows])[:, None]
        since = np.where(stale, INSIDE, table["since"][rows])
        count = np.where(stale, 0, table["outside"][rows])
        inside = np.where(stale, 0, table["inside"][rows])
        since = np.where(outside, np.minimum(since, end_ns[:, None]), since)
        count = np.minimum(count + outside, CONFIRMED)
        inside = np.where(outside, 0, np.minimum(inside + (~masked & (count > 0)), BACK))
        back = (inside == BACK) & ~(held[:, None] & (count == CONFIRMED))
        since, count, inside = (
            np.where(back, INSIDE, since),
            np.where(back, 0, count),
            np.where(back, 0, inside),
        )
        for name, column in (("since", since), ("outside", count), ("inside", inside)):
            table[name][rows] = column
        busy = (count > 0).any(axis=1)
        table["busy"][rows] = busy
        for name, column in (("slot", slot), ("segment", segment)):
            table[name][rows] = np.where(
                busy, column, 0
            )  # idle rows are equal bytes, whatever ran beside them
        return np.where((count == CONFIRMED) | outside, since, INSIDE)
