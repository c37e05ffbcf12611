"""The event-time grid once more, naively: one asset, one row at a time, plain Python. The tests' oracle.

Written from the words of the design, not from the code: nothing of `monitor.event_time` is used here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from connectors.records import NO_CONTEXT, Context, Quality
from monitor.settings import AssetClass

UNIT_NS = {"s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
USABLE = (Quality.GOOD, Quality.UNCERTAIN)
WEIGHT = {Quality.GOOD: 1.0, Quality.UNCERTAIN: 0.5}


@dataclass
class Row:
    time: int
    values: list[float]
    quality: list[int]
    context: Context
    offset: int


@dataclass
class Latest:
    value: float
    time: int
    weight: float


@dataclass
class Slot:
    slot: int
    values: list[float]
    real: list[float]
    quality: list[int]
    context: Context
    batch_start: int
    phase_start: int
    fresh: bool
    offset: int


@dataclass
class ReferenceAsset:
    settings: AssetClass
    slots: list[Slot] = field(default_factory=list)
    late: list[Row] = field(default_factory=list)
    future: list[Row] = field(default_factory=list)
    crowded: list[Row] = field(default_factory=list)
    silences: list[tuple[int, int]] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("FUTURE_TIME", "HELD", "LATE", "CROWDED", "DUPLICATE", "CONFLICT"), 0
        )
    )

    def __post_init__(self) -> None:
        self.sampling = int(self.settings.sampling)
        self.sensors = list(self.settings.sensors.values())
        self.highest: int | None = None
        self.held: list[Row] = []
        self.open: dict[int, list[Row]] = {}
        self.next_slot = 0
        self.newest: dict[int, int] = {}
        self.latest: dict[int, Latest] = {}
        self.empties = 0
        self.skipped = True
        self.context = NO_CONTEXT
        self.batch_run = self.phase_run = -1

    def take(self, row: Row) -> None:
        ahead = self.highest is None or row.time > self.highest + self.settings.time.max_future
        if not ahead:
            self.refuse_held(len(self.held))
            self.accept(row, row.offset)
            return
        self.held.append(row)
        self.counts["HELD"] += 1
        if len(self.held) == 3:
            times = [held.time for held in self.held]
            if max(times) - min(times) <= self.settings.time.max_future:
                for held in self.held:
                    self.accept(held, row.offset)
                self.held = []
            else:
                self.refuse_held(1)

    def refuse_held(self, count: int) -> None:
        self.future += self.held[:count]
        self.counts["FUTURE_TIME"] += count
        self.held = self.held[count:]

    def accept(self, row: Row, offset: int) -> None:
        slot = -(-row.time // self.sampling)
        if self.highest is None:
            self.next_slot = slot
        elif row.time - self.highest > self.settings.time.silence:
            self.silences.append((self.highest, row.time))
        self.highest = row.time if self.highest is None else max(self.highest, row.time)
        if slot < self.next_slot:
            self.counts["LATE"] += 1
            self.late.append(row)
            return
        rows = self.open.setdefault(slot, [])
        if len(rows) < self.settings.time.slot_rows:
            rows.append(row)
        else:  # its time is believed all the same
            self.counts["CROWDED"] += 1
            self.crowded.append(row)
        for column, quality in enumerate(row.quality):
            if quality != Quality.ABSENT:
                self.newest[column] = max(self.newest.get(column, row.time), row.time)
        self.close(offset)

    def close(self, offset: int) -> None:
        awaited = [column for column, sensor in enumerate(self.sensors) if sensor.derive is None]
        while True:
            end = self.next_slot * self.sampling
            complete = bool(awaited) and all(self.newest.get(column, -(2**62)) >= end for column in awaited)
            if not complete and self.highest - self.settings.time.lateness < end:
                return
            self.emit(self.next_slot, self.open.pop(self.next_slot, []), offset)
            self.next_slot += 1

    def emit(self, slot: int, rows: list[Row], offset: int) -> None:
        longest = math.ceil(self.settings.time.max_age / self.sampling) + self.settings.window.length
        fresh = False
        if rows:
            self.empties = 0
            fresh, self.skipped = self.skipped, False
        elif self.empties >= longest:
            self.skipped = True
            for column, sensor in enumerate(self.sensors):
                if sensor.reporting == "on_change" and sensor.heartbeat is None:
                    self.latest.pop(column, None)
            return
        else:
            self.empties += 1
        previous = self.context
        if rows:
            self.context = self.context_of(rows)
        changed_batch = self.context.batch_id != previous.batch_id
        changed_phase = changed_batch or self.context.phase != previous.phase
        if changed_batch:
            self.batch_run = slot
        if changed_phase:
            self.phase_run = slot
        how = self.settings.batches.fresh_window
        fresh = fresh or (changed_batch and how != "never") or (changed_phase and how == "phase")
        batch_start = -1 if self.context.batch_id is None else self.batch_run
        phase_start = -1
        if self.context.phase is not None:
            phase_start = self.phase_run
            if self.context.phase_started is not None:
                declared = -(-self.context.phase_started // self.sampling)
                phase_start = declared if declared <= slot else phase_start
        cells = [
            self.cell(column, slot, rows, batch_start, phase_start) for column in range(len(self.sensors))
        ]
        values, real, quality = (list(part) for part in zip(*cells, strict=True))
        self.slots.append(
            Slot(slot, values, real, quality, self.context, batch_start, phase_start, fresh, offset)
        )

    def context_of(self, rows: list[Row]) -> Context:
        best: Row | None = None
        for row in rows:
            if row.context != NO_CONTEXT and (best is None or row.time > best.time):
                best = row
        return best.context if best else NO_CONTEXT

    def cell(
        self, column: int, slot: int, rows: list[Row], batch_start: int, phase_start: int
    ) -> tuple[float, float, int]:
        sensor = self.sensors[column]
        end = slot * self.sampling
        reading = self.reading(column, rows)
        if reading is not None:
            value, time, quality = reading
            weight = WEIGHT.get(Quality(quality), 0.0)
            self.latest[column] = Latest(value, time, weight)
            return (value if weight else math.nan), weight, quality
        kept = self.latest.get(column)
        if kept is not None and kept.weight:
            limit: float = self.settings.time.max_age
            if sensor.reporting == "on_change":
                limit = math.inf if sensor.heartbeat is None else sensor.heartbeat
            if end - kept.time <= limit:
                return kept.value, (kept.weight if sensor.reporting == "on_change" else 0.0), 0
        if sensor.derive is not None:
            start = batch_start if sensor.derive == "time_since_batch_start" else phase_start
            if start >= 0:
                return (slot - start) * self.sampling / UNIT_NS[sensor.unit], 1.0, 0
        return math.nan, 0.0, 0

    def reading(self, column: int, rows: list[Row]) -> tuple[float, int, int] | None:
        distinct: dict[int, tuple[float, int]] = {}
        for row in rows:
            value, quality = row.values[column], self.ranged(column, row.values[column], row.quality[column])
            if quality == Quality.ABSENT:
                continue
            if row.time in distinct:
                other, other_quality = distinct[row.time]
                same = quality == other_quality and (value == other or (value != value and other != other))
                self.counts["DUPLICATE" if same else "CONFLICT"] += 1
            else:
                distinct[row.time] = (value, quality)
        if not distinct:
            return None
        used = [(time, *distinct[time]) for time in sorted(distinct) if distinct[time][1] in USABLE]
        how = self.sensors[column].aggregate
        if how == "last" or not used:
            newest = max(distinct)
            return distinct[newest][0], newest, distinct[newest][1]
        if how == "mean":
            total = 0.0
            for _, value, _ in used:
                total += value
            aggregated = total / len(used)
        else:
            aggregated = max(value for _, value, _ in used)
        return aggregated, used[-1][0], max(quality for *_, quality in used)

    def ranged(self, column: int, value: float, quality: int) -> int:
        limits: Any = self.sensors[column].range
        if quality not in USABLE:
            return quality
        if not math.isfinite(value):
            return Quality.NON_FINITE
        return Quality.OUT_OF_RANGE if limits and not limits[0] <= value <= limits[1] else quality
