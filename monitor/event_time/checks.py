"""Sensor checks: is a sensor itself at fault? Judged apart from the process, before any model sees a value.

Report by exception is not a stuck sensor, and the silence of a whole asset is not a dead one.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import Quality
from monitor.event_time.grid import Slots
from monitor.event_time.readings import usable
from monitor.event_time.segments import Positions, ends_of, latest_true, numbers_of, shifted, starts_of
from monitor.settings import SCORED_ROLES, AssetClass, Sensor
from monitor.table import Table

NEVER = 2**62
"""A number of slots or readings that is never reached: the check does not apply."""


class Fault(IntEnum):
    """What is wrong with a sensor; bounded, for metrics and messages."""

    NONE = 0
    OUT_OF_RANGE = 1
    NON_FINITE = 2
    BAD_QUALITY = 3
    STUCK = 4
    DEAD = 5


_OF_QUALITY = np.zeros(len(Quality), np.uint8)
_OF_QUALITY[Quality.OUT_OF_RANGE] = Fault.OUT_OF_RANGE
_OF_QUALITY[Quality.NON_FINITE] = Fault.NON_FINITE
_OF_QUALITY[Quality.BAD] = Fault.BAD_QUALITY


class Faults(NamedTuple):
    """``code`` [M, D] uint8: the `Fault` of every sensor in every slot; see `untrusted`."""

    code: NDArray[np.uint8]


_STANDSTILL = 1 / 3


def untrusted(code: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which readings no model may see, [M, D] of the codes of all of an asset's sensors [M, D].

    All faulty ones, with one exception: where over a third of the sensors are STUCK at once, the process stands
    still, or what is between it and us has frozen. Each is still told as a fault, but what they show is judged:
    masked, they would leave too little to score just when a plant has tripped.
    """
    stuck = code == Fault.STUCK
    standstill = stuck.sum(axis=1, keepdims=True) > _STANDSTILL * code.shape[1]
    return (code != Fault.NONE) & ~(stuck & standstill)


class _Block(NamedTuple):
    """Slots of one step with what all checks need.

    Attributes:
        slots: M slots.
        assets: [A] rows.
        starts: [A] first position of each asset.
        segment: [M] the number of each slot's asset.
        first: [M] the first position of each slot's asset.
        has: [M, D] there is a reading, of whatever quality.
    """

    slots: Slots
    assets: NDArray[np.int32]
    starts: Positions
    segment: Positions
    first: Positions
    has: NDArray[np.bool_]


class SensorChecks:
    """Faults of the sensors of one asset class.

    - A reading of bad quality, out of range or not finite is a fault until another reading comes.
    - STUCK: a periodic, scored sensor has not moved by more than its deadband in ``stuck_slots`` readings.
    - DEAD: a sensor has had no reading for `dead_after` while its asset went on reporting; a pause of the
      whole asset for over half of that starts the count anew.
    - DEAD goes before the quality of the last reading, and that before STUCK.

    Args:
        asset_class: sensors and sampling.
        stuck_slots: [D] int64, see `stuck_slots`; `NEVER` switches a sensor's check off.
    """

    def __init__(self, asset_class: AssetClass, stuck_slots: NDArray[np.int64]) -> None:
        sensors = list(asset_class.sensors.values())
        self._stuck_slots = np.where([_can_stick(sensor) for sensor in sensors], stuck_slots, NEVER)
        self._deadband = np.array([sensor.deadband for sensor in sensors])
        self._dead_slots = np.array([_dead_slots(sensor, int(asset_class.sampling)) for sensor in sensors])
        self._sent = np.array([sensor.derive is None for sensor in sensors])
        shape = (len(sensors),)
        self._table = Table(
            [
                ("fault", np.uint8, shape),
                ("reference", np.float64, shape),
                ("still", np.int64, shape),
                ("heard", np.int64, shape),
                ("dead", np.bool_, shape),
                ("alive", np.int64, ()),
            ],
            {"reference": np.nan, "heard": -NEVER, "alive": -NEVER},
        )

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """The state of one asset."""
        return self._table.dump(row)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave.

        Raises:
            ValueError: the bytes are of another layout.
        """
        self._table.load(row, data)

    def step(self, slots: Slots) -> Faults:
        """Judge the next slots, sorted by (row, slot)."""
        if not len(slots.row):
            return Faults(np.zeros(slots.quality.shape, np.uint8))
        starts = starts_of(slots.row)
        segment = numbers_of(starts, len(slots.row))
        has = slots.quality != Quality.ABSENT
        block = _Block(slots, slots.row[starts], starts, segment, starts[segment], has)
        of_quality = self._of_quality(block)
        stuck = np.where(self._stuck(block), np.uint8(Fault.STUCK), np.uint8(Fault.NONE))
        dead = self._dead(block)
        return Faults(np.where(dead, np.uint8(Fault.DEAD), np.where(of_quality > 0, of_quality, stuck)))

    def _of_quality(self, block: _Block) -> NDArray[np.uint8]:
        """[M, D] the fault of each sensor's latest reading; of a derived sensor only while it is sent."""
        latest = latest_true(block.has, block.first)
        own = np.take_along_axis(_OF_QUALITY[block.slots.quality], np.maximum(latest, 0), 0)
        fault = np.where(latest < 0, self._table["fault"][block.assets][block.segment], own)
        fault = np.where(block.has | self._sent, fault, np.uint8(Fault.NONE))
        self._table["fault"][block.assets] = fault[ends_of(block.starts, len(fault))]
        return fault

    def _stuck(self, block: _Block) -> NDArray[np.bool_]:
        """[M, D] no movement during the last ``stuck_slots`` readings."""
        real = block.has & usable(block.slots.quality)
        moved = self._moved(block, real)
        readings = np.cumsum(real, axis=0)
        since = latest_true(moved, block.first)
        before = (readings - real)[block.first] - self._table["still"][block.assets][block.segment]
        still = readings - np.where(since < 0, before, np.take_along_axis(readings, np.maximum(since, 0), 0))
        self._table["still"][block.assets] = still[ends_of(block.starts, len(still))]
        return still >= self._stuck_slots

    def _moved(self, block: _Block, real: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """[M, D] the reading is further than the deadband from where the sensor last moved to.

        Where it moved to depends on all readings before: slots are taken one after the other, of all assets
        at once if these are many, else of one sensor at a time.
        """
        lengths = np.diff(block.starts, append=len(real))
        reference = self._table["reference"][block.assets]
        walk = movements_by_sensor if lengths.max() > len(lengths) else movements_by_step
        moved = walk(block.slots.values, real, block.starts, reference, self._deadband)
        self._table["reference"][block.assets] = reference
        return moved

    def _dead(self, block: _Block) -> NDArray[np.bool_]:
        """[M, D] not heard for too long, not counting long pauses of the whole asset."""
        slot = block.slots.slot[:, None]
        alive: NDArray[np.bool_] = np.any(block.has & self._sent, axis=1)
        known = self._table["alive"][block.assets]
        latest = latest_true(alive, block.first)
        alive_at = np.where(latest < 0, known[block.segment], block.slots.slot[latest])
        pause = block.slots.slot - shifted(alive_at, block.starts, known)
        resumed = alive[:, None] & (pause[:, None] > self._dead_slots // 2)
        heard = np.where(block.has, slot, slot - 1)
        event = latest_true(block.has | resumed, block.first)
        remembered = self._table["heard"][block.assets][block.segment]
        heard = np.where(event < 0, remembered, np.take_along_axis(heard, np.maximum(event, 0), 0))
        due = alive[:, None] & (slot - heard >= self._dead_slots)
        last_due, last_reading = latest_true(due, block.first), latest_true(block.has, block.first)
        was_dead = self._table["dead"][block.assets][block.segment] & (last_reading < 0)
        dead = (last_due > last_reading) | was_dead
        last = ends_of(block.starts, len(dead))
        self._table["heard"][block.assets] = heard[last]
        self._table["dead"][block.assets] = dead[last]
        self._table["alive"][block.assets] = alive_at[last]
        return dead


def movements_by_step(
    values: NDArray[np.float64],
    real: NDArray[np.bool_],
    starts: Positions,
    reference: NDArray[np.float64],
    deadband: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """[M, D] where a reading is a movement; a NumPy call per step, for many assets with few slots each.

    Args:
        values: [M, D] in segments, one per asset.
        real: [M, D] where there is a reading.
        starts: [A] the segments' first positions.
        reference: [A, D] where each sensor last moved to, NaN if it never did; brought up to date in place.
        deadband: [D] changes up to this size are no movement.
    """
    moved = np.zeros(real.shape, np.bool_)
    lengths = np.diff(starts, append=len(real))
    order = np.argsort(-lengths, kind="stable")  # assets that are done form the tail
    waiting, current = -lengths[order], reference[order]
    for step in range(int(lengths.max())):
        active = int(np.searchsorted(waiting, -step))
        at = starts[order[:active]] + step
        moves = ~(np.abs(values[at] - current[:active]) <= deadband) & real[at]
        np.copyto(current[:active], values[at], where=moves)
        moved[at] = moves
    reference[order] = current
    return moved


def movements_by_sensor(
    values: NDArray[np.float64],
    real: NDArray[np.bool_],
    starts: Positions,
    reference: NDArray[np.float64],
    deadband: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """The same as `movements_by_step`; plain floats, for few assets with many slots each."""
    moved = np.zeros(real.shape, np.bool_)
    ends = np.append(starts, len(real))
    for asset, column in np.ndindex(reference.shape):
        at = ends[asset] + np.flatnonzero(real[ends[asset] : ends[asset + 1], column])
        last, band = float(reference[asset, column]), float(deadband[column])
        moves = list[bool]()
        for value in values[at, column].tolist():
            moves.append(not abs(value - last) <= band)  # also from NaN, the first time
            if moves[-1]:
                last = value
        moved[at, column] = moves
        reference[asset, column] = last
    return moved


def stuck_slots(asset_class: AssetClass, learnt: NDArray[np.int64]) -> NDArray[np.int64]:
    """[D] readings without movement that make a sensor STUCK: `stuck_after` where it is set, else as learnt.

    Args:
        asset_class: sensors and sampling.
        learnt: [D] from `normal_stuck_slots`.
    """
    sampling = int(asset_class.sampling)
    told = [sensor.stuck_after for sensor in asset_class.sensors.values()]
    return np.array(
        [
            own if after is None else max(1, -(-after // sampling))
            for own, after in zip(learnt.tolist(), told, strict=True)
        ],
        np.int64,
    )


def normal_stuck_slots(
    runs: Sequence[NDArray[np.float64]],
    deadband: NDArray[np.float64],
    margin: float = 3.0,
    at_least: int = 30,
) -> NDArray[np.int64]:
    """[D] how many readings without movement are more than normal history ever had, by a margin.

    Args:
        runs: values [N, D] of stretches of normal history, each of one asset; NaN where there is no reading.
        deadband: [D] changes up to this size are no movement.
        margin: factor over the longest normal run.
        at_least: the smallest limit.
    """
    longest = np.zeros(len(deadband), np.int64)
    for values in runs:
        if len(values):
            longest = np.maximum(longest, _longest_stillness(values, deadband))
    return np.maximum(np.ceil(longest * margin), at_least).astype(np.int64)


def _longest_stillness(values: NDArray[np.float64], deadband: NDArray[np.float64]) -> NDArray[np.int64]:
    """[D] the most readings in a row without movement."""
    real, first = np.isfinite(values), np.zeros(1, np.intp)
    nowhere = np.full((1, values.shape[1]), np.nan)
    moved = movements_by_sensor(values, real, first, nowhere, deadband)
    readings = np.cumsum(real, axis=0)
    since = latest_true(moved, np.zeros(len(values), np.intp))
    still = np.where(since < 0, 0, readings - np.take_along_axis(readings, np.maximum(since, 0), 0))
    return still.max(axis=0)


def _can_stick(sensor: Sensor) -> bool:
    return sensor.reporting == "periodic" and sensor.role in SCORED_ROLES and sensor.derive is None


def _dead_slots(sensor: Sensor, sampling: int) -> int:
    """Slots without a reading after which a sensor is dead.

    Laboratory values come when they come, and report by exception without a heartbeat promises nothing: they
    are judged only by a `dead_after` of their own.
    """
    if sensor.derive is not None:
        return NEVER
    if sensor.dead_after is not None:
        return max(1, -(-sensor.dead_after // sampling))
    if sensor.reporting == "on_change":
        return NEVER if sensor.heartbeat is None else max(1, -(-3 * sensor.heartbeat // sampling))
    return NEVER if sensor.role == "lab" else 10
