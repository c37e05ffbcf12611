"""Masked readings against NumPy's conditional mean; quadratic scores under a mask against the marginal ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from models.covariance import as_if_all_observed, quadratic, root, shrunk_covariance
from models.imputation import Imputation, conditional_mean, fill, fit_imputation, impute
from models.residuals import weighed
from models.scorer import Windows
from tests.synthetic import normal_rows


def covariance(sensors: int = 6) -> np.ndarray:
    factor = np.random.default_rng(0).normal(size=(sensors, sensors))
    return factor @ factor.T + 0.3 * np.eye(sensors)


def rows_and_mask(count: int = 50, sensors: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    rows = rng.multivariate_normal(np.zeros(sensors), covariance(sensors), size=count)
    return rows.astype(np.float32), rng.random((count, sensors)) > 0.4


def test_masked_entries_become_the_conditional_mean():
    rows, mask = rows_and_mask()
    precision = jnp.asarray(np.linalg.inv(covariance()), jnp.float32)
    filled = np.asarray(jax.jit(conditional_mean)(precision, jnp.asarray(rows), jnp.asarray(mask)))
    for row, real, got in zip(rows, mask, filled, strict=True):
        if real.any() and not real.all():
            sigma = covariance()
            want = sigma[np.ix_(~real, real)] @ np.linalg.solve(sigma[np.ix_(real, real)], row[real])
            np.testing.assert_allclose(got[~real], want, atol=2e-3)


def test_real_entries_keep_their_bits_and_a_masked_row_becomes_zero():
    rows, mask = rows_and_mask()
    mask[3], mask[4] = False, True
    precision = jnp.asarray(np.linalg.inv(covariance()), jnp.float32)
    filled = np.asarray(jax.jit(fill)(precision, jnp.asarray(rows), jnp.asarray(mask)))
    np.testing.assert_array_equal(filled[mask], rows[mask])
    np.testing.assert_array_equal(filled[3], 0.0)


def test_a_learnt_imputation_is_nearer_to_what_was_hidden_than_the_mean():
    rows = jnp.asarray(normal_rows(2000, 1))
    hidden = jnp.asarray(normal_rows(500, 2))[:, None, :]
    mask = jnp.ones(hidden.shape, bool).at[:, :, 2].set(False)
    windows = impute(fit_imputation(rows, jnp.ones(rows.shape, bool)), Windows(hidden, mask))
    error = float(jnp.mean((windows.values - hidden)[:, 0, 2] ** 2))
    assert error < 0.6 * float(jnp.mean(hidden[:, 0, 2] ** 2))


def test_distances_of_filled_residuals_are_the_marginal_ones():
    rows, mask = rows_and_mask()
    precision = jnp.asarray(np.linalg.inv(covariance()), jnp.float32)
    filled = fill(precision, jnp.asarray(rows), jnp.asarray(mask))
    distance, _ = quadratic(filled, precision)
    for row, real, got in zip(rows, mask, np.asarray(distance), strict=True):
        want = row[real] @ np.linalg.solve(covariance()[np.ix_(real, real)], row[real]) if real.any() else 0.0
        assert got == pytest.approx(want, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize(("sensors", "observed"), [(3, 2), (8, 7), (52, 40)])
@pytest.mark.parametrize("level", [0.5, 0.99, 0.999])
def test_distances_over_fewer_sensors_are_mapped_onto_all(sensors, observed, level):
    mask = jnp.asarray([[True] * observed + [False] * (sensors - observed)])
    distance = jnp.asarray([chi2(observed).ppf(level)], jnp.float32)
    assert as_if_all_observed(distance, mask)[0] == pytest.approx(chi2(sensors).ppf(level), rel=0.03)


def test_false_alarms_under_a_masked_sensor_stay_near_nu():
    sigma = covariance()
    rows = np.random.default_rng(5).multivariate_normal(np.zeros(6), sigma, size=40_000).astype(np.float32)
    precision = jnp.asarray(np.linalg.inv(sigma), jnp.float32)
    whole = jnp.ones(rows.shape, bool)
    limit = jnp.quantile(weighed(jnp.asarray(rows), whole, precision)[0], 0.99)
    for sensor in range(6):
        score, _ = weighed(jnp.asarray(rows), whole.at[:, sensor].set(False), precision)
        assert 0.5 * 0.01 <= float(jnp.mean(score > limit)) <= 1.6 * 0.01


def test_the_largest_contribution_is_the_one_whose_correction_helps_most():
    precision = np.linalg.inv(covariance())
    residual = np.random.default_rng(6).normal(size=6)
    _, shares = quadratic(jnp.asarray(residual[None], jnp.float32), jnp.asarray(precision, jnp.float32))
    whole = residual @ precision @ residual
    for sensor, share in enumerate(np.asarray(shares)[0]):
        unit = np.eye(6)[sensor]
        best = min(
            (residual - step * unit) @ precision @ (residual - step * unit)
            for step in np.linspace(-20, 20, 40_001)
        )
        assert share == pytest.approx(whole - best, rel=1e-3, abs=1e-3)


def test_a_root_squared_is_the_matrix():
    matrix = jnp.asarray(covariance(), jnp.float32)
    np.testing.assert_allclose(root(matrix) @ root(matrix), matrix, rtol=1e-4, atol=1e-4)


def test_a_covariance_of_constant_or_few_rows_can_be_inverted():
    for rows in (jnp.zeros((100, 4)), jnp.ones((3, 8))):
        values = np.linalg.eigvalsh(np.asarray(shrunk_covariance(rows)))
        assert values.min() > 0


def test_a_row_is_imputed_to_the_same_bits_whatever_is_masked_beside_it():
    rows, mask = rows_and_mask(64)
    mask[0] = [True, True, False, True, True, True]
    lightly = np.ones_like(mask)
    lightly[0] = mask[0]
    imputation = Imputation(jnp.asarray(np.linalg.inv(covariance()), jnp.float32))
    among_many, alone = (
        np.asarray(
            jax.jit(impute)(imputation, Windows(jnp.asarray(rows)[:, None], jnp.asarray(m)[:, None])).values
        )
        for m in (mask, lightly)
    )
    np.testing.assert_array_equal(among_many[0], alone[0])
    filled = np.asarray(jax.jit(fill)(imputation.precision, jnp.asarray(rows), jnp.asarray(mask)))
    np.testing.assert_allclose(among_many[:, 0], filled, rtol=1e-6, atol=1e-6)
