"""What a sensor's value is in a slot without a reading: carried forward for a while, then masked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import Quality
from monitor.event_time.segments import Positions, ends_of, latest_true
from monitor.settings import AssetClass
from monitor.table import Table

_UNLIMITED = 2**62
_WEIGHT = np.zeros(len(Quality), np.float32)
_WEIGHT[Quality.GOOD], _WEIGHT[Quality.UNCERTAIN] = 1.0, 0.5


class Spread(NamedTuple):
    """Readings at M slots.

    Attributes:
        values: [M, D] float64.
        quality: [M, D] uint8; ABSENT where a slot has no reading.
        time: [M, D] int64, ns of the reading.
    """

    values: NDArray[np.float64]
    quality: NDArray[np.uint8]
    time: NDArray[np.int64]


class Carried(NamedTuple):
    """M slots.

    Attributes:
        values: [M, D] float64, NaN where masked.
        real: [M, D] float32, weights of real readings.
    """

    values: NDArray[np.float64]
    real: NDArray[np.float32]


class Carry:
    """Remembers every sensor's latest reading.

    A reading that may not be used ends what is carried: the sensor itself has said that it does not know. A
    sensor that reports on change holds its value, as real as when it came, for its heartbeat; without a
    heartbeat for as long as its asset goes on.
    """

    def __init__(self, asset_class: AssetClass) -> None:
        sensors = asset_class.sensors.values()
        limits = [
            asset_class.time.max_age if sensor.reporting == "periodic" else sensor.heartbeat or _UNLIMITED
            for sensor in sensors
        ]
        self._limit = np.array(limits, np.int64)
        self._on_change = np.array([sensor.reporting == "on_change" for sensor in sensors])
        self._unlimited = self._limit == _UNLIMITED
        shape = (len(limits),)
        self.table = Table(
            [("value", np.float64, shape), ("time", np.int64, shape), ("weight", np.float32, shape)]
        )

    def fill(
        self,
        assets: NDArray[np.int32],
        starts: Positions,
        segment: Positions,
        end: NDArray[np.int64],
        readings: Spread,
        after_gap: NDArray[np.bool_],
    ) -> Carried:
        """Values and weights of closed slots, sorted by (asset, slot).

        Args:
            assets: [A] rows of the assets that have slots.
            starts: [A] their first slots.
            segment: [M] the number of each slot's asset in ``assets``.
            end: [M] ns.
            readings: of these slots.
            after_gap: [M] True where slots were skipped before this one.
        """
        values, quality, time = readings
        weight = _WEIGHT[quality]
        has = quality != Quality.ABSENT
        if has.all():
            self._remember(assets, values, time, weight, ends_of(starts, len(end)))
            return Carried(np.where(weight > 0, values, np.nan), weight)
        first = starts[segment]
        latest = latest_true(has, first)
        source = np.where(latest < 0, segment[:, None], latest + len(assets))
        value = self._traced("value", assets, values, source)
        read_at = self._traced("time", assets, time, source)
        held_weight = self._traced("weight", assets, weight, source)
        gap = latest_true(after_gap, first)[:, None]
        held_weight = np.where(self._unlimited & (latest < gap), np.float32(0), held_weight)
        self._remember(assets, value, read_at, held_weight, ends_of(starts, len(end)))
        valid = (held_weight > 0) & (has | (end[:, None] - read_at <= self._limit))
        return Carried(
            np.where(valid, value, np.nan),
            np.where(valid & (has | self._on_change), held_weight, np.float32(0)),
        )

    def _traced(
        self, field: str, assets: NDArray[np.int32], column: NDArray[Any], source: Positions
    ) -> NDArray[Any]:
        """What a field was where each slot has its value from: [A] remembered rows, then [M] slots."""
        return np.take_along_axis(np.concatenate([self.table[field][assets], column]), source, 0)

    def _remember(
        self,
        assets: NDArray[np.int32],
        value: NDArray[np.float64],
        time: NDArray[np.int64],
        weight: NDArray[np.float32],
        last: Positions,
    ) -> None:
        self.table["value"][assets] = value[last]
        self.table["time"][assets] = time[last]
        self.table["weight"][assets] = weight[last]
