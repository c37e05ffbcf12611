"""Smoothing and segment starts against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.thresholds.smoothing import Segments, Smoother


class Plain:
    """Roberts' EWMA of one asset, written down as the definition says."""

    def __init__(self, weight: float, length: int) -> None:
        self.weight, self.length = weight, length
        self.value, self.slot, self.segment = 0.0, -(10**18), -(10**18)

    def step(self, slot: int, segment: int, x: float) -> float:
        if segment != self.segment or slot - self.slot > self.length:
            self.value = 0.0
        self.value = self.weight * x + (1.0 - self.weight) * self.value
        self.slot, self.segment = slot, segment
        return self.value


def one(smoother: Smoother, slot: int, value: float, segment: int = 0) -> float:
    return float(
        smoother.step(np.array([0], np.int32), np.array([slot]), np.array([segment]), np.array([value]))[0]
    )


def smoother(weight: float = 0.25, length: int = 4) -> Smoother:
    made = Smoother(weight, length)
    made.grow(1)
    return made


def test_the_average_begins_at_the_calibration_median_and_forgets_by_its_weight() -> None:
    s = smoother(0.25)
    assert one(s, 0, 1.0) == 0.25
    assert one(s, 1, 1.0) == 0.4375
    assert one(s, 2, -1.0) == 0.078125


def test_a_weight_of_one_is_no_smoothing() -> None:
    s = smoother(1.0)
    assert [one(s, t, x) for t, x in enumerate((0.5, 9.0, -2.0))] == [0.5, 9.0, -2.0]


def test_a_pause_of_a_windows_length_goes_on_and_a_longer_one_restarts() -> None:
    s = smoother(0.5, length=4)
    one(s, 10, 1.0)
    assert one(s, 14, 1.0) == 0.75
    assert one(s, 19, 1.0) == 0.5


def test_a_fresh_segment_restarts_whatever_the_slot() -> None:
    s = smoother(0.5)
    one(s, 10, 1.0, segment=0)
    assert one(s, 11, 1.0, segment=11) == 0.5


@pytest.mark.parametrize("seed", range(4))
def test_many_assets_are_smoothed_as_each_alone_also_over_a_dump_and_load(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, length, assets = float(rng.uniform(0.05, 1.0)), 6, 5
    plain = [Plain(weight, length) for _ in range(assets)]
    s = Smoother(weight, length)
    s.grow(assets)
    slot, segment = np.zeros(assets, np.int64), np.zeros(assets, np.int64)
    for step in range(300):
        if step % 50 == 49:
            again = Smoother(weight, length)
            again.grow(assets)
            for row in range(assets):
                again.load(row, s.dump(row))
            s = again
        rows = rng.permutation(assets)[: rng.integers(1, assets + 1)].astype(np.int32)
        slot[rows] += rng.choice([1, 2, 6, 7, 30], len(rows))
        fresh = rows[rng.random(len(rows)) < 0.1]
        segment[fresh] = slot[fresh]
        value = rng.normal(size=len(rows))
        found = s.step(rows, slot[rows], segment[rows], value)
        columns = zip(rows, slot[rows].tolist(), segment[rows].tolist(), value.tolist(), strict=True)
        assert found.tolist() == [plain[row].step(at, start, x) for row, at, start, x in columns]


NEVER = np.iinfo(np.int64).min // 2


@pytest.mark.parametrize("seed", range(4))
def test_segments_begin_at_the_last_fresh_slot_whatever_the_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assets, total = 4, 60
    slots = [np.cumsum(rng.integers(1, 4, total)) for _ in range(assets)]
    fresh = [rng.random(total) < 0.15 for _ in range(assets)]
    expected = []
    for mine, marks in zip(slots, fresh, strict=True):
        start, column = NEVER, []
        for at, mark in zip(mine.tolist(), marks, strict=True):
            start = at if mark else start
            column.append(start)
        expected.append(column)

    s, done = Segments(), np.zeros(assets, np.int64)
    s.grow(assets)
    found: list[list[int]] = [[] for _ in range(assets)]
    while (done < total).any():
        take = np.minimum(rng.integers(0, 9, assets), total - done)
        row = np.repeat(np.arange(assets, dtype=np.int32), take)
        pieces = [slice(low, low + count) for low, count in zip(done, take, strict=True)]
        starts = s.step(
            row,
            np.concatenate([slots[a][piece] for a, piece in enumerate(pieces)]),
            np.concatenate([fresh[a][piece] for a, piece in enumerate(pieces)]),
        )
        for asset in range(assets):
            found[asset] += starts[row == asset].tolist()
        done += take
        again = Segments()
        again.grow(assets)
        for asset in range(assets):
            again.load(asset, s.dump(asset))
        s = again
    assert found == expected
