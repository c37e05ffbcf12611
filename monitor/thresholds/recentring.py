"""Sensors that may wander are scored around a centre that follows them: slowly, gated, capped, never unseen.

Seasons move an ambient temperature and no fault. Where the user says so, sensor by sensor (`recentre`), windows are
scored around ``mean + offset * sigma`` instead of the trained mean. What a sensor showed in one epoch moves its offset
by a share of the difference; never by chance (differences under a quarter sigma), and never beyond `max_total`.

**Why not more.** Re-centring makes slow drifts invisible to the scorers: unbounded, it has hidden a sensor that went
22 sigma astray. So it is off by default and refused for controlled sensors; beyond 1 sigma a DRIFT names the sensor;
and the slow CUSUM of every sensor against its trained centre (`monitor.thresholds.centre`) sees what came in, not
what was made of it. **The gate** is that of tracking: windows while over 25 % of the last 40 are over the limit, an
ANOMALY stands or a SENSOR_FAULT is open teach nothing, and an epoch of which less than half teaches is left out.

**Why epochs.** This is the only feedback from scores to what is scored. It acts where an asset's slots pass from one
epoch (`epoch` slots, counted from 1970) to the next, from an epoch that was over one whole epoch before, and the fold
scores no two epochs of an asset in one pass: so no cut of the stream, neighbour or restart changes a bit of it.

Sums are integers (2^-16 sigma), as in the CUSUM. Shape letters: n windows or assets of one step, D sensors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.settings import SCORED_ROLES, AssetClass, Sensor
from monitor.settings import Recentring as Settings
from monitor.table import Table
from monitor.thresholds.adaptation_events import Recentred

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Rows = NDArray[np.integer[Any]]

MOST = 2.0
"""No offset goes further, in sigma, whatever the settings say."""
TOLD = 1.0
"""Beyond this a DRIFT names the sensor."""
_STILL = 0.25
"""Differences under this are left alone, in sigma."""
_UNIT = 1 << 16
_CUT = 32.0
_NEVER = np.iinfo(np.int64).min // 2
_ROLES = SCORED_ROLES - {"output"}


def refusal(sensor: Sensor, others: list[Sensor]) -> str:
    """Why this sensor may not be re-centred; '' if it may.

    Args:
        sensor: one with `recentre`.
        others: the other sensors of its class.
    """
    if sensor.role not in _ROLES:
        return f"re-centring a sensor of role {sensor.role}"
    if sensor.role != "ambient" and any(o.role == "setpoint" and o.unit == sensor.unit for o in others):
        return f"re-centring a {sensor.role} beside a set-point in {sensor.unit}: it may be controlled"
    return ""


def recentred(asset_class: AssetClass, names: tuple[str, ...]) -> Bools:
    """Which of the scored sensors [D] are re-centred."""
    sensors = asset_class.sensors
    others = {name: [each for other, each in sensors.items() if other != name] for name in names}
    return np.array([sensors[n].recentre and not refusal(sensors[n], others[n]) for n in names], np.bool_)


class Epoch(NamedTuple):
    """An asset's change of epoch.

    Attributes:
        row: the asset.
        slot: index of its first slot in the pass.
        end_ns: that slot's end.
    """

    row: int
    slot: int
    end_ns: int


class Recentring:
    """Offsets of the sensors of many assets.

    Args:
        settings: epoch, rate and cap.
        chosen: [D] sensors that are re-centred.
        names: [D] of the sensors.
        windows: windows of an epoch.
    """

    def __init__(self, settings: Settings, chosen: Bools, names: tuple[str, ...], windows: float) -> None:
        self.on = bool(chosen.any())
        self.epoch = settings.epoch
        self._rate, self._most = settings.rate, min(settings.max_total, MOST)
        self._chosen, self._names = chosen, names
        self._least = windows / 2.0
        width = (len(chosen),)
        self._table = Table(
            [
                ("epoch", np.int64, ()),
                ("offset", np.float32, width),
                ("sum", np.int64, (2, *width)),
                ("count", np.int64, (2, *width)),
                ("told", np.bool_, width),
            ],
            {"epoch": _NEVER},
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

    def passes(self, row: NDArray[np.int32], slot: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the pass [M] that each slot belongs to: an asset's epochs come one after the other.

        Args:
            row: [M] assets, sorted.
            slot: [M] slot numbers, rising within an asset.
        """
        if not self.on or not len(row):
            return np.zeros(len(row), np.int64)
        epoch = slot // self.epoch
        same = row[1:] == row[:-1]
        turns = np.concatenate([[0], np.cumsum(same & (epoch[1:] != epoch[:-1]))])
        first = np.concatenate([[True], ~same])
        return turns - np.maximum.accumulate(np.where(first, turns, 0))

    def offsets(self, rows: Rows) -> Floats:
        """Offsets in force [n, D], in sigma."""
        return self._table["offset"][rows]

    def told(self, row: NDArray[np.int32]) -> tuple[Bools, Bools]:
        """Where sensors are followed so far that a DRIFT names them [M, D], and where [M] that has changed.

        Args:
            row: [M] assets, sorted: the slots of a pass.
        """
        table = self._table
        far = np.abs(table["offset"][row]) > TOLD
        first = np.concatenate([[True], row[1:] != row[:-1]])
        turned = first & (far != table["told"][row]).any(axis=1)
        table["told"][row[first]] = far[first]
        return far, turned

    def begin(
        self, row: NDArray[np.int32], slot: NDArray[np.int64], end_ns: NDArray[np.int64]
    ) -> list[tuple[Recentred, int]]:
        """A pass over slots [M] of one epoch per asset begins: offsets that move, with the slot's index."""
        if not self.on or not len(row):
            return []
        events, table = list[tuple[Recentred, int]](), self._table
        firsts = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
        epoch = slot[firsts] // self.epoch
        for at in np.flatnonzero(epoch != table["epoch"][row[firsts]]).tolist():
            first = int(firsts[at])
            moved = self._turn(Epoch(int(row[first]), first, int(end_ns[first])), int(epoch[at]))
            events += [(event, first) for event in moved]
        return events

    def learn(self, rows: Rows, z: Floats, usable: Bools) -> None:
        """Windows that may teach: one of each of n assets, its last z-scores [n, D] before re-centring."""
        if not self.on or not len(rows):
            return
        steps = np.rint(np.clip(np.where(usable, z, np.float32(0)), -_CUT, _CUT).astype(np.float64) * _UNIT)
        self._table["sum"][rows, 1] += steps.astype(np.int64)
        self._table["count"][rows, 1] += usable

    def _turn(self, turn: Epoch, epoch: int) -> list[Recentred]:
        """From one epoch to another: what lies one whole epoch back acts, the last one waits."""
        table, row = self._table, turn.row
        before = table["offset"][row].copy()
        was = int(table["epoch"][row])
        self._follow(row, 0)
        if epoch > was + 1:
            self._follow(row, 1)
            table["sum"][row, 1], table["count"][row, 1] = 0, 0
        table["sum"][row, 0], table["count"][row, 0] = table["sum"][row, 1], table["count"][row, 1]
        table["sum"][row, 1], table["count"][row, 1] = 0, 0
        table["epoch"][row] = epoch
        after = table["offset"][row]
        moved = {self._names[d]: (float(before[d]), float(after[d])) for d in np.flatnonzero(after != before)}
        return [Recentred(row, turn.end_ns, moved)] if moved else []

    def _follow(self, row: int, which: int) -> None:
        """Offsets move by a share of what an epoch's mean is away from them."""
        table = self._table
        count, offset = table["count"][row, which], table["offset"][row].astype(np.float64)
        mean = table["sum"][row, which] / np.maximum(count, 1) / _UNIT
        away = mean - offset
        moves = self._chosen & (count >= self._least) & (np.abs(away) >= _STILL)
        wanted = np.clip(offset + self._rate * away, -self._most, self._most)
        table["offset"][row] = np.where(moves, wanted, offset)
