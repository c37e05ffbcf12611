"""Many windows in few columns of a picture, without hiding an extreme: smallest and largest per column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Columns:
    """N windows cut into C columns of nearly equal counts; with N <= C limit, each window is a column.

    Attributes:
        edges: [C + 1] int64; column c holds the windows edges[c] .. edges[c + 1] - 1.
    """

    edges: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many columns there are."""
        return len(self.edges) - 1

    @property
    def last(self) -> NDArray[np.int64]:
        """[C] index of the last window of each column."""
        return self.edges[1:] - 1

    def largest(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[C] largest finite value of each column, NaN where there is none."""
        return _reduced(np.fmax, values, self.edges)

    def smallest(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[C] smallest finite value of each column, NaN where there is none."""
        return _reduced(np.fmin, values, self.edges)

    def mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[C] mean of the finite values of each column, NaN where there is none."""
        finite = np.isfinite(values)
        total = np.add.reduceat(np.where(finite, values, 0.0), self.edges[:-1])
        counts = np.add.reduceat(finite.astype(np.float64), self.edges[:-1])
        return np.where(counts > 0, total / np.maximum(counts, 1.0), np.nan)

    def any(self, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """[C] whether any window of the column has the flag."""
        return np.logical_or.reduceat(flags, self.edges[:-1])


def columns_of(windows: int, limit: int) -> Columns:
    """Cut ``windows`` (at least 1) into at most ``limit`` columns."""
    return Columns(np.linspace(0, windows, min(windows, limit) + 1).astype(np.int64))


def flag_runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs of set flags as (first, last) indices."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True))


def _reduced(
    function: np.ufunc, values: NDArray[np.float64], edges: NDArray[np.int64]
) -> NDArray[np.float64]:
    finite = np.where(np.isfinite(values), values, np.nan)
    return function.reduceat(finite, edges[:-1])
