"""Assets whose records were gone before they could be read: told once, and cleared when the asset is heard again.

Retention overran the monitor, or the topic was made anew. Windows show nothing of it but a gap, or not even that where
the gap is shorter than carry-forward; that something is missing must be said, with what.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import Lost
from monitor.table import Table

_NOTHING = -(2**62)


class Found(NamedTuple):
    """An asset was heard again.

    Attributes:
        row: the asset's row.
        last: its highest accepted time before the loss, ns.
        at: the first time behind that, ns.
        lost: what was lost; several losses in a row are one.
    """

    row: int
    last: int
    at: int
    lost: Lost


class LossWatch:
    """Which assets have been told to have lost records, and what was lost."""

    def __init__(self) -> None:
        fields = [("told", np.int64, ()), ("first", np.int64, ()), ("end", np.int64, ())]
        self._table = Table(fields, {"told": _NOTHING})

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        return self._table.dump(row)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave."""
        self._table.load(row, data)

    def tell(self, last: NDArray[np.int64], seen: NDArray[np.bool_], lost: Lost) -> NDArray[np.int32]:
        """Assets that are to be told now; one that has not been heard since an earlier loss was told already.

        Args:
            last: [A] highest accepted time of every asset, in ns.
            seen: [A] True where there is one.
            lost: what is gone; it may hold records of every asset of the partition.

        Returns:
            [n] rows.
        """
        told = self._table["told"][: len(last)] != _NOTHING
        rows = np.flatnonzero(seen & ~told).astype(np.int32)
        self._table["told"][rows] = last[rows]
        self._table["first"][rows] = lost.first
        self._table["end"][np.flatnonzero(seen)] = lost.end
        return rows

    def ended(self, rows: NDArray[np.int32], now: NDArray[np.int64]) -> tuple[Found, ...]:
        """Of assets [n] that went on at these times [n], those that had lost records; forgets that they had."""
        told = self._table["told"][rows]
        over = told != _NOTHING
        self._table["told"][rows[over]] = _NOTHING
        return tuple(
            Found(row, last, at, Lost(int(self._table["first"][row]), int(self._table["end"][row])))
            for row, last, at in zip(*(column[over].tolist() for column in (rows, told, now)), strict=True)
        )
