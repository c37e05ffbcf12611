"""Scaling along a batch: by hand on few rows, and against loops."""

from __future__ import annotations

import numpy as np
import pytest

from models.scaling import Scaling, fit_scaling
from models.trajectory import UNTRAINED, Trajectory, fit_trajectory

PLAIN = Scaling(np.array([10.0, -5.0]), np.array([2.0, 4.0]))


def groups(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def test_one_group_of_length_one_is_plain_scaling_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(20.0, 7.0, (50, 2))
    values[3, 1] = np.nan
    plain = fit_scaling(values, np.isfinite(values))
    one = Trajectory(plain.mean[None, None], plain.std[None, None])
    index = rng.integers(0, 10**6, 50)
    z = one.z(values, np.zeros(50, np.int32), index)
    assert z.dtype == np.float32
    assert z.tobytes() == plain.z(values).tobytes()
    back = one.inverse(z, np.zeros(50, np.int32), index)
    assert back.tobytes() == plain.inverse(z).tobytes()


def test_rows_are_scaled_by_their_group_and_index() -> None:
    mean = np.array([[[0.0], [10.0]], [[100.0], [200.0]]])
    std = np.array([[[1.0], [2.0]], [[4.0], [5.0]]])
    curve = Trajectory(mean, std)
    group, index = groups(0, 0, 1, 1), np.array([0, 1, 0, 1])
    values = np.array([[3.0], [14.0], [96.0], [205.0]])
    z = curve.z(values, group, index)
    assert z.ravel().tolist() == [3.0, 2.0, -1.0, 1.0]
    assert curve.inverse(z, group, index).tolist() == values.tolist()


def test_beyond_the_trained_length_the_last_row_holds_and_before_it_the_first() -> None:
    curve = Trajectory(np.array([[[0.0], [10.0]]]), np.array([[[1.0], [2.0]]]))
    mean, std = curve.at(groups(0, 0, 0), np.array([-3, 2, 10**9]))
    assert mean.ravel().tolist() == [0.0, 10.0, 10.0]
    assert std.ravel().tolist() == [1.0, 2.0, 2.0]


def test_an_untrained_group_has_no_z_scores_and_its_neighbours_keep_theirs() -> None:
    curve = Trajectory(PLAIN.mean[None, None], PLAIN.std[None, None])
    z = curve.z(np.array([[12.0, -5.0], [12.0, -1.0]]), groups(UNTRAINED, 0), np.zeros(2, np.int64))
    assert np.isnan(z[0]).all()
    assert z[1].tolist() == [1.0, 1.0]


# -- fitting --------------------------------------------------------------------------------------------------


def test_means_and_spreads_are_pooled_over_neighbouring_indices() -> None:
    """Two batches of three samples, pooled one to each side; the second sensor lacks two readings."""
    values = np.array([[1.0, 0.0], [2.0, 6.0], [9.0, 3.0], [3.0, 8.0], [4.0, 0.0], [11.0, 5.0]])
    mask = np.array([[1, 0], [1, 1], [1, 1], [1, 1], [1, 0], [1, 1]], bool)
    index = np.array([0, 1, 2, 0, 1, 2])
    small = Scaling(np.zeros(2), np.full(2, 1e-9))
    curve = fit_trajectory(values, mask, np.zeros(6, np.int32), index, small, smoothing=1)
    # index 0 pools indices 0 and 1, index 1 all, index 2 indices 1 and 2
    mean_a = [(1 + 2 + 3 + 4) / 4, 30 / 6, (2 + 9 + 4 + 11) / 4]
    mean_b = [(6 + 8) / 2, (6 + 3 + 8 + 5) / 4, (6 + 3 + 5) / 3]
    np.testing.assert_allclose(curve.mean[0], np.column_stack([mean_a, mean_b]), rtol=1e-14)
    # residuals are from each row's own index' mean: sensor a [-1.5, -3, 2.5] and [.5, -1, 4.5]
    squares_a = [1.5**2 + 0.5**2, 3**2 + 1**2, 2.5**2 + 4.5**2]
    squares_b = [1.0, 0.5**2, (5 / 3) ** 2 + (1 / 3) ** 2]
    std_a = np.sqrt([sum(squares_a[:2]) / 4, sum(squares_a) / 6, sum(squares_a[1:]) / 4])
    std_b = np.sqrt([sum(squares_b[:2]) / 2, sum(squares_b) / 4, sum(squares_b[1:]) / 3])
    np.testing.assert_allclose(curve.std[0], np.column_stack([std_a, std_b]), rtol=1e-13)


def test_an_index_without_readings_holds_the_last_one_before_it_and_else_the_plain_scale() -> None:
    values = np.array([[20.0, 1.0], [21.0, 2.0], [30.0, 3.0]])
    mask = np.array([[0, 1], [1, 1], [0, 0]], bool)
    curve = fit_trajectory(values, mask, groups(0, 0, 0), np.array([0, 1, 2]), PLAIN, smoothing=0)
    assert curve.mean[0].tolist() == [[10.0, 1.0], [21.0, 2.0], [21.0, 2.0]]
    assert curve.std[0].tolist() == [[2.0, 0.4], [0.2, 0.4], [0.2, 0.4]]


def test_a_shorter_group_repeats_its_last_row_and_no_group_sees_another() -> None:
    values = np.array([[1.0, 0.0], [2.0, 0.0], [5.0, 0.0], [50.0, 0.0]])
    curve = fit_trajectory(
        values, np.ones((4, 2), bool), groups(0, 0, 0, 1), np.array([0, 1, 2, 0]), PLAIN, smoothing=0
    )
    assert curve.mean[0, :, 0].tolist() == [1.0, 2.0, 5.0]
    assert curve.mean[1, :, 0].tolist() == [50.0, 50.0, 50.0]


def test_the_spread_is_never_below_a_tenth_of_the_sensors_plain_one() -> None:
    values = np.array([[7.0, 7.0], [7.0, 7.0 + 1e-6]])
    curve = fit_trajectory(values, np.ones((2, 2), bool), groups(0, 0), np.array([0, 0]), PLAIN)
    assert curve.std[0, 0].tolist() == [0.2, 0.4]


@pytest.mark.parametrize("seed", range(3))
def test_any_history_gives_what_loops_over_group_index_and_sensor_give(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, half, plain = 300, int(rng.integers(0, 4)), Scaling(np.zeros(2), np.full(2, 0.5))
    group, index = rng.integers(0, 3, rows).astype(np.int32), rng.integers(0, 20, rows)
    values, mask = rng.normal(size=(rows, 2)) + index[:, None], rng.random((rows, 2)) < 0.6
    curve = fit_trajectory(values, mask, group, index, plain, smoothing=half)
    assert curve.mean.shape == (int(group.max()) + 1, int(index.max()) + 1, 2)
    for g, i, d in np.ndindex(curve.mean.shape):
        near = (group == g) & (abs(index - i) <= half) & mask[:, d]
        if near.any():
            assert curve.mean[g, i, d] == pytest.approx(values[near, d].mean(), abs=1e-9)
            residual = values[near, d] - curve.mean[g, index[near], d]
            assert curve.std[g, i, d] == pytest.approx(max(0.05, np.sqrt((residual**2).mean())), abs=1e-9)
