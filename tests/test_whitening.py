"""The last samples whitened, and contributions by leaving each sensor out."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from models.covariance import shrunk_covariance
from models.scorer import FitRefused, Windows
from models.whitening import fit_whitening, scores_of, whiten, without_each
from tests.synthetic import SENSORS, as_windows, normal_rows, with_masked

LAGS = 2
WINDOWS = as_windows(normal_rows(2000, 1), 5)
HELD = Windows(*map(jnp.asarray, as_windows(normal_rows(60, 2), 5)))
STACKED = np.asarray(WINDOWS.values[:, -LAGS - 1 :]).reshape(len(WINDOWS.values), -1)
ROWS = np.asarray(HELD.values[:, -LAGS - 1 :]).reshape(len(HELD.values), -1)
COVARIANCE = np.asarray(shrunk_covariance(jnp.asarray(STACKED)), np.float64)


@pytest.fixture(scope="module")
def fitted():
    return fit_whitening(WINDOWS, LAGS)


def test_whitened_training_rows_are_nearly_uncorrelated_with_unit_variance(fitted):
    covariance = np.cov(np.asarray(fitted[1]).T, bias=True)
    assert np.abs(covariance - np.eye(len(covariance))).max() < 0.2  # what shrinking leaves


def test_the_length_of_u_is_the_mahalanobis_distance(fitted):
    expected = np.einsum("bi,ij,bj->b", ROWS, np.linalg.inv(COVARIANCE), ROWS)
    np.testing.assert_allclose(np.sum(whiten(fitted[0], HELD).u ** 2, axis=1), expected, rtol=2e-3)


def conditional_mean(missing: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """By the textbook: S_mo S_oo^-1 x_o."""
    there = ~missing
    gain = COVARIANCE[np.ix_(missing, there)] @ np.linalg.inv(COVARIANCE[np.ix_(there, there)])
    filled = rows.copy()
    filled[:, missing] = rows[:, there] @ gain.T
    return filled


def test_leaving_a_sensor_out_puts_its_conditional_mean_in_its_place(fitted):
    whitening = fitted[0]
    without = np.asarray(without_each(whitening["planes"], whiten(whitening, HELD).u))
    for sensor in range(SENSORS):
        missing = np.arange(ROWS.shape[1]) % SENSORS == sensor
        expected = conditional_mean(missing, ROWS) @ np.asarray(whitening["root"])
        np.testing.assert_allclose(without[:, sensor], expected, atol=5e-3)


def test_expected_is_the_last_samples_conditional_mean_given_all_else(fitted):
    expected = np.asarray(whiten(fitted[0], HELD).expected)
    for sensor in range(SENSORS):
        missing = np.arange(ROWS.shape[1]) == LAGS * SENSORS + sensor
        np.testing.assert_allclose(
            expected[:, sensor], conditional_mean(missing, ROWS)[:, missing][:, 0], atol=5e-3
        )


def test_a_contribution_is_the_fall_of_the_score_and_of_a_masked_sensor_nothing(fitted):
    whitening = fitted[0]

    def longest(rows):
        return jnp.max(jnp.abs(rows), axis=1)

    found = scores_of(longest, whitening, HELD)
    u = np.asarray(whiten(whitening, HELD).u)
    basis = np.asarray(whitening["planes"])[3]
    expected = np.maximum(np.abs(u).max(axis=1) - np.abs(u - u @ basis @ basis.T).max(axis=1), 0.0)
    np.testing.assert_allclose(found.score, np.abs(u).max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.contributions[:, 3], expected, atol=1e-4)
    masked = Windows(*map(jnp.asarray, with_masked(HELD, 3)))
    assert float(jnp.max(scores_of(longest, whitening, masked).contributions[:, 3])) == 0.0


def test_a_window_that_is_too_short_for_the_lags_is_refused():
    with pytest.raises(FitRefused, match="at least 9"):
        fit_whitening(WINDOWS, 8)
