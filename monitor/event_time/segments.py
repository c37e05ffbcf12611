"""NumPy over segments: runs of rows that share a key, such as an asset, so that a thousand cost one call.

Rows of one segment are neighbours, and segments are numbered 0, 1, 2, ... in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.intp]
_LIMIT = 2**62


def starts_of(*keys: NDArray[Any]) -> Positions:
    """The position at which each run of equal keys begins; ``keys`` are [N] columns, grouped."""
    changed = np.ones(len(keys[0]), np.bool_)
    if len(changed):
        changed[1:] = keys[0][1:] != keys[0][:-1]
        for key in keys[1:]:
            changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)


def numbers_of(starts: Positions, total: int) -> Positions:
    """The segment number of each of ``total`` rows, [total]."""
    return np.repeat(np.arange(len(starts)), np.diff(starts, append=total))


def ends_of(starts: Positions, total: int) -> Positions:
    """The last position of every segment."""
    return np.append(starts, total)[1:] - 1


def prefix_maximum(segment: Positions, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The running maximum of ``values`` ([N] or [N, D]) along axis 0 within each segment.

    Segments are lifted over one another, so that one plain running maximum never crosses from one to the
    next; where int64 has no room for that, the values' ranks take their place.
    """
    if not values.size:
        return values
    low, high = int(values.min()), int(values.max())
    span = high - low + 1
    if span * (int(segment[-1]) + 1) >= _LIMIT:
        levels, ranks = np.unique(values, return_inverse=True)
        return levels[prefix_maximum(segment, ranks.reshape(values.shape).astype(np.int64))]
    lift = segment * span - low
    lift = lift if values.ndim == 1 else lift[:, None]
    return np.maximum.accumulate(values + lift, axis=0) - lift


def first_reaching(
    segment: Positions, levels: NDArray[np.int64], wanted_segment: Positions, wanted: NDArray[np.int64]
) -> Positions:
    """For each wanted (segment, level) the first position of that segment whose level is at least that.

    ``levels`` do not fall within a segment, and each wanted level is reached in its segment.
    """
    if not len(wanted):
        return np.zeros(0, np.intp)
    low = min(int(levels.min()), int(wanted.min()))
    span = max(int(levels.max()), int(wanted.max())) - low + 1
    if span * (int(segment[-1]) + 1) >= _LIMIT:
        _, ranks = np.unique(np.concatenate([levels, wanted]), return_inverse=True)
        ranks = ranks.astype(np.int64)
        return first_reaching(segment, ranks[: len(levels)], wanted_segment, ranks[len(levels) :])
    return np.searchsorted(segment * span + (levels - low), wanted_segment * span + (wanted - low))


def latest_true(flags: NDArray[np.bool_], first: Positions) -> Positions:
    """The latest position up to each row, within its segment, whose flag is set; -1 where there is none.

    Args:
        flags: [N] or [N, D].
        first: [N] the first position of each row's segment.
    """
    positions = np.arange(len(flags))
    if flags.ndim == 2:
        positions, first = positions[:, None], first[:, None]
    latest = np.maximum.accumulate(np.where(flags, positions, -1), axis=0)
    return np.where(latest >= first, latest, -1)


def shifted(values: NDArray[Any], starts: Positions, before: NDArray[Any]) -> NDArray[Any]:
    """Each row's predecessor within its segment; a segment's first row gets its ``before`` ([segments])."""
    previous = np.empty_like(values)
    previous[1:] = values[:-1]
    previous[starts] = before
    return previous
