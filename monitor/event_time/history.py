"""The last rows of every asset, from which windows are cut.

A window is T rows of one segment; what would lie before the segment's start is padding (z 0, mask False).
Rows live in one ring per asset, so a push costs what it brings and not what an asset remembers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.event_time.segments import Positions, ends_of, latest_true, numbers_of, starts_of
from monitor.table import Table


class Ready(NamedTuple):
    """W windows, in the order of the slots that end them.

    Attributes:
        last: [W] position of the window's last row among the M pushed slots.
        values: [W, T, Dz] float32, oldest row first.
        mask: [W, T, Dz] bool, True where there is a value.
        coverage: [W] float32, mean weight of real readings over the window's rows within the segment.
        maturity: [W] int32, rows since the segment's start, at most T.
    """

    last: Positions
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    coverage: NDArray[np.float32]
    maturity: NDArray[np.int32]


class History:
    """Windows of ``length`` rows (T) that end at slots divisible by ``stride``, for assets of one class.

    Args:
        length: T.
        stride: slots between two window ends.
        sensors: Dz, the columns that are scored.
    """

    def __init__(self, length: int, stride: int, sensors: int) -> None:
        self._length = length
        self._stride = stride
        self._sensors = sensors
        self._ring = 2 * length
        self._table = Table(
            [
                ("z", np.float32, (self._ring, sensors)),
                ("mask", np.bool_, (self._ring, sensors)),
                ("weight", np.float64, (self._ring,)),
                ("next", np.int64, ()),
                ("maturity", np.int64, ()),
            ]
        )

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def push(
        self,
        row: NDArray[np.int32],
        slot: NDArray[np.int64],
        fresh: NDArray[np.bool_],
        z: NDArray[np.float32],
        mask: NDArray[np.bool_],
        weight: NDArray[np.float32],
    ) -> Ready:
        """Append closed slots and cut the windows that they end.

        Args:
            row: [M] the asset's row in the state tables; sorted.
            slot: [M] slot numbers, rising within an asset.
            fresh: [M] True where a segment starts.
            z: [M, Dz] scaled values.
            mask: [M, Dz] True where there is a value.
            weight: [M, Dz] weight of real readings, 0 to 1.
        """
        starts = starts_of(row)
        segment = numbers_of(starts, len(row))
        rank = np.arange(len(row)) - starts[segment]
        place = (self._table["next"][row] + rank) % self._ring
        maturity = self._maturity(row, fresh, starts[segment], rank)
        weights = weight.astype(np.float64).sum(axis=1)
        chunk = rank // (self._ring - self._length + 1)
        parts = list[_Part]()
        for number in range(int(chunk.max(initial=0)) + 1):
            now = np.flatnonzero(chunk == number)
            for name, column in (("z", z), ("mask", mask), ("weight", weights)):
                self._table[name][row[now], place[now]] = column[now]
            ending = now[slot[now] % self._stride == 0]
            parts.append((ending, *self._cut(row[ending], place[ending], maturity[ending])))
        last = ends_of(starts, len(row))
        self._table["next"][row[last]] = (place[last] + 1) % self._ring
        self._table["maturity"][row[last]] = maturity[last]
        return self._joined(parts, maturity)

    def dump(self, row: int) -> bytes:
        """The asset's rows that a later window can still see."""
        rows = self._table["next"][row] - np.arange(self._remembered(row), 0, -1)
        columns = (self._table[name][row, rows % self._ring] for name in ("z", "mask", "weight"))
        maturity = np.int64(self._table["maturity"][row])
        return b"".join([maturity.tobytes(), *(column.tobytes() for column in columns)])

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave.

        Raises:
            ValueError: the bytes are of another layout.
        """
        maturity = int(np.frombuffer(data[:8], np.int64)[0]) if len(data) >= 8 else -1
        count = min(maturity, self._length - 1)
        cells = count * self._sensors
        if maturity < 0 or maturity > self._length or len(data) != 8 + 5 * cells + 8 * count:
            raise ValueError(
                f"history row: got {len(data)} bytes that do not fit windows of {self._length} rows"
            )
        places = slice(0, count)
        shape = (count, self._sensors)
        self._table["z"][row, places] = np.frombuffer(data, np.float32, cells, 8).reshape(shape)
        self._table["mask"][row, places] = np.frombuffer(data, np.bool_, cells, 8 + 4 * cells).reshape(shape)
        self._table["weight"][row, places] = np.frombuffer(data, np.float64, count, 8 + 5 * cells)
        self._table["next"][row] = count
        self._table["maturity"][row] = maturity

    def _remembered(self, row: int) -> int:
        return min(int(self._table["maturity"][row]), self._length - 1)

    def _maturity(
        self, row: NDArray[np.int32], fresh: NDArray[np.bool_], first: Positions, rank: Positions
    ) -> NDArray[np.int64]:
        """[M] rows since the segment's start, the slot's own included, at most T."""
        start = latest_true(fresh, first)
        known = self._table["maturity"][row] + rank + 1
        return np.minimum(np.where(start < 0, known, np.arange(len(row)) - start + 1), self._length)

    def _cut(
        self, row: NDArray[np.int32], place: Positions, maturity: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
        """Values, mask and coverage of the windows that end at these places of the rings."""
        back = np.arange(self._length - 1, -1, -1)
        places = (place[:, None] - back) % self._ring
        padding = back >= maturity[:, None]
        values, mask = self._table["z"][row[:, None], places], self._table["mask"][row[:, None], places]
        weight = self._table["weight"][row[:, None], places]
        values[padding], mask[padding], weight[padding] = 0.0, False, 0.0
        return values, mask, (weight.sum(axis=1) / (maturity * self._sensors)).astype(np.float32)

    def _joined(self, parts: list[_Part], maturity: NDArray[np.int64]) -> Ready:
        """The windows of all parts, in order of their last rows."""
        index, values, mask, coverage = (
            parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        )
        if len(parts) > 1:
            order = np.argsort(index, kind="stable")
            index, values, mask, coverage = index[order], values[order], mask[order], coverage[order]
        return Ready(index, values, mask, coverage, maturity[index].astype(np.int32))


_Part = tuple[Positions, NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]
