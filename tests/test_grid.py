"""The event-time grid against a naive reference, bit for bit, and by hand where the words are subtle."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.records import NO_CONTEXT, Context, Quality, Reason
from monitor.event_time.grid import Grid
from monitor.quantities import Duration
from monitor.settings import AssetClass, Batches, EventTime, Sensor, Window
from tests.grid_streams import bits, cut, grid_of, push, row, slots_of
from tests.reference_grid import ReferenceAsset, Row

S = 10**9
BASE = 1_700_000_000


def duration(seconds: float) -> Duration:
    return Duration(round(seconds * S))


def asset_class(sensors: dict[str, Sensor] | None = None, length: int = 4, **changes: Any) -> AssetClass:
    time = {"lateness": 2, "max_age": 3, "max_future": 60, "silence": 20} | {
        name: value for name, value in changes.items() if name not in ("fresh_window", "late", "slot_rows")
    }
    durations = {name: duration(value) for name, value in time.items()}
    return AssetClass(
        assets=("a*",),
        sampling=duration(1),
        sensors=sensors or {"x": Sensor(unit="Cel"), "y": Sensor(unit="bar")},
        time=EventTime(
            **durations,
            late=changes.get("late", "dead_letter"),
            slot_rows=changes.get("slot_rows", 1000),
        ),
        window=Window(length=length),
        batches=Batches(fresh_window=changes.get("fresh_window", "batch")),
    )


def at(seconds: float, *values: float | None, **extra: Any) -> Row:
    return row(round((BASE + seconds) * S), values, **extra)


def started(grid: Grid, asset: int = 0, sensors: int = 2) -> None:
    """Three frames at BASE - 2, - 1, 0 get the asset past admission."""
    push(grid, [(asset, at(second, *[0.0] * sensors)) for second in (-2, -1, 0)], sensors)


# --- against the reference ---

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
    slot_rows=st.sampled_from([1, 2, 3, 1000]),
)
def test_any_cut_interleaving_and_restore_equals_the_naive_reference_bit_for_bit(
    stream: list[tuple[int, Row]], cuts: list[int], snapshots: set[int], fresh_window: str, slot_rows: int
) -> None:
    config = asset_class(WIDE, fresh_window=fresh_window, slot_rows=slot_rows)
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
        for reason, expected in (
            (Reason.LATE, reference.late),
            (Reason.FUTURE_TIME, reference.future),
            (Reason.CROWDED, reference.crowded),
        ):
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


# --- by hand ---


def closed(results: Any) -> list[int]:
    return [int(slot) - BASE for slot in results.slots.slot]


def test_a_slot_closes_at_once_when_every_sensor_has_reported_at_its_end() -> None:
    grid = grid_of(asset_class(lateness=1000))
    started(grid)
    assert closed(push(grid, [(0, at(1, 1.0, None, offset=7))], 2)) == []
    result = push(grid, [(0, at(1, None, 2.0, offset=8))], 2)
    assert closed(result) == [1]
    assert result.slots.values.tolist() == [[1.0, 2.0]]
    assert result.slots.offset.tolist() == [8]
    assert grid.pending_rows == 0


def test_a_slot_covers_its_end_but_not_its_beginning_and_takes_the_newest_reading() -> None:
    grid = grid_of(asset_class())
    started(grid)
    stream = [(0, at(0.25, 1.0, 1.0)), (0, at(0.75, 3.0, 3.0)), (0, at(0.5, 2.0, 2.0)), (0, at(1, 4.0, None))]
    slots = push(grid, [*stream, (0, at(1.001, 5.0, 5.0)), (0, at(2, 6.0, 6.0))], 2).slots
    assert slots.values.tolist() == [[4.0, 3.0], [6.0, 6.0]]


def test_the_watermark_passes_a_slot_exactly_lateness_after_its_end() -> None:
    grid = grid_of(asset_class(lateness=2))
    started(grid)
    assert closed(push(grid, [(0, row((BASE + 3) * S - 1, [1.0, None]))], 2)) == []
    assert closed(push(grid, [(0, row((BASE + 3) * S, [1.0, None]))], 2)) == [1]


def test_late_is_judged_by_the_rows_before_and_not_by_the_whole_push() -> None:
    grid = grid_of(asset_class(lateness=2))
    started(grid)
    result = push(grid, [(0, at(9, 1.0, None)), (0, at(7, 2.0, None)), (0, at(8, 3.0, None))], 2)
    assert [refusal.time - BASE * S for refusal in result.refused] == [7 * S]
    assert result.counts["LATE"] == 1
    assert closed(result) == [1, 2, 3, 4, 5, 6, 7]


def test_a_refused_row_carries_its_reason_and_a_frame_to_send_again() -> None:
    grid = grid_of(
        asset_class({"x": Sensor(unit="Cel", tag="TI-1", range=(0.0, 9.0)), "y": Sensor(unit="bar")})
    )
    started(grid)
    context = Context("B1", phase="HEAT", phase_started=BASE * S)
    time = (BASE - 1) * S - 1
    old = row(time, [99.5, float("nan")], context=context, offset=41, q1=Quality.NON_FINITE)
    (refusal,) = push(grid, [(0, at(1, 1.0, 1.0)), (0, old)], 2).refused
    assert (refusal.row, refusal.batch_row, refusal.offset) == (0, 1, 41)
    assert refusal.reason == Reason.LATE
    assert "hint:" in refusal.detail
    assert json.loads(refusal.payload) == {
        "asset": "a0",
        "ts": "2023-11-14T22:13:18.999999999Z",
        "values": {"TI-1": 99.5, "y": None},
        "quality": {"y": "BAD"},
        "batch": {"batch_id": "B1", "phase": "HEAT", "phase_started": "2023-11-14T22:13:20Z"},
    }


def test_late_rows_are_only_counted_where_that_is_asked_for() -> None:
    grid = grid_of(asset_class(late="count"))
    started(grid)
    result = push(grid, [(0, at(-1, 1.0, 1.0))], 2)
    assert result.refused == ()
    assert result.counts["LATE"] == 1


def test_a_clock_that_jumps_ahead_is_believed_at_the_third_row_that_says_so() -> None:
    grid = grid_of(asset_class(max_future=60))
    started(grid)
    assert push(grid, [(0, at(500, 1.0, 1.0)), (0, at(501, 1.0, 1.0))], 2).counts["HELD"] == 2
    result = push(grid, [(0, at(502, 1.0, 1.0, offset=9))], 2)
    assert [silence[1:] for silence in result.silences] == [(BASE * S, (BASE + 500) * S)]
    assert closed(result)[-3:] == [500, 501, 502]
    assert set(result.slots.offset.tolist()) == {9}


def test_one_row_far_ahead_is_refused_when_the_clock_is_right_again() -> None:
    grid = grid_of(asset_class(max_future=60))
    started(grid)
    push(grid, [(0, at(9000, 1.0, 1.0, offset=5))], 2)
    (refusal,) = push(grid, [(1, at(1, 0.0, 0.0)), (0, at(1, 1.0, 1.0))], 2).refused
    assert (refusal.reason, refusal.offset, refusal.batch_row) == (Reason.FUTURE_TIME, 5, -1)
    assert json.loads(refusal.payload)["asset"] == "a0"


def test_a_reading_at_the_edge_of_its_range_is_inside_and_one_beyond_ends_what_is_carried() -> None:
    grid = grid_of(
        asset_class({"x": Sensor(unit="Cel", range=(0.0, 9.0)), "y": Sensor(unit="bar")}, max_age=5)
    )
    started(grid)
    stream = [(0, at(1, 9.0, 0.0)), (0, at(2, 9.5, 0.0)), (0, at(3, None, 0.0)), (0, at(4, 1.0, 0.0))]
    slots = push(grid, stream, 2).slots
    assert bits(slots.values[:, 0]) == bits([9.0, float("nan"), float("nan"), 1.0])
    assert slots.quality[:, 0].tolist() == [Quality.GOOD, Quality.OUT_OF_RANGE, Quality.ABSENT, Quality.GOOD]
    assert slots.real[:, 0].tolist() == [1, 0, 0, 1]


def test_a_missing_sensor_is_carried_to_its_greatest_age_and_then_masked() -> None:
    grid = grid_of(asset_class(max_age=3, lateness=0))
    started(grid)
    slots = push(grid, [(0, at(second, 7.0, None)) for second in range(1, 6)], 2).slots
    assert bits(slots.values[:, 1]) == bits([0.0, 0.0, 0.0, float("nan"), float("nan")])
    assert slots.real[:, 1].tolist() == [0] * 5


def test_seventy_years_of_silence_cost_a_window_of_slots_and_start_windows_anew() -> None:
    grid = grid_of(asset_class(length=4, max_age=3, max_future=10))
    started(grid)
    years = 70 * 365 * 86_400
    slots = push(grid, [(0, at(years + second, 1.0, 1.0)) for second in range(3)], 2).slots
    assert [int(slot) - BASE for slot in slots.slot] == [*range(1, 8), years, years + 1, years + 2]
    assert slots.fresh.tolist() == [False] * 7 + [True, False, False]


def test_batches_start_windows_anew_and_give_the_time_since_they_began() -> None:
    sensors = {"x": Sensor(unit="Cel"), "time": Sensor(unit="min", derive="time_since_batch_start")}
    grid = grid_of(asset_class(sensors))
    push(grid, [(0, at(second, 1.0, None)) for second in (-2, -1, 0)], 2)
    stream = [(0, at(second, 1.0, None, context=Context("B1"))) for second in range(1, 4)]
    stream += [(0, at(4, 1.0, None, context=Context("B2"))), (0, at(5, 1.0, None))]
    slots = push(grid, stream, 2).slots
    assert slots.fresh.tolist() == [True, False, False, True, True]
    assert bits(slots.values[:, 1]) == bits([0.0, 1 / 60, 2 / 60, 0.0, float("nan")])
    assert slots.real[:, 1].tolist() == [1, 1, 1, 1, 0]
    assert (slots.batch_start - BASE).tolist() == [1, 1, 1, 4, -1 - BASE]


def test_a_derived_sensor_needs_a_unit_of_time() -> None:
    with pytest.raises(ValueError, match="expected a unit of ms, s, min, h, d, got 'bar'"):
        Grid(asset_class({"time": Sensor(unit="bar", derive="time_since_batch_start")}))


def test_rows_wait_no_longer_than_lateness() -> None:
    grid = grid_of(asset_class(lateness=5))
    started(grid)
    for second in range(1, 200):
        push(grid, [(0, at(second, 1.0, None)), (0, at(second - 0.5, 1.0, None))], 2)
    assert grid.pending_rows <= 2 * (5 + 1)


def test_contexts_of_batches_long_done_are_forgotten_and_results_keep_theirs() -> None:
    grid = grid_of(asset_class())
    started(grid)
    results = [push(grid, [(0, at(n, 1.0, 1.0, context=Context(f"B{n}")))], 2) for n in range(1, 5000)]
    assert len(grid.contexts) < 2000
    for number, result in enumerate(results, 1):
        assert [result.contexts[context].batch_id for context in result.slots.context] == [f"B{number}"]


def test_the_state_of_another_layout_is_refused() -> None:
    wide, narrow = grid_of(asset_class(WIDE)), grid_of(asset_class())
    with pytest.raises(ValueError, match="state row: expected"):
        narrow.load(0, wide.dump(0))


def test_rows_beyond_what_a_slot_holds_are_refused_with_what_they_said_and_the_slot_stays_as_it_was() -> None:
    grid = grid_of(asset_class(slot_rows=2))
    started(grid)
    result = push(grid, [(0, at(0.1 * n, float(n), None)) for n in range(1, 5)], 2)
    assert result.counts["CROWDED"] == 2
    assert [json.loads(refusal.payload)["values"] for refusal in result.refused] == [{"x": 3.0}, {"x": 4.0}]
    assert {refusal.reason for refusal in result.refused} == {Reason.CROWDED}
    assert "already holds 2 rows" in result.refused[0].detail
    assert grid.pending_bytes <= grid.most_pending_bytes(1)
    closed = push(grid, [(0, at(9, 0.0, 0.0))], 2)
    place = closed.slots.slot.tolist().index(BASE + 1)
    assert closed.slots.values[place, 0] == 2.0


def test_pending_rows_never_take_more_than_is_told() -> None:
    config = asset_class(slot_rows=3)
    grid = grid_of(config)
    started(grid)
    rows = [(0, at(1.0 + 0.001 * n, 1.0, None)) for n in range(5000)]
    for low in range(0, len(rows), 100):
        push(grid, rows[low : low + 100], 2)
        assert 0 < grid.pending_bytes <= grid.most_pending_bytes(1)
