"""Training rows seen as windows, without copying them."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.scorer import FitRefused, Windows


def window_ends(segments: NDArray[np.int64], length: int, stride: int = 1) -> NDArray[np.int64]:
    """Rows at which a whole window ends inside one segment.

    Args:
        segments: [N] id of the unbroken stretch that each row belongs to (a batch, a run, between gaps); rows
            of one segment are adjacent.
        length: rows of a window.
        stride: rows between two ends, counted from the segment's first whole window.

    Returns:
        [W] ascending row numbers.
    """
    index = np.arange(len(segments))
    fresh = np.concatenate([[True], segments[1:] != segments[:-1]]) if len(segments) else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(fresh, index, 0)) if len(segments) else index
    age = index - first - (length - 1)
    return np.flatnonzero((age >= 0) & (age % stride == 0))


def gather_windows(
    values: NDArray[np.float32], mask: NDArray[np.bool_], ends: NDArray[np.int64], length: int
) -> Windows:
    """The windows that end at ``ends``, as NumPy arrays.

    Args:
        values: [N, D] z-scores.
        mask: [N, D] True where real.
        ends: [W] row numbers, each at least ``length - 1``.
        length: rows of a window.

    Returns:
        Windows [W, T, D]; evenly spaced ends give a view of the rows, not a copy.

    Raises:
        FitRefused: there is no window.
    """
    if len(ends) == 0:
        raise FitRefused(
            f"windows: got none out of {len(values)} rows, expected at least one of {length} rows; "
            "hint: use a longer history or a shorter window"
        )
    picked = _as_slice(ends - (length - 1))
    return Windows(_view(values, length)[picked], _view(mask, length)[picked])  # type: ignore[arg-type] # NumPy views


def _view(rows: NDArray[np.generic], length: int) -> NDArray[np.generic]:
    return sliding_window_view(rows, length, axis=0).transpose(0, 2, 1)


def _as_slice(starts: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    steps = np.unique(np.diff(starts))
    if len(steps) > 1:
        return starts
    step = int(steps[0]) if len(steps) else 1
    return slice(int(starts[0]), int(starts[-1]) + 1, step)
