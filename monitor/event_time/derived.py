"""Sensors that nuwatch computes itself: the time since a batch or phase began."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectors.records import Quality
from monitor.event_time.batches import Runs
from monitor.settings import AssetClass

_UNIT_NS = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}


class Derived:
    """Fills the columns of derived sensors where messages do not carry them.

    Raises:
        ValueError: a derived sensor has a unit that is no unit of time.
    """

    def __init__(self, asset_class: AssetClass) -> None:
        self._sampling = int(asset_class.sampling)
        self._columns = [
            (column, sensor.derive == "time_since_phase_start", _unit_ns(name, sensor.unit))
            for column, (name, sensor) in enumerate(asset_class.sensors.items())
            if sensor.derive
        ]

    def fill(
        self,
        values: NDArray[np.float64],
        real: NDArray[np.float32],
        quality: NDArray[np.uint8],
        slot: NDArray[np.int64],
        runs: Runs,
    ) -> None:
        """Set value and weight, in place, where a derived sensor has no reading and nothing is carried."""
        for column, of_phase, unit in self._columns:
            start = runs.phase_start if of_phase else runs.batch_start
            missing = np.isnan(values[:, column]) & (quality[:, column] == Quality.ABSENT) & (start >= 0)
            values[missing, column] = ((slot - start) * self._sampling / unit)[missing]
            real[missing, column] = 1.0


def _unit_ns(name: str, unit: str) -> int:
    if unit not in _UNIT_NS:
        raise ValueError(
            f"sensor {name!r} is derived as a time: expected a unit of {', '.join(_UNIT_NS)}, got {unit!r}"
        )
    return _UNIT_NS[unit]
