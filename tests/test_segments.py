"""Segmented helpers against plain loops, also where int64 has no room to lift one segment over another."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.event_time import segments


def sorted_segments(rng: np.random.Generator, count: int) -> np.ndarray:
    _, numbers = np.unique(np.sort(rng.integers(0, 5, count)), return_inverse=True)
    return numbers


@pytest.mark.parametrize("scale", [10, 2**61])
@pytest.mark.parametrize("seed", range(5))
def test_a_running_maximum_never_crosses_from_one_segment_to_the_next(seed: int, scale: int) -> None:
    rng = np.random.default_rng(seed)
    segment = sorted_segments(rng, 40)
    values = rng.integers(-scale, scale, (40, 3))
    found = segments.prefix_maximum(segment, values)
    for at in range(40):
        before = values[: at + 1][segment[: at + 1] == segment[at]]
        assert found[at].tolist() == before.max(axis=0).tolist()
    assert segments.prefix_maximum(segment, values[:, 0]).tolist() == found[:, 0].tolist()


@pytest.mark.parametrize("scale", [10, 2**61])
@pytest.mark.parametrize("seed", range(5))
def test_the_first_position_that_reaches_a_level_is_found_within_its_segment(seed: int, scale: int) -> None:
    rng = np.random.default_rng(seed)
    segment = sorted_segments(rng, 40)
    levels = segments.prefix_maximum(segment, rng.integers(-scale, scale, 40))
    wanted_segment = rng.integers(0, segment[-1] + 1, 20)
    highest = np.array([levels[segment == number].max() for number in wanted_segment])
    wanted = highest - rng.integers(0, scale // 4, 20)
    found = segments.first_reaching(segment, levels, wanted_segment, wanted)
    for number, level, position in zip(wanted_segment, wanted, found, strict=True):
        assert position == min(at for at in range(40) if segment[at] == number and levels[at] >= level)


def test_of_no_rows_there_is_nothing() -> None:
    none = np.zeros(0, np.int64)
    assert segments.starts_of(none).size == 0
    assert segments.ends_of(segments.starts_of(none), 0).size == 0
    assert segments.prefix_maximum(none, none).size == 0
    assert segments.first_reaching(none, none, none, none).size == 0
