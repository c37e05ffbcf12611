"""Windows against a plain list of rows per asset, and their saved state."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.event_time.history import History, Ready

ASSETS, SENSORS = 3, 2


def stream_of(rng: np.random.Generator, count: int) -> list[tuple[int, int, bool, Any, Any, Any]]:
    """Rows (asset, slot, fresh, z, mask, weight) of interleaved assets, slots rising within each."""
    slots = rng.integers(0, 9, ASSETS)
    seen = set[int]()
    stream = []
    for _ in range(count):
        asset = int(rng.integers(0, ASSETS))
        fresh = asset not in seen or rng.random() < 0.1
        seen.add(asset)
        slots[asset] += 1 if not fresh else int(rng.integers(1, 9))
        stream.append(
            (
                asset,
                int(slots[asset]),
                fresh,
                rng.normal(size=SENSORS).astype(np.float32),
                rng.random(SENSORS) < 0.8,
                rng.choice([0.0, 0.5, 1.0], SENSORS).astype(np.float32),
            )
        )
    return stream


def pushed(history: History, rows: list[Any]) -> tuple[list[Any], Ready]:
    rows = sorted(rows, key=lambda entry: (entry[0], entry[1]))
    columns = list(zip(*rows, strict=True)) or [[]] * 6
    wide = (len(rows), SENSORS)
    ready = history.push(
        np.array(columns[0], np.int32),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.bool_),
        np.array(columns[3], np.float32).reshape(wide),
        np.array(columns[4], np.bool_).reshape(wide),
        np.array(columns[5], np.float32).reshape(wide),
    )
    return rows, ready


def windows_of(rows: list[Any], ready: Ready) -> list[Any]:
    return [
        (
            rows[last][0],
            rows[last][1],
            ready.values[number].tobytes(),
            ready.mask[number].tobytes(),
            float(ready.coverage[number]).hex(),
            int(ready.maturity[number]),
        )
        for number, last in enumerate(ready.last)
    ]


def expected_windows(stream: list[Any], length: int, stride: int) -> list[Any]:
    """One asset at a time, a list of the segment's rows: cut its end, pad its front."""
    windows = []
    for asset in range(ASSETS):
        segment: list[Any] = []
        for entry in (entry for entry in stream if entry[0] == asset):
            segment = [entry] if entry[2] else [*segment, entry]
            if entry[1] % stride:
                continue
            rows = segment[-length:]
            z, mask = np.zeros((length, SENSORS), np.float32), np.zeros((length, SENSORS), np.bool_)
            z[length - len(rows) :] = [row[3] for row in rows]
            mask[length - len(rows) :] = [row[4] for row in rows]
            weight = sum(float(share) for row in rows for share in row[5])
            coverage = float(np.float32(weight / (len(rows) * SENSORS))).hex()
            windows.append((asset, entry[1], z.tobytes(), mask.tobytes(), coverage, len(rows)))
    return windows


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 120),
    length=st.integers(2, 6),
    stride=st.integers(1, 4),
    cuts=st.lists(st.integers(0, 120), max_size=10),
    restored=st.sets(st.integers(0, 10)),
)
def test_windows_are_the_last_rows_of_their_segment_in_any_cut_and_after_any_restore(
    seed: int, count: int, length: int, stride: int, cuts: list[int], restored: set[int]
) -> None:
    stream = stream_of(np.random.default_rng(seed), count)
    history = History(length, stride, SENSORS)
    history.grow(ASSETS)
    found = []
    edges = [0, *sorted(min(edge, count) for edge in cuts), count]
    for number, (start, stop) in enumerate(pairwise(edges)):
        if number in restored:
            other = History(length, stride, SENSORS)
            other.grow(ASSETS)
            for asset in range(ASSETS):
                other.load(asset, history.dump(asset))
                assert other.dump(asset) == history.dump(asset)
            history = other
        rows, ready = pushed(history, stream[start:stop])
        assert (np.diff(ready.last) > 0).all()
        found += windows_of(rows, ready)
    assert sorted(found) == sorted(expected_windows(stream, length, stride))


def test_a_fresh_segment_is_padded_in_front_with_nothing_of_the_one_before() -> None:
    history = History(3, 1, 1)
    history.grow(1)
    ones = np.ones((4, 1), np.float32)
    ready = history.push(
        np.zeros(4, np.int32),
        np.arange(4),
        np.array([True, False, False, True]),
        np.array([[1], [2], [3], [4]], np.float32),
        ones > 0,
        ones / 2,
    )
    assert ready.values[2].ravel().tolist() == [1, 2, 3]
    assert ready.values[3].ravel().tolist() == [0, 0, 4]
    assert ready.mask[3].ravel().tolist() == [False, False, True]
    assert ready.maturity.tolist() == [1, 2, 3, 1]
    assert ready.coverage.tolist() == [0.5, 0.5, 0.5, 0.5]


def test_windows_end_at_absolute_slots_divisible_by_the_stride() -> None:
    history = History(2, 4, 1)
    history.grow(1)
    wide = np.ones((7, 1), np.float32)
    ready = history.push(np.zeros(7, np.int32), np.arange(3, 10), np.arange(7) == 0, wide, wide > 0, wide)
    assert ready.last.tolist() == [1, 5]  # slots 4 and 8


def test_bytes_of_another_window_length_are_refused() -> None:
    long, short = History(8, 1, 2), History(3, 1, 2)
    long.grow(1)
    short.grow(1)
    wide = np.ones((6, 2), np.float32)
    long.push(np.zeros(6, np.int32), np.arange(6), np.arange(6) == 0, wide, wide > 0, wide)
    with pytest.raises(ValueError, match="windows of 3 rows"):
        short.load(0, long.dump(0))
