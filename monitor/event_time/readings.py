"""From accepted rows to one reading per slot and sensor: duplicates, conflicts and aggregation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import Quality
from monitor.event_time.segments import Positions, numbers_of, starts_of


class Rows(NamedTuple):
    """P accepted rows, those of one asset in the order in which they came.

    Attributes:
        row: [P] int32, the asset's row in the state tables.
        time: [P] int64, ns.
        values: [P, D] float64.
        quality: [P, D] uint8, codes of `Quality`, the range check included.
        context: [P] int32, interned batch context.
    """

    row: NDArray[np.int32]
    time: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]
    context: NDArray[np.int32]

    def at(self, which: NDArray[Any] | slice) -> Rows:
        """Some of the rows, by mask, positions or slice."""
        return Rows(
            self.row[which], self.time[which], self.values[which], self.quality[which], self.context[which]
        )

    @staticmethod
    def none(sensors: int) -> Rows:
        """No rows of ``sensors`` sensors."""
        return Rows(
            np.zeros(0, np.int32),
            np.zeros(0, np.int64),
            np.zeros((0, sensors)),
            np.zeros((0, sensors), np.uint8),
            np.zeros(0, np.int32),
        )

    @staticmethod
    def joined(parts: Sequence[Rows]) -> Rows:
        """Rows of several parts, one after the other."""
        parts = [part for part in parts if len(part.row)] or list(parts[:1])
        return parts[0] if len(parts) == 1 else Rows(*map(np.concatenate, zip(*parts, strict=True)))


class Readings(NamedTuple):
    """What G slots with rows amount to, sorted by (row, slot).

    Attributes:
        row: [G] int32.
        slot: [G] int64.
        values: [G, D] float64, aggregated.
        quality: [G, D] uint8 of the reading that was chosen; ABSENT without one.
        time: [G, D] int64 ns of that reading.
        context: [G] int32, of the newest row that carries one; 0 without.
        duplicates: readings that repeat a (asset, sensor, time) with the same value and quality.
        conflicts: readings that contradict the first one of their (asset, sensor, time).
    """

    row: NDArray[np.int32]
    slot: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]
    time: NDArray[np.int64]
    context: NDArray[np.int32]
    duplicates: int
    conflicts: int


def usable(quality: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where there is a reading that may be used."""
    return (quality == Quality.GOOD) | (quality == Quality.UNCERTAIN)


def collect(rows: Rows, sampling: int, mean: Sequence[int], largest: Sequence[int]) -> Readings:
    """One reading per slot and sensor.

    The newest reading of a slot is its value, the first to come on ties. Sensors that average or take the
    largest do so over the slot's distinct usable readings, in order of time, so that no bit depends on the
    order of arrival; their quality is the worst of these.

    Args:
        rows: rows of closing slots.
        sampling: the grid's period in ns.
        mean: columns that aggregate by mean.
        largest: columns that aggregate by maximum.
    """
    if not len(rows.row):
        return _no_readings(rows)
    rows = _in_time_order(rows)
    slot = -(-rows.time // sampling)
    starts = starts_of(rows.row, slot)
    present = rows.quality != Quality.ABSENT
    with_context = rows.context != 0
    duplicates = conflicts = 0
    runs = starts_of(rows.row, rows.time)
    if len(runs) < len(rows.time):
        first = _first_of_run(present, runs)
        duplicates, conflicts = _repeats(rows, present & (first != np.arange(len(present))[:, None]), first)
        present = first == np.arange(len(present))[:, None]
        with_context = _first_of_run(with_context[:, None], runs)[:, 0] == np.arange(len(with_context))
    chosen = _newest(present, starts)
    chosen_context = _newest(with_context[:, None], starts)[:, 0]
    readings = Readings(
        row=rows.row[starts],
        slot=slot[starts],
        values=np.where(chosen < 0, np.nan, np.take_along_axis(rows.values, chosen, 0)),
        quality=np.where(chosen < 0, np.uint8(Quality.ABSENT), np.take_along_axis(rows.quality, chosen, 0)),
        time=rows.time[chosen],
        context=np.where(chosen_context < 0, np.int32(0), rows.context[chosen_context]),
        duplicates=duplicates,
        conflicts=conflicts,
    )
    distinct = present & usable(rows.quality)
    for column in mean:
        _aggregate(readings, column, rows, distinct[:, column], starts, _mean)
    for column in largest:
        _aggregate(readings, column, rows, distinct[:, column], starts, _largest)
    return readings


def pack(rows: Rows) -> list[bytes]:
    """The columns of one asset's rows as bytes, less the row number."""
    return [column.tobytes() for column in rows[1:]]


def unpack(packed: Sequence[bytes], row: int, sensors: int, contexts: NDArray[np.int32]) -> Rows:
    """What `pack` gave, as rows of state row ``row``; their contexts are looked up in ``contexts``."""
    time, values, quality, context = packed
    return Rows(
        np.full(len(time) // 8, row, np.int32),
        np.frombuffer(time, np.int64),
        np.frombuffer(values).reshape(-1, sensors),
        np.frombuffer(quality, np.uint8).reshape(-1, sensors),
        contexts[np.frombuffer(context, np.int32)],
    )


def _no_readings(rows: Rows) -> Readings:
    return Readings(
        row=rows.row,
        slot=rows.time,
        values=rows.values,
        quality=rows.quality,
        time=np.zeros(rows.values.shape, np.int64),
        context=rows.context,
        duplicates=0,
        conflicts=0,
    )


def _in_time_order(rows: Rows) -> Rows:
    """Rows sorted by (asset, time), in order of arrival on ties."""
    behind = (rows.row[1:] < rows.row[:-1]) | (
        (rows.row[1:] == rows.row[:-1]) & (rows.time[1:] < rows.time[:-1])
    )
    return rows.at(np.lexsort((rows.time, rows.row))) if behind.any() else rows


def _first_of_run(present: NDArray[np.bool_], runs: Positions) -> Positions:
    """[P, D] position of the first row with a reading among the rows of the same asset and time."""
    total = len(present)
    candidates = np.where(present, np.arange(total)[:, None], total)
    return np.minimum.reduceat(candidates, runs, axis=0)[numbers_of(runs, total)]


def _repeats(rows: Rows, repeated: NDArray[np.bool_], first: Positions) -> tuple[int, int]:
    """How many repeated readings say the same as the first one, and how many do not."""
    at, column = np.nonzero(repeated)
    original = first[at, column]
    value, other = rows.values[at, column], rows.values[original, column]
    same = (value == other) | (np.isnan(value) & np.isnan(other))
    same &= rows.quality[at, column] == rows.quality[original, column]
    return int(same.sum()), int((~same).sum())


def _newest(present: NDArray[np.bool_], starts: Positions) -> Positions:
    """[G, D] position of the last row of each group that has a reading, -1 without one."""
    positions = np.where(present, np.arange(len(present))[:, None], -1)
    return positions if len(starts) == len(present) else np.maximum.reduceat(positions, starts, axis=0)


def _aggregate(
    readings: Readings, column: int, rows: Rows, distinct: NDArray[np.bool_], starts: Positions, how: Any
) -> None:
    """Replace one sensor's newest readings by aggregates, in the slots that have anything to aggregate."""
    total = len(starts)
    at = np.flatnonzero(distinct)
    group = numbers_of(starts, len(distinct))[at]
    some = np.bincount(group, minlength=total) > 0
    readings.values[some, column] = how(rows.values[at, column], group, total)[some]
    worst = np.zeros(total, np.uint8)
    np.maximum.at(worst, group, rows.quality[at, column])
    overflowed = ~np.isfinite(readings.values[:, column])
    readings.quality[some, column] = np.where(overflowed, Quality.NON_FINITE, worst)[some]
    newest = np.full(total, rows.time.min())
    np.maximum.at(newest, group, rows.time[at])
    readings.time[some, column] = newest[some]


def _mean(values: NDArray[np.float64], group: Positions, total: int) -> NDArray[np.float64]:
    count = np.bincount(group, minlength=total)
    return np.bincount(group, weights=values, minlength=total) / np.maximum(count, 1)


def _largest(values: NDArray[np.float64], group: Positions, total: int) -> NDArray[np.float64]:
    largest = np.full(total, -np.inf)
    np.maximum.at(largest, group, values)
    return largest + 0.0  # -0.0 and 0.0 are one number: which of them came is no matter of order
