"""The core of the window autoencoders and its four kinds: their mathematics; the contract suite does the rest."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import conv_autoencoder, denoising_autoencoder, dense_autoencoder, variational_autoencoder
from models.autoencoder import AutoencoderSpec, confirmed, fit, reconstruction_loss, residuals_of, score
from models.denoising_autoencoder import DenoisingAutoencoderSpec, corrupted
from models.residuals import step_signatures
from models.scorer import FitRefused, Windows, silent
from models.signatures import measured_signatures
from models.variational_autoencoder import VariationalAutoencoderSpec, divergence
from tests.synthetic import SENSORS, as_windows, normal_rows, with_masked, with_step

SMALL = AutoencoderSpec(code=4, width=32, epochs=6, epoch_windows=1024)
WINDOWS = as_windows(normal_rows(900, 1), 8)
HELD = Windows(*map(jnp.asarray, as_windows(normal_rows(200, 2), 8)))


@pytest.fixture(scope="module")
def dense():
    return fit(dense_autoencoder.KIND, jax.random.key(0), WINDOWS, SMALL, silent)


def test_the_score_is_the_mahalanobis_distance_of_the_last_samples_residual(dense):
    rebuilt = dense_autoencoder.rebuild(dense.params["weights"], SMALL, HELD.values)
    residual = np.asarray(HELD.values - rebuilt)[:, -1]
    precision = np.asarray(dense.params["precision"])
    expected = np.sqrt(np.einsum("bi,ij,bj->b", residual, precision, residual) / SENSORS)
    found = score(dense_autoencoder.KIND, dense.params, SMALL, HELD)
    np.testing.assert_allclose(found.score, expected, rtol=1e-4)
    np.testing.assert_allclose(found.expected, rebuilt[:, -1], atol=1e-5)


def test_the_precision_is_the_inverse_covariance_of_training_residuals(dense):
    residuals = np.asarray(residuals_of(dense_autoencoder.KIND, dense.params["weights"], SMALL, WINDOWS))
    assert residuals.shape == (len(WINDOWS.values), SENSORS)
    covariance = residuals.T @ residuals / len(residuals)
    np.testing.assert_allclose(dense.params["precision"] @ covariance, np.eye(SENSORS), atol=0.15)


def test_a_window_that_is_masked_at_its_end_teaches_no_covariance():
    masked = with_masked(WINDOWS, 0)
    half = Windows(
        np.concatenate([WINDOWS.values, masked.values]), np.concatenate([WINDOWS.mask, masked.mask])
    )
    weights = dense_autoencoder.init(jax.random.key(0), SMALL, 8, SENSORS)
    assert len(residuals_of(dense_autoencoder.KIND, weights, SMALL, half)) == len(WINDOWS.values)


@pytest.mark.parametrize(
    "module", [dense_autoencoder, conv_autoencoder, denoising_autoencoder, variational_autoencoder]
)
def test_windows_of_few_degrees_of_freedom_are_rebuilt(module):
    phase = np.random.default_rng(3).uniform(0, 6.28, (600, 1, 1))
    time = np.arange(11)[None, :, None]
    lag = np.arange(3)[None, None, :]
    values = np.sqrt(2) * np.sin(phase + 0.5 * time + lag).astype(np.float32)
    windows = Windows(values, np.ones(values.shape, bool))
    spec = module.SCORER.spec(code=3, width=32, epochs=60, epoch_windows=512, held_out=0.2)
    fitted = module.SCORER.fit(jax.random.key(0), windows, spec, silent)
    held = Windows(jnp.asarray(values[-50:]), jnp.ones((50, 11, 3), bool))
    assert float(reconstruction_loss(module.KIND, fitted.params["weights"], spec, held)) < 0.05


@pytest.mark.parametrize(
    "module", [dense_autoencoder, conv_autoencoder, denoising_autoencoder, variational_autoencoder]
)
def test_a_network_that_rebuilds_more_than_held_out_windows_confirm_rebuilds_less(module):
    spec = module.SCORER.spec(code=4, width=16, epochs=4, epoch_windows=1024)
    weights = module.SCORER.fit(jax.random.key(0), WINDOWS, spec, silent).params["weights"]

    def rebuilt(weights):
        return np.asarray(module.KIND.rebuild(weights, spec, HELD.values))

    best = np.sum(rebuilt(weights) * HELD.values) / np.sum(rebuilt(weights) ** 2)
    too_much = module.KIND.scaled(weights, jnp.float32(3.0 * best))
    np.testing.assert_allclose(rebuilt(too_much), 3.0 * best * rebuilt(weights), rtol=1e-4, atol=1e-5)
    confirmed_part = rebuilt(confirmed(module.KIND, too_much, spec, HELD))
    np.testing.assert_allclose(confirmed_part, best * rebuilt(weights), rtol=1e-3, atol=1e-4)
    too_little = module.KIND.scaled(weights, jnp.float32(0.5 * best))
    np.testing.assert_allclose(
        rebuilt(confirmed(module.KIND, too_little, spec, HELD)),
        0.5 * best * rebuilt(weights),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_network_that_rebuilds_no_better_than_the_mean_is_refused():
    still = dataclasses.replace(SMALL, learning_rate=0.0, epochs=1)
    with pytest.raises(FitRefused, match="collapsed"):
        fit(dense_autoencoder.KIND, jax.random.key(0), WINDOWS, still, silent)


def test_measured_signatures_of_a_linear_forecast_are_those_of_its_coefficients():
    forecast = 0.3 * np.random.default_rng(1).normal(size=(2 * SENSORS, SENSORS)).astype(np.float32)

    def residual(values):
        past = values[:, -3:-1, :].reshape(values.shape[0], -1)
        return values[:, -1, :] - past @ forecast

    found = measured_signatures(residual, HELD.values)  # windows of 8: ages 1, 2 and 8
    expected = step_signatures(jnp.asarray(forecast))  # ages 1, 2 and 3 or more
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_step_of_any_age_names_its_sensor(dense):
    found = []
    for samples in (1, 4, 8):
        for sensor in range(SENSORS):
            windows = Windows(*map(jnp.asarray, with_step(HELD, sensor, 8.0, samples)))
            contributions = score(dense_autoencoder.KIND, dense.params, SMALL, windows).contributions
            found.append(float(jnp.mean(jnp.argmax(contributions, axis=1) == sensor)))
    assert np.mean(found) > 0.9


def test_corruption_hides_whole_sensors_and_adds_noise_to_the_rest():
    spec = DenoisingAutoencoderSpec(noise=0.5, hidden_share=0.25)
    values = jnp.full((2000, 4, 3), 7.0)
    found = np.asarray(corrupted(values, spec, jax.random.key(0)))
    hidden = (found == 0.0).all(axis=1)
    assert ((found == 0.0) == hidden[:, None, :]).all()
    assert hidden.mean() == pytest.approx(0.25, abs=0.02)
    shown = found[found != 0.0]
    assert (shown.mean(), shown.std()) == pytest.approx((7.0, 0.5), abs=0.02)


def test_the_divergence_is_that_of_two_normals():
    mean, log_variance = jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([[0.0, np.log(2.0)], [0.0, 0.0]])
    np.testing.assert_allclose(
        divergence(mean, log_variance), [0.5 + 0.5 * (2.0 - np.log(2.0) - 1.0), 0.0], rtol=1e-6
    )


def test_the_variational_code_is_used_and_its_noise_is_learnt():
    spec = VariationalAutoencoderSpec(code=4, width=32, epochs=30, epoch_windows=1024)
    fitted = variational_autoencoder.SCORER.fit(jax.random.key(0), WINDOWS, spec, silent)
    mean, log_variance = variational_autoencoder._encode(fitted.params["weights"], HELD.values)
    assert float(jnp.mean(divergence(mean, log_variance))) > 1.0
    left = reconstruction_loss(variational_autoencoder.KIND, fitted.params["weights"], spec, HELD)
    learnt = np.mean(np.exp(fitted.params["weights"]["log_variance"]))
    assert learnt == pytest.approx(float(left), rel=0.5)
