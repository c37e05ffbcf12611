"""Which open ANOMALY stands, and since when its exceedances have been more than chance.

At nu = 0.01 one window in a hundred is over the limit by design, and with a short on-delay each of them opens an
ANOMALY. Were these windows left out of a collection, the new limit would be the quantile of scores without their
tail, and every re-estimation would lower it. An ANOMALY counts as chance, and its windows as normal, until over
25 % of the last 40 autocorrelation times were over the limit, or it has been open for longer than chance explains
(40 autocorrelation times and 20 off-delays); then it stands until it clears.

Shape letters: n assets of one step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.table import Table

Bools = NDArray[np.bool_]
Rows = NDArray[np.integer[Any]]

STANDS_SHARE = 0.25
_STANDS_TAUS = 40
_CHANCE_OFF_DELAYS = 20
_NEVER = np.iinfo(np.int64).min // 2


class Standing:
    """Exceedances and open ANOMALYs of the assets of one class.

    Args:
        tau: autocorrelation time of exceedances, in windows.
        off_windows: windows of an off-delay.
    """

    def __init__(self, tau: float, off_windows: int) -> None:
        self._patience = math.ceil(_STANDS_TAUS * tau) + _CHANCE_OFF_DELAYS * off_windows
        self._recent = 2.0 / (_STANDS_TAUS * tau + 1.0)
        self._table = Table(
            [
                ("over_share", np.float64, ()),
                ("excess", np.float64, ()),
                ("excess_since", np.int64, ()),
                ("opened", np.int64, ()),
                ("open", np.bool_, ()),
                ("open_windows", np.int32, ()),
                ("stands", np.bool_, ()),
                ("shifted", np.int64, ()),
            ],
            {"excess_since": _NEVER, "opened": _NEVER, "shifted": _NEVER},
        )

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        return self._table.dump(row)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave."""
        self._table.load(row, data)

    def step(
        self, rows: Rows, end_ns: NDArray[np.int64], over: Bools, eligible: Bools, opened: Bools
    ) -> Bools:
        """One window of each of n assets: True [n] where an ANOMALY begins to stand.

        Since when it has been more than chance is the last time that a cumulative sum of exceedances, less the
        share that stands, was nought: an ANOMALY that was open by chance when the shift came does not antedate it.
        """
        table = self._table
        share = table["over_share"][rows]
        table["over_share"][rows] = share = share + np.where(eligible, self._recent * (over - share), 0.0)
        excess = table["excess"][rows]
        moved = np.maximum(0.0, excess + np.where(eligible, over - STANDS_SHARE, 0.0))
        since = np.where((excess == 0.0) | (moved == 0.0), end_ns, table["excess_since"][rows])
        table["excess"][rows], table["excess_since"][rows] = moved, since
        rising = opened & ~table["open"][rows]
        table["opened"][rows] = np.where(rising, since, table["opened"][rows])
        windows = np.where(opened, table["open_windows"][rows] + 1, 0)
        table["open"][rows], table["open_windows"][rows] = opened, windows
        stood = table["stands"][rows]
        mostly_over = share > STANDS_SHARE
        stands = opened & (stood | mostly_over | (windows > self._patience))
        newly = stands & ~stood
        shifted = np.where(mostly_over, since, table["opened"][rows])
        table["shifted"][rows] = np.where(newly, shifted, table["shifted"][rows])
        table["stands"][rows] = stands
        return newly

    def calm(self, rows: Rows) -> Bools:
        """Whether exceedances are no more than chance [n]."""
        return self._table["excess"][rows] == 0.0

    def stands(self, rows: Rows) -> Bools:
        """Whether an ANOMALY stands [n]."""
        return self._table["stands"][rows]

    def shifted_ns(self, row: int) -> int:
        """When the exceedances of the ANOMALY that stands became more than chance."""
        return int(self._table["shifted"][row])

    def forget(self, row: int) -> None:
        """A new limit is in force: what was over the old one says nothing of it."""
        table = self._table
        table["over_share"][row], table["open_windows"][row], table["stands"][row] = 0.0, 0, False
