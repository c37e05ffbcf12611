"""Between drifts the limit follows the quantile of the scores slowly: gated, and capped.

On every scored window ``limit += eta sigma (1[score > limit] - nu)``, exceedances included: at the limit where a
share nu of the windows is over, the steps cancel (stochastic approximation of a quantile: Robbins & Monro, Annals
of Mathematical Statistics 22, 1951; kept from fading, as in Gibbs & Candes, 'Adaptive conformal inference', 2021).
sigma is the spread of the calibration's ratios. eta is divided by the fourth root of the autocorrelation time: the
limit's own jitter grows with the product of the two, the time to follow falls with eta, and a step of a fifth of the
score is to be followed within 500 windows with and without smoothing (chosen by measurement).

**The gate.** Nothing moves while over 25 % of the last 40 scored windows are over the limit, or over half of the last
five autocorrelation times (a large step would else be followed some way before 40 windows tell), while an ANOMALY
stands, or while a SENSOR_FAULT is open. When an ANOMALY comes to stand, what was learnt since its exceedances began
is unlearnt: the limit goes back to where it was. **The cap.** All steps since the last version that a person or a
re-estimation set stay within a factor of `max_total`, and within `drift.max_total` of the trained limit.

Shape letters: n assets of one step.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.settings import Tracking as Settings
from monitor.table import Table

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.integer[Any]]

_ROWS = 40
_RECENT = np.uint64((1 << _ROWS) - 1)
_BUSY = 10
"""Of the last 40 windows, this many may be over the limit: 25 %."""
_SUDDEN_TAUS = 5
"""Of so many autocorrelation times, half may be."""


class Gate(IntEnum):
    """Whether the limit follows the scores at a window, and why not."""

    OFF = 0
    OPEN = 1
    BUSY = 2
    STANDS = 3
    FAULT = 4
    CAPPED = 5


GATES: dict[Gate, str] = {
    Gate.OFF: "the limit does not follow the scores",
    Gate.OPEN: "the limit follows the scores",
    Gate.BUSY: "closed: over 25 % of the last 40 windows are over the limit, or half of the last few",
    Gate.STANDS: "closed: an ANOMALY stands",
    Gate.FAULT: "closed: a SENSOR_FAULT is open",
    Gate.CAPPED: "open, but the limit has moved as far as it may",
}
"""The states of the gate, for people."""


class Realised(NamedTuple):
    """What came over the limit since the version in force.

    Attributes:
        n: scored windows.
        over: those over the limit.
        since_ns: end of the first.
    """

    n: int
    over: int
    since_ns: int


class Tracking:
    """Factors between the limit that a version set and the one in force, for the assets of one class.

    Args:
        settings: its rate and bounds.
        nu: the fraction of normal windows allowed over the limit.
        tau: autocorrelation time of exceedances, in windows.
        spread: standard deviation of the final ratio in normal.
    """

    def __init__(self, settings: Settings, nu: float, tau: float, spread: float) -> None:
        self._on = settings.enabled
        self._nu = nu
        self._step = settings.rate * spread / max(1.0, tau) ** 0.25
        self._most = settings.max_total
        self._few = min(_ROWS, math.floor(_SUDDEN_TAUS * max(1.0, tau)))
        self._publish = math.log1p(settings.publish)
        self._table = Table(
            [
                ("total", np.float64, ()),
                ("published", np.float64, ()),
                ("calm", np.float64, ()),
                ("most", np.float64, ()),
                ("recent", np.uint64, ()),
                ("gate", np.uint8, ()),
                ("teaches", np.bool_, ()),
                ("n", np.int64, ()),
                ("over", np.int64, ()),
                ("since", np.int64, ()),
            ],
            {"total": 1.0, "published": 1.0, "calm": 1.0, "most": settings.max_total},
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

    def factor(self, rows: Rows) -> Floats:
        """Between the limit of the version in force and the limit in force [n]."""
        return self._table["total"][rows] / self._table["published"][rows]

    def gate(self, rows: Rows) -> NDArray[np.uint8]:
        """Codes [n] of `Gate` at the assets' last windows."""
        return self._table["gate"][rows]

    def teaches(self, rows: Rows) -> Bools:
        """Whether the assets' last windows [n] may teach what is normal: the gate is open, used or not."""
        return self._table["teaches"][rows]

    def recent(self, rows: Rows) -> NDArray[np.int64]:
        """Windows over the limit among the last 40 scored [n]: over 10 close the gate."""
        return np.bitwise_count(self._table["recent"][rows]).astype(np.int64)

    def realised(self, row: int) -> Realised:
        """The realised rate since the version in force, over all scored windows."""
        table = self._table
        return Realised(int(table["n"][row]), int(table["over"][row]), int(table["since"][row]))

    def step(
        self,
        rows: Rows,
        end_ns: NDArray[np.int64],
        over: Bools,
        scored: Bools,
        calm: Bools,
        stands: Bools,
        newly: Bools,
        fault: Bools,
    ) -> Bools:
        """One window of each of n assets.

        Args:
            rows: [n] distinct assets.
            end_ns: [n] window ends, ns since the epoch.
            over: [n] over the limit in force.
            scored: [n] only these count.
            calm: [n] until now exceedances were no more than chance: where a standing ANOMALY goes back to.
            stands: [n] an ANOMALY stands.
            newly: [n] since this window.
            fault: [n] a SENSOR_FAULT is open.

        Returns:
            [n] where the limit is further from the last published one than `publish`.
        """
        self._count(rows, end_ns, over, scored)
        table, gate = self._table, self._gates(rows, stands, fault)
        table["teaches"][rows] = scored & (gate == Gate.OPEN)
        if not self._on:
            return np.zeros(len(rows), np.bool_)
        total = table["total"][rows]
        kept = np.where(calm, total, table["calm"][rows])
        total = np.where(newly, kept, total)
        wanted = total + np.where(scored & (gate == Gate.OPEN), self._step * (over - self._nu), 0.0)
        capped = np.clip(wanted, 1.0 / table["most"][rows], table["most"][rows])
        gate = np.where((gate == Gate.OPEN) & (capped != wanted), Gate.CAPPED, gate)
        table["total"][rows], table["calm"][rows], table["gate"][rows] = capped, kept, gate
        return np.abs(np.log(capped / table["published"][rows])) > self._publish

    def published(self, row: int) -> None:
        """The limit in force is that of a new version now."""
        table = self._table
        table["published"][row] = table["total"][row]
        table["n"][row], table["over"][row] = 0, 0

    def restart(self, row: int, room: float) -> None:
        """A new limit was set: what was learnt of the old one goes.

        Args:
            row: the asset.
            room: the factor that is left to the largest distance from the trained limit.
        """
        table = self._table
        table["most"][row] = max(1.0, min(self._most, room))
        table["total"][row], table["calm"][row], table["recent"][row] = 1.0, 1.0, 0
        self.published(row)

    def _count(self, rows: Rows, end_ns: NDArray[np.int64], over: Bools, scored: Bools) -> None:
        table = self._table
        table["since"][rows] = np.where(scored & (table["n"][rows] == 0), end_ns, table["since"][rows])
        table["n"][rows] += scored
        table["over"][rows] += over
        recent = table["recent"][rows]
        longer = ((recent << np.uint64(1)) | over.astype(np.uint64)) & _RECENT
        table["recent"][rows] = np.where(scored, longer, recent)

    def _gates(self, rows: Rows, stands: Bools, fault: Bools) -> NDArray[np.uint8]:
        recent = self._table["recent"][rows]
        sudden = 2 * np.bitwise_count(recent & np.uint64((1 << self._few) - 1)) > self._few
        busy = (np.bitwise_count(recent) > _BUSY) | sudden
        gate = np.full(len(rows), Gate.OPEN, np.uint8)
        for closed, code in ((busy, Gate.BUSY), (fault, Gate.FAULT), (stands, Gate.STANDS)):
            gate[closed] = code
        return gate
