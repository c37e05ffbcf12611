"""State of many assets in one structured array: a row is an asset, and a row's bytes are its state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Table:
    """A growing structured array with one row per asset.

    Fields are read and written as ``table['field'][rows]``; each is a view [capacity, ...] of one array.

    Args:
        fields: (name, dtype, shape) of every field, as NumPy's structured dtypes take them.
        initial: the value of a field in a fresh row, where it is not zero.
    """

    def __init__(
        self, fields: list[tuple[str, Any, tuple[int, ...]]], initial: dict[str, Any] | None = None
    ) -> None:
        self.dtype = np.dtype(fields)
        self._initial = np.zeros((), self.dtype)
        for name, value in (initial or {}).items():
            self._initial[name] = value
        self._rows: NDArray[np.void] = np.zeros(0, self.dtype)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, field: str) -> NDArray[Any]:
        return self._rows[field]

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` rows; new rows hold the initial values. Views taken before are stale."""
        if capacity <= len(self._rows):
            return
        grown = np.empty(max(capacity, 2 * len(self._rows), 8), self.dtype)
        grown[: len(self._rows)] = self._rows
        grown[len(self._rows) :] = self._initial
        self._rows = grown

    def dump(self, row: int) -> bytes:
        """The state of one row."""
        return self._rows[row].tobytes()

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave.

        Raises:
            ValueError: the bytes are of another layout.
        """
        if len(data) != self.dtype.itemsize:
            raise ValueError(f"state row: expected {self.dtype.itemsize} bytes, got {len(data)}")
        self._rows[row] = np.frombuffer(data, self.dtype)[0]
