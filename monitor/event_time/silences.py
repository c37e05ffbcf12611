"""Assets that have fallen silent, noticed before they speak again.

A silence is a fact of the asset's own stream: RAISED at its last reading + silence, told at the latest when the next
reading comes. Where the other assets have gone on for that long, the same RAISED can be told at once, with the same id
and body; only its moment of sending depends on them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.table import Table


class SilenceWatch:
    """Which assets' silences have been told already.

    Args:
        silence: the longest gap that is no silence, in ns.
    """

    def __init__(self, silence: int) -> None:
        self._silence = silence
        self._table = Table([("told", np.bool_, ())])

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        return self._table.dump(row)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave."""
        self._table.load(row, data)

    def overdue(self, last: NDArray[np.int64], seen: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Assets whose silence is to be told now; each is told once.

        The others' time is their upper median: one fast clock silences nobody.

        Args:
            last: [A] highest accepted time of every asset, in ns.
            seen: [A] True where there is one.

        Returns:
            [n] rows.
        """
        told = self._table["told"][: len(last)]
        speaking = np.sort(last[seen & ~told])
        if not len(speaking):
            return np.zeros(0, np.int32)
        now = speaking[len(speaking) // 2]
        rows = np.flatnonzero(seen & ~told & (now - last > self._silence)).astype(np.int32)
        self._table["told"][rows] = True
        return rows

    def ended(self, row: int) -> bool:
        """An asset speaks again; True where its silence was told before."""
        told = bool(self._table["told"][row])
        self._table["told"][row] = False
        return told
