"""Z-scores and windows of training rows, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.scaling import Z_LIMIT, Scaling, fit_scaling
from models.scorer import FitRefused
from models.windows import gather_windows, window_ends


def every(values: np.ndarray) -> np.ndarray:
    return np.ones(values.shape, bool)


def test_mean_and_deviation_are_those_of_the_real_readings():
    values = np.array([[1.0, 10.0], [3.0, np.nan], [5.0, 14.0]])
    scaling = fit_scaling(values, np.isfinite(values))
    np.testing.assert_allclose(scaling.mean, [3.0, 12.0])
    np.testing.assert_allclose(scaling.std, [np.sqrt(8 / 3), 2.0])


def test_z_and_back():
    scaling = Scaling(np.array([100.0]), np.array([4.0]))
    z = scaling.z(np.array([[108.0], [np.nan], [1e300]]))
    assert z.dtype == np.float32
    np.testing.assert_array_equal(z[:, 0], np.float32([2.0, np.nan, Z_LIMIT]))
    np.testing.assert_allclose(scaling.inverse(z[:1]), [[108.0]])


@pytest.mark.parametrize(
    ("value", "resolution", "span", "std"),
    [
        (5.0, 0.12**0.5, 0.0, 0.1**0.5 * 0.1**0.5),
        (5.0, 0.0, 200.0, 0.02),
        (5.0, 0.0, 0.0, 0.005),
        (-5.0, 0.0, 0.0, 0.005),
        (0.0, 0.0, 0.0, 1.0),
    ],
)
def test_a_constant_sensor_gets_a_floor_instead_of_a_division_by_zero(value, resolution, span, std):
    values = np.full((10, 1), value)
    scaling = fit_scaling(values, every(values), np.array([resolution]), np.array([span]))
    assert scaling.std[0] == pytest.approx(std)


def test_a_sensor_that_moves_more_than_its_floor_keeps_its_deviation():
    values = np.array([[0.0], [2.0]])
    assert fit_scaling(values, every(values), np.array([0.1]), np.array([100.0])).std[0] == 1.0


def test_a_reading_has_the_same_bits_in_any_company():
    values = np.random.default_rng(0).normal(50, 3, size=(1001, 7))
    scaling = fit_scaling(values, every(values))
    whole = scaling.z(values)
    for start, stop in ((0, 1), (3, 10), (990, 1001)):
        np.testing.assert_array_equal(scaling.z(values[start:stop]), whole[start:stop])


def test_a_sensor_without_a_reading_is_named_by_its_column():
    values = np.array([[1.0, np.nan], [2.0, np.nan]])
    with pytest.raises(ValueError, match=r"no real reading of columns \[1\]"):
        fit_scaling(values, np.isfinite(values))


def test_a_reading_that_is_not_finite_must_be_masked():
    values = np.array([[1.0], [np.inf]])
    with pytest.raises(ValueError, match="not finite"):
        fit_scaling(values, every(values))


def test_windows_do_not_straddle_segments():
    segments = np.array([7, 7, 7, 7, 9, 9, 7, 7, 7])
    np.testing.assert_array_equal(window_ends(segments, 3), [2, 3, 8])
    np.testing.assert_array_equal(window_ends(segments, 2, stride=2), [1, 3, 5, 7])
    assert window_ends(np.zeros(0, np.int64), 3).size == 0


def test_evenly_spaced_windows_are_views_of_the_rows():
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    windows = gather_windows(rows, every(rows), np.array([2, 4, 6]), 3)
    assert np.shares_memory(windows.values, rows)
    np.testing.assert_array_equal(windows.values[1], rows[2:5])


def test_unevenly_spaced_windows_are_the_right_ones():
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    windows = gather_windows(rows, every(rows), np.array([2, 3, 9]), 3)
    np.testing.assert_array_equal(windows.values, [rows[0:3], rows[1:4], rows[7:10]])


def test_no_window_at_all_is_refused():
    rows = np.zeros((2, 1), np.float32)
    with pytest.raises(FitRefused, match="got none out of 2 rows"):
        gather_windows(rows, every(rows), window_ends(np.zeros(2, np.int64), 3), 3)
