"""Assets that have fallen silent, told before they speak again.

A silence is a fact of the asset's own stream: RAISED at its last reading + silence and CLEARED at the next one, told
with that next reading. A daemon that has heard nothing of an asset for so long may tell the same RAISED at once, with
the same id and body, once the other assets have gone on for that long. It may be wrong (a backlog that arrives later
fills the gap): then the next reading clears it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.table import Table

_NOTHING = -(2**62)


class SilenceWatch:
    """Which assets' silences have been told already.

    Args:
        silence: the longest gap that is no silence, in ns.
    """

    def __init__(self, silence: int) -> None:
        self._silence = silence
        self._table = Table([("told", np.int64, ())], {"told": _NOTHING})

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        return self._table.dump(row)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave."""
        self._table.load(row, data)

    def overdue(
        self, last: NDArray[np.int64], seen: NDArray[np.bool_], quiet: NDArray[np.bool_]
    ) -> NDArray[np.int32]:
        """Assets whose silence is to be told now; each is told once.

        The others' time is their upper median: one fast clock silences nobody.

        Args:
            last: [A] highest accepted time of every asset, in ns.
            seen: [A] True where there is one.
            quiet: [A] True where nothing was heard for so long that the asset may be told silent.

        Returns:
            [n] rows.
        """
        told = self._table["told"][: len(last)] != _NOTHING
        speaking = np.sort(last[seen & ~told])
        if not len(speaking):
            return np.zeros(0, np.int32)
        now = speaking[len(speaking) // 2]
        rows = np.flatnonzero(seen & quiet & ~told & (now - last > self._silence)).astype(np.int32)
        self._table["told"][rows] = last[rows]
        return rows

    def ended(self, rows: NDArray[np.int32], last: NDArray[np.int64]) -> dict[int, int]:
        """Assets that speak again after their silence was told, with the last time before it; forgets them.

        Args:
            rows: [n] assets that were heard.
            last: [n] their highest accepted times now.
        """
        told = self._table["told"][rows]
        over = (told != _NOTHING) & (last > told)
        self._table["told"][rows[over]] = _NOTHING
        return dict(zip(rows[over].tolist(), told[over].tolist(), strict=True))
