"""The event-time grid: rows of any asset, in any cut, become closed slots on the sampling grid.

Slot k covers (t_k - sampling, t_k] with t_k = k * sampling ns since the epoch. Everything is a function of
one asset's own rows in their order of arrival: neither the cut of the stream into pushes nor any other asset
changes a bit of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.records import Batch, Context, Quality, Reason
from monitor.event_time.admission import UNSEEN, Admission, Admitted, Arrivals
from monitor.event_time.batches import Batches
from monitor.event_time.carry import Carry, Spread
from monitor.event_time.contexts import Contexts
from monitor.event_time.derived import Derived
from monitor.event_time.gaps import Gaps
from monitor.event_time.readings import Readings, Rows, collect, pack, unpack, usable
from monitor.event_time.refusals import Frames, Refusal
from monitor.event_time.segments import Positions, first_reaching, numbers_of, starts_of
from monitor.event_time.watermark import Progress, Watermark
from monitor.quantities import Duration, iso_time
from monitor.settings import AssetClass

_FEW_CONTEXTS = 1024


class Slots(NamedTuple):
    """M closed slots, sorted by (row, slot).

    Attributes:
        row: [M] int32, the asset's row in the state tables.
        slot: [M] int64, the absolute number k.
        end: [M] int64, t_k in ns since the epoch.
        values: [M, D] float64, aggregated and carried forward; NaN where masked.
        real: [M, D] float32, weight of a real reading: 1 GOOD, 0.5 UNCERTAIN, 0 carried or masked.
        quality: [M, D] uint8, of the reading that was chosen; ABSENT without one in this very slot.
        context: [M] int32, index into the result's ``contexts``.
        batch_start: [M] int64, the slot with which this batch began, -1 outside batches.
        phase_start: [M] int64, likewise of the phase.
        fresh: [M] bool, True where windows must start anew.
        offset: [M] int64, position of the record that closed the slot.
    """

    row: NDArray[np.int32]
    slot: NDArray[np.int64]
    end: NDArray[np.int64]
    values: NDArray[np.float64]
    real: NDArray[np.float32]
    quality: NDArray[np.uint8]
    context: NDArray[np.int32]
    batch_start: NDArray[np.int64]
    phase_start: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    offset: NDArray[np.int64]


class Silence(NamedTuple):
    """An asset was silent between its highest accepted time, ``last``, and the next one, ``at`` (ns)."""

    row: int
    last: int
    at: int


class GridResult(NamedTuple):
    """What one push brought.

    Attributes:
        slots: the slots that closed.
        refused: rows that are in no slot, in the order in which that was decided.
        silences: gaps in assets' streams, in order of the rows that ended them.
        counts: LATE, FUTURE_TIME, CROWDED and HELD rows, DUPLICATE and CONFLICT readings; the latter two are counted
            when their slot closes.
        contexts: what ``slots.context`` points to. Indices do not outlive the result that they came with.
        advanced: the assets [n] whose highest accepted time rose, and the first time [n] that rose over it, ns.
    """

    slots: Slots
    refused: tuple[Refusal, ...]
    silences: tuple[Silence, ...]
    counts: dict[str, int]
    contexts: Sequence[Context]
    advanced: tuple[NDArray[np.int32], NDArray[np.int64]]


class Grid:
    """Slots of all assets of one class on one partition.

    Args:
        asset_class: sensors and event-time settings.

    Raises:
        ValueError: a derived sensor has a unit that is no unit of time.
    """

    def __init__(self, asset_class: AssetClass) -> None:
        sensors = list(asset_class.sensors.values())
        self._sensors = len(sensors)
        self._sampling = int(asset_class.sampling)
        self._settings = asset_class.time
        self._low = np.array([sensor.range[0] if sensor.range else -np.inf for sensor in sensors])
        self._high = np.array([sensor.range[1] if sensor.range else np.inf for sensor in sensors])
        self._mean = [column for column, sensor in enumerate(sensors) if sensor.aggregate == "mean"]
        self._max = [column for column, sensor in enumerate(sensors) if sensor.aggregate == "max"]
        self._frames = Frames(asset_class)
        self._derived = Derived(asset_class)
        self._contexts = Contexts(self._sampling)
        self._context_limit = _FEW_CONTEXTS
        self._admission = Admission(self._sensors, asset_class.time.max_future)
        self._watermark = Watermark(asset_class)
        self._gaps = Gaps(asset_class)
        self._batches = Batches(asset_class)
        self._carry = Carry(asset_class)
        self._tables = (self._watermark.table, self._gaps.table, self._batches.table, self._carry.table)
        self._pending = [Rows.none(self._sensors)]

    @property
    def contexts(self) -> Sequence[Context]:
        """The interned batch contexts."""
        return self._contexts.values

    @property
    def pending_rows(self) -> int:
        """Accepted rows that wait for their slots to close."""
        return sum(len(part.row) for part in self._pending)

    @property
    def pending_bytes(self) -> int:
        """Memory of these rows."""
        return sum(column.nbytes for part in self._pending for column in part)

    def most_pending_bytes(self, assets: int) -> int:
        """Memory that rows of so many assets can take: `slot_rows` in every slot that lateness keeps open."""
        open_ = -(-int(self._settings.lateness) // self._sampling) + 1
        return assets * open_ * self._settings.slot_rows * (16 + 9 * self._sensors)

    def last_accepted(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Highest accepted time of the first ``count`` assets, ns, and whether there is one."""
        highest = self._watermark.table["highest"][:count]
        return highest, highest != UNSEEN

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        for table in (*self._tables, self._admission.table):
            table.grow(capacity)

    def push(self, rows: NDArray[np.int32], batch: Batch) -> GridResult:
        """Take the next rows of the stream.

        Args:
            rows: [N] the state row of each of the batch's rows, below the capacity.
            batch: rows in stream order.
        """
        self._forget_contexts()
        admitted = self._admission.admit(self._arrivals(rows, batch), self._watermark.table["highest"])
        refused = self._ahead(admitted, batch)
        counts = {
            "FUTURE_TIME": len(refused),
            "HELD": admitted.held,
            "LATE": 0,
            "CROWDED": 0,
            "DUPLICATE": 0,
            "CONFLICT": 0,
        }
        accepted = admitted.accepted
        if not len(accepted.batch_row):
            nobody = np.zeros(0, np.int32), np.zeros(0, np.int64)
            return self._result(_no_slots(self._sensors), refused, (), counts, nobody)
        progress = self._watermark.advance(accepted.rows)
        counts["LATE"] = int(progress.late.sum())
        if self._settings.late == "dead_letter":
            refused += self._late(accepted, progress, batch)
        crowded = self._crowded(accepted.rows, progress.late)
        counts["CROWDED"] = int(crowded.sum())
        refused += self._too_many(accepted, crowded, batch)
        readings = self._close(accepted.rows, ~(progress.late | crowded))
        counts["DUPLICATE"], counts["CONFLICT"] = readings.duplicates, readings.conflicts
        slots = self._slots(progress, readings, batch.offset[accepted.cause])
        advanced = _advanced(accepted.rows, progress)
        return self._result(slots, refused, self._silences(accepted, progress), counts, advanced)

    def dump(self, row: int) -> bytes:
        """The whole state of one asset here."""
        pending = Rows.joined(self._pending)
        pending = pending.at(pending.row == row)
        held, offset = self._admission.held(row)
        numbers = [
            int(self._batches.table["context"][row]),
            *pending.context.tolist(),
            *held.context.tolist(),
        ]
        local = {number: place for place, number in enumerate(dict.fromkeys(numbers))}
        places = np.array([local[number] for number in numbers], np.int32)
        split = 1 + len(pending.row)
        return msgspec.msgpack.encode(
            _Saved(
                contexts=[self._contexts.values[number] for number in local],
                tables=[table.dump(row) for table in self._tables],
                pending=pack(pending._replace(context=places[1:split])),
                held=pack(held._replace(context=places[split:])),
                held_offset=offset.tobytes(),
            )
        )

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave, in this or another grid of the same class.

        Raises:
            ValueError: the bytes are of another layout.
        """
        saved = msgspec.msgpack.decode(data, type=_Saved)
        for table, state in zip(self._tables, saved.tables, strict=True):
            table.load(row, state)
        numbers = self._contexts.intern(saved.contexts)
        self._batches.table["context"][row] = numbers[0]
        pending, held = (
            unpack(packed, row, self._sensors, numbers) for packed in (saved.pending, saved.held)
        )
        self._admission.hold(row, held, np.frombuffer(saved.held_offset, np.int64))
        before = Rows.joined(self._pending)  # one part: as many as assets would make a restore quadratic
        others = before.at(before.row != row) if (before.row == row).any() else before
        self._pending = [Rows.joined([others, pending])]

    def _arrivals(self, rows: NDArray[np.int32], batch: Batch) -> Arrivals:
        """The batch's rows, sorted by asset."""
        context = self._contexts.intern(batch.contexts)[batch.context]
        arrived = Rows(rows, batch.time, batch.values, batch.quality, context)
        index = np.arange(len(rows))
        arrivals = Arrivals(arrived, batch.offset, index, index)
        in_order = (rows[1:] >= rows[:-1]).all()
        return arrivals if in_order else arrivals.at(np.argsort(rows, kind="stable"))

    def _crowded(self, accepted: Rows, late: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Rows for which their slot has no room any more.

        A slot fills in the order in which rows come and is emptied as a whole, so this does not depend on how the
        stream is cut.
        """
        room, waiting = self._settings.slot_rows, Rows.joined(self._pending)
        row = np.concatenate([waiting.row, accepted.row])
        if np.bincount(row).max() <= room:
            return np.zeros(len(late), np.bool_)
        slot = -(-np.concatenate([waiting.time, accepted.time]) // self._sampling)
        order = np.lexsort((slot, row))  # stable: in a slot as they came
        taken = np.concatenate([np.ones(len(waiting.row), np.bool_), ~late])[order]
        starts = starts_of(row[order], slot[order])
        before = np.cumsum(taken) - taken
        place = np.empty(len(row), np.int64)
        place[order] = before - before[starts][numbers_of(starts, len(row))]
        return (place[len(waiting.row) :] >= room) & ~late

    def _close(self, accepted: Rows, fits: NDArray[np.bool_]) -> Readings:
        """Readings of the slots that are closed now; the other rows stay pending."""
        taken = accepted if fits.all() else accepted.at(fits)
        taken = taken._replace(quality=self._checked(taken.values, taken.quality))
        rows = Rows.joined([*self._pending, taken])
        closing = rows.time <= self._watermark.table["closed"][rows.row] * self._sampling
        if closing.all():
            self._pending = [Rows.none(self._sensors)]
        else:
            self._pending = [rows.at(~closing)]
            rows = rows.at(closing)
        return collect(rows, self._sampling, self._mean, self._max)

    def _checked(self, values: NDArray[np.float64], quality: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Quality with the engineering range, whose boundaries are inside, and with finiteness."""
        inside = (values >= self._low) & (values <= self._high) & (np.abs(values) < np.inf)
        if inside.all():
            return quality
        refused = usable(quality) & ~inside
        broken = np.where(np.isfinite(values), Quality.OUT_OF_RANGE, Quality.NON_FINITE).astype(np.uint8)
        return np.where(refused, broken, quality)

    def _slots(self, progress: Progress, readings: Readings, closer: NDArray[np.int64]) -> Slots:
        emitted = self._gaps.lay_out(progress, readings)
        if not len(emitted.slot):
            return _no_slots(self._sensors)
        starts = starts_of(emitted.segment)
        assets = progress.assets[emitted.segment[starts]]
        segment = numbers_of(starts, len(emitted.slot))
        end = emitted.slot * self._sampling
        spread = _spread(readings, emitted.filled, len(end))
        carried = self._carry.fill(assets, starts, segment, end, spread, emitted.after_gap)
        runs = self._batches.follow(
            assets, starts, segment, emitted.slot, emitted.filled, readings.context, self._contexts
        )
        self._derived.fill(carried.values, carried.real, spread.quality, emitted.slot, runs)
        closed_by = first_reaching(progress.segment, progress.closed, emitted.segment, emitted.slot)
        return Slots(
            row=assets[segment],
            slot=emitted.slot,
            end=end,
            values=carried.values,
            real=carried.real,
            quality=spread.quality,
            context=runs.context,
            batch_start=runs.batch_start,
            phase_start=runs.phase_start,
            fresh=emitted.after_gap | runs.fresh,
            offset=closer[closed_by],
        )

    def _ahead(self, admitted: Admitted, batch: Batch) -> list[_Refused]:
        """Rows whose time nothing confirmed."""
        limit = Duration(self._settings.max_future)
        refused = list[_Refused]()
        for position, cause, highest in admitted.refused:
            if highest == UNSEEN:
                detail = f"the asset's first times do not agree within max_future ({limit})"
            else:
                detail = (
                    f"more than max_future ({limit}) ahead of the asset's highest time {iso_time(highest)}"
                )
            detail += ", and no three in a row agree; hint: check the sender's clock and time unit"
            refused.append(
                self._refused(admitted.candidates, position, cause, Reason.FUTURE_TIME, detail, batch)
            )
        return refused

    def _late(self, accepted: Arrivals, progress: Progress, batch: Batch) -> list[_Refused]:
        """Rows whose slots had been closed by the rows before them."""
        refused, lateness = list[_Refused](), Duration(self._settings.lateness)
        for position in np.flatnonzero(progress.late).tolist():
            highest = int(progress.before[position])
            detail = (
                f"its slot is closed: the asset's highest time is {iso_time(highest)}, "
                f"lateness {lateness}; hint: raise time.lateness if such rows are normal"
            )
            cause = int(accepted.cause[position])
            refused.append(self._refused(accepted, position, cause, Reason.LATE, detail, batch))
        return refused

    def _too_many(self, accepted: Arrivals, crowded: NDArray[np.bool_], batch: Batch) -> list[_Refused]:
        """Rows for which their slots had no room any more."""
        detail = (
            f"its slot already holds {self._settings.slot_rows} rows of the asset; "
            "hint: raise time.slot_rows if so many are normal, or mend what sends them"
        )
        return [
            self._refused(accepted, position, int(accepted.cause[position]), Reason.CROWDED, detail, batch)
            for position in np.flatnonzero(crowded).tolist()
        ]

    def _refused(
        self, arrivals: Arrivals, position: int, cause: int, reason: Reason, detail: str, batch: Batch
    ) -> _Refused:
        row, time, values, quality, context = (column[position] for column in arrivals.rows)
        asset = batch.assets[batch.asset[cause]]
        refusal = Refusal(
            row=int(row),
            batch_row=int(arrivals.batch_row[position]),
            offset=int(arrivals.offset[position]),
            time=int(time),
            reason=reason,
            detail=detail,
            payload=self._frames.encode(asset, int(time), values, quality, self._contexts.values[context]),
        )
        return cause, refusal

    def _silences(self, accepted: Arrivals, progress: Progress) -> tuple[Silence, ...]:
        time = accepted.rows.time
        at = np.flatnonzero((progress.before != UNSEEN) & (time - progress.before > self._settings.silence))
        at = at[np.argsort(accepted.cause[at], kind="stable")]
        return tuple(
            Silence(int(accepted.rows.row[k]), int(progress.before[k]), int(time[k])) for k in at.tolist()
        )

    def _result(
        self,
        slots: Slots,
        refused: list[_Refused],
        silences: tuple[Silence, ...],
        counts: dict[str, int],
        advanced: tuple[NDArray[np.int32], NDArray[np.int64]],
    ) -> GridResult:
        in_order = tuple(refusal for _, refusal in sorted(refused, key=_cause_of))
        return GridResult(slots, in_order, silences, counts, self._contexts.values, advanced)

    def _forget_contexts(self) -> None:
        """Renumber the contexts that are in use, now and then: over months most are of batches long done."""
        if len(self._contexts) <= self._context_limit:
            return
        tables = (self._batches.table, self._admission.table)
        pending = Rows.joined(self._pending)
        used = np.unique(np.concatenate([pending.context, *(table["context"].ravel() for table in tables)]))
        renumbered = self._contexts.keep(used.tolist())
        for table in tables:
            table["context"][:] = renumbered[table["context"]]
        self._pending = [pending._replace(context=renumbered[pending.context])]
        self._context_limit = max(_FEW_CONTEXTS, 2 * len(self._contexts))


_Refused = tuple[int, Refusal]
"""The row of the batch that decided it, and the refusal."""


class _Saved(msgspec.Struct, array_like=True):
    """One asset's state: the first context is its current one, the others those of its rows."""

    contexts: list[Context]
    tables: list[bytes]
    pending: list[bytes]
    held: list[bytes]
    held_offset: bytes


def _cause_of(refused: _Refused) -> int:
    return refused[0]


def _spread(readings: Readings, filled: Positions, total: int) -> Spread:
    """Readings at their slots among ``total``; the other slots are empty."""
    if len(filled) == total:
        return Spread(readings.values, readings.quality, readings.time)
    sensors = readings.values.shape[1]
    spread = Spread(
        np.full((total, sensors), np.nan),
        np.zeros((total, sensors), np.uint8),
        np.zeros((total, sensors), np.int64),
    )
    for column, own in zip(spread, (readings.values, readings.quality, readings.time), strict=True):
        column[filled] = own
    return spread


def _no_slots(sensors: int) -> Slots:
    none, wide = np.zeros(0, np.int64), np.zeros((0, sensors))
    return Slots(
        row=none.astype(np.int32),
        slot=none,
        end=none,
        values=wide,
        real=wide.astype(np.float32),
        quality=wide.astype(np.uint8),
        context=none.astype(np.int32),
        batch_start=none,
        phase_start=none,
        fresh=none.astype(np.bool_),
        offset=none,
    )


def _advanced(accepted: Rows, progress: Progress) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Assets [n] whose highest time rises, and the first time [n] that does it: whatever the cut, the same time."""
    up = np.flatnonzero(accepted.time > progress.before)
    if not len(up):
        return np.zeros(0, np.int32), np.zeros(0, np.int64)
    first = up[starts_of(accepted.row[up])]
    return accepted.row[first], accepted.time[first]
