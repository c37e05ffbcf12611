"""How many incidents a limit would have raised: the rules of `monitor.alerting.incidents` over whole recordings.

A run of windows over the limit opens an incident when it lasts for the on-delay, a run of windows clearly under it ends
one when it lasts for the off-delay; what is raised are the opening runs that follow an ending one, or nothing.
Equality with `Incidents` is tested. Shape letter: W windows, sorted by asset and time, each of them scored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evidence_clock(
    asset: NDArray[np.integer], end_ns: NDArray[np.int64], period_ns: int
) -> NDArray[np.int64]:
    """Time [W] by which delays run: from window to window, but never more than one period.

    Where windows are missing in between, they were not scored: then nothing is known and delays hold.

    Args:
        asset: [W] the windows' assets.
        end_ns: [W] their ends.
        period_ns: from one window to the next, where none is missing.
    """
    step = np.minimum(np.diff(end_ns, prepend=end_ns[:1]), period_ns)
    return np.cumsum(np.where(_first(asset), 0, step))


def raised(
    asset: NDArray[np.integer],
    clock_ns: NDArray[np.int64],
    over: NDArray[np.bool_],
    under: NDArray[np.bool_],
    on_delay_ns: int,
    off_delay_ns: int,
) -> NDArray[np.int64]:
    """Places of the windows at which the incidents that are raised began, in order.

    Args:
        asset: [W] the windows' assets.
        clock_ns: [W] as `evidence_clock` gives it.
        over: [W] the ratio is over the limit.
        under: [W] it is under the limit less the deadband; never together with ``over``.
        on_delay_ns: a run over the limit must last so long.
        off_delay_ns: a run under it must last so long.
    """
    first = _first(asset)
    opening = _lasting(over, first, clock_ns, on_delay_ns)
    ending = _lasting(under, first, clock_ns, off_delay_ns)
    at = np.sort(np.concatenate([opening, ending]))
    opens = over[at]
    continues = np.concatenate([[False], opens[:-1] & (asset[at][1:] == asset[at][:-1])])[: len(at)]
    return at[opens & ~continues]


def _lasting(
    flag: NDArray[np.bool_], first: NDArray[np.bool_], clock_ns: NDArray[np.int64], delay_ns: int
) -> NDArray[np.int64]:
    """First windows of the unbroken runs of ``flag`` that last for the delay."""
    begins = np.flatnonzero(flag & (first | ~_before(flag)))
    ends = np.flatnonzero(flag & np.append(first[1:] | ~flag[1:], True))
    return begins[clock_ns[ends] - clock_ns[begins] >= delay_ns]


def _first(asset: NDArray[np.integer]) -> NDArray[np.bool_]:
    """[W] True at each asset's first window."""
    return np.concatenate([[True], asset[1:] != asset[:-1]])[: len(asset)]


def _before(flag: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.concatenate([[False], flag[:-1]])[: len(flag)]
