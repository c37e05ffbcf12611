"""The event-time grid against a naive reference, bit for bit, and by hand where the words are subtle."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.records import NO_CONTEXT, Context, Quality, Reason
from monitor.grid import Grid
from monitor.quantities import Duration
from monitor.settings import AssetClass, Batches, EventTime, Sensor, Window
from tests.grid_streams import batch_of, bits, cut, grid_of, push, row, slots_of
from tests.reference_grid import ReferenceAsset, Row

S = 10**9
BASE = 1_700_000_000


def duration(seconds: float) -> Duration:
    return Duration(round(seconds * S))


def asset_class(sensors: dict[str, Sensor] | None = None, length: int = 4, **changes: Any) -> AssetClass:
    time = {"lateness": 2, "max_age": 3, "max_future": 60, "silence": 20} | {
        name: value for name, value in changes.items() if name != "fresh_window" and name != "late"
    }
    return AssetClass(
        assets=("a*",),
        sampling=duration(1),
        sensors=sensors or {"x": Sensor(unit="Cel"), "y": Sensor(unit="bar")},
        time=EventTime(
            **{name: duration(value) for name, value in time.items()}, late=changes.get("late", "dead_letter")
        ),
        window=Window(length=length),
        batches=Batches(fresh_window=changes.get("fresh_window", "batch")),
    )


def at(seconds: float, *values: float | None, **extra: Any) -> Row:
    return row(round((BASE + seconds) * S), values, **extra)


def started(grid: Grid, asset: int = 0, sensors: int = 2) -> None:
    """Three frames at BASE - 2, - 1, 0 get the asset past admission."""
    push(grid, [(asset, at(second, *[0.0] * sensors)) for second in (-2, -1, 0)], sensors)


# --- against the reference -------------------------------------------------------------------------------------

CONTEXTS = [
    NO_CONTEXT,
    Context("B1"),
    Context("B1", phase="HEAT"),
    Context("B1", phase="REACT", phase_started=(BASE + 3) * S + 1),
    Context("B2", phase="HEAT", phase_started=(BASE + 40) * S),
    Context(None, phase="IDLE"),
]
WIDE = {
    "last": Sensor(unit="Cel", range=(-5.0, 5.0)),
    "mean": Sensor(unit="bar", aggregate="mean", range=(-100.0, 5.0)),
    "max": Sensor(unit="bar", aggregate="max"),
    "held": Sensor(unit="1", reporting="on_change"),
    "beat": Sensor(unit="1", reporting="on_change", heartbeat=duration(9)),
    "since": Sensor(unit="min", derive="time_since_batch_start"),
    "phase": Sensor(unit="s", derive="time_since_phase_start", aggregate="mean"),
}
READINGS = st.one_of(
    st.none(),
    st.tuples(
        st.sampled_from([-5.0, -1.0, 0.1, 0.2, 0.3, 1e-17, 5.0, 7.0]),
        st.sampled_from([Quality.GOOD, Quality.GOOD, Quality.GOOD, Quality.UNCERTAIN, Quality.BAD]),
    ),
    st.just((float("nan"), Quality.NON_FINITE)),
)
STEPS = st.sampled_from([0, 0, 0.25, 0.5, 1, 1, 1, 1, 2, 3, 6, 12, 25, 61, 200, -0.5, -1, -2, -4, -300])


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[int, Row]]:
    """Interleaved rows of up to three assets: narrow and wide, early, late, twice, far ahead."""
    now = [0.0, 0.0, 0.0]
    stream = list[tuple[int, Row]]()
    wide = draw(st.booleans())
    for offset in range(draw(st.integers(0, 40))):
        asset = draw(st.integers(0, 2))
        time = now[asset] + draw(STEPS)
        now[asset] = time if draw(st.booleans()) else max(now[asset], time)
        if wide:
            cells = [draw(READINGS) for _ in WIDE]
        else:
            column = draw(st.integers(0, len(WIDE) - 1))
            cells = [draw(READINGS) if other == column else None for other in range(len(WIDE))]
        values = [float("nan") if cell is None else cell[0] for cell in cells]
        quality = [int(Quality.ABSENT if cell is None else cell[1]) for cell in cells]
        context = draw(st.sampled_from(CONTEXTS))
        stream.append((asset, Row(round((BASE + time) * S), values, quality, context, 100 + offset)))
    return stream


def reference_slots(asset: ReferenceAsset) -> list[tuple[Any, ...]]:
    return [
        (
            slot.slot,
            slot.slot * asset.sampling,
            bits(slot.values),
            slot.real,
            slot.quality,
            slot.context,
            slot.batch_start,
            slot.phase_start,
            slot.fresh,
            slot.offset,
        )
        for slot in asset.slots
    ]


@settings(max_examples=400, deadline=None)
@given(
    stream=streams(),
    cuts=st.lists(st.integers(0, 40), max_size=12),
    snapshots=st.sets(st.integers(0, 12)),
    fresh_window=st.sampled_from(["batch", "phase", "never"]),
)
def test_any_cut_interleaving_and_restore_equals_the_naive_reference_bit_for_bit(
    stream: list[tuple[int, Row]], cuts: list[int], snapshots: set[int], fresh_window: str
) -> None:
    config = asset_class(WIDE, fresh_window=fresh_window)
    grid, results = grid_of(config), []
    for number, part in enumerate(cut(stream, [min(edge, len(stream)) for edge in cuts])):
        if number in snapshots:
            restored = grid_of(config)
            for asset in (2, 0, 1):
                restored.load(asset, grid.dump(asset))
            grid = restored
        results.append(push(grid, part, len(WIDE)))
    references = [ReferenceAsset(config) for _ in range(3)]
    for asset, entry in stream:
        references[asset].take(entry)
    for asset, reference in enumerate(references):
        assert slots_of(results, asset) == reference_slots(reference)
        refused = [refusal for result in results for refusal in result.refused if refusal.row == asset]
        for reason, expected in ((Reason.LATE, reference.late), (Reason.FUTURE_TIME, reference.future)):
            found = [(refusal.time, refusal.offset) for refusal in refused if refusal.reason == reason]
            assert found == [(entry.time, entry.offset) for entry in expected]
        silences = [silence for result in results for silence in result.silences if silence.row == asset]
        assert [(silence.last, silence.at) for silence in silences] == reference.silences
    for name in references[0].counts:
        expected = sum(reference.counts[name] for reference in references)
        assert sum(result.counts[name] for result in results) == expected


@settings(max_examples=100, deadline=None)
@given(stream=streams(), cuts=st.lists(st.integers(0, 40), max_size=12))
def test_the_saved_state_does_not_depend_on_the_cut_either(
    stream: list[tuple[int, Row]], cuts: list[int]
) -> None:
    config = asset_class(WIDE)
    whole, parts = grid_of(config), grid_of(config)
    everything = push(whole, stream, len(WIDE))
    pieces = [push(parts, part, len(WIDE)) for part in cut(stream, [min(edge, len(stream)) for edge in cuts])]
    for asset in range(3):
        assert whole.dump(asset) == parts.dump(asset)
    assert whole.pending_rows == parts.pending_rows
    assert [refusal.payload for refusal in everything.refused] == [
        refusal.payload for piece in pieces for refusal in piece.refused
    ]
