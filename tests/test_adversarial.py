"""GANomaly and AnoGAN: their losses by hand, the latent search, and what is refused."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import anogan, ganomaly
from models.adversary import discriminator, discriminator_loss, feature_gap, seen_features, verdict
from models.scorer import FitRefused, silent
from tests.synthetic import SENSORS, as_windows, normal_rows

RNG = np.random.default_rng(0)
REAL = jnp.asarray(RNG.normal(size=(20, 4)), jnp.float32)
MADE = jnp.asarray(RNG.normal(1.0, 2.0, size=(20, 4)), jnp.float32)
JUDGE = discriminator(jax.random.key(0), 4, 8)
WINDOWS = as_windows(normal_rows(700, 1), 4)


def numpy_features(rows):
    hidden = np.asarray(rows) @ np.asarray(JUDGE["hidden"]["kernel"]) + np.asarray(JUDGE["hidden"]["bias"])
    return np.where(hidden > 0, hidden, 0.2 * hidden)


def test_the_discriminators_loss_is_the_cross_entropy_of_its_verdicts():
    np.testing.assert_allclose(seen_features(JUDGE, REAL), numpy_features(REAL), rtol=1e-4, atol=1e-5)
    real, made = (1.0 / (1.0 + np.exp(-np.asarray(verdict(JUDGE, rows)))) for rows in (REAL, MADE))
    expected = -np.log(real).mean() - np.log(1.0 - made).mean()
    assert float(discriminator_loss(JUDGE, REAL, MADE)) == pytest.approx(expected, rel=1e-4)


def test_the_feature_gap_is_between_means_and_nothing_for_equal_rows():
    expected = ((numpy_features(REAL).mean(axis=0) - numpy_features(MADE).mean(axis=0)) ** 2).sum()
    assert float(feature_gap(JUDGE, REAL, MADE)) == pytest.approx(expected, rel=1e-4)
    assert float(feature_gap(JUDGE, REAL, REAL[::-1])) == pytest.approx(0.0, abs=1e-6)


def test_the_generators_three_losses_are_weighted_as_asked():
    spec = ganomaly.GanomalySpec(width=8, code=3)
    weights = ganomaly.generator(jax.random.key(1), 4, spec)
    seen = ganomaly.coded(weights, REAL)
    assert [part.shape for part in seen] == [(20, 3), (20, 4), (20, 3)]
    parts = {
        "adversarial": float(feature_gap(JUDGE, REAL, seen.rebuilt)),
        "contextual": np.abs(np.asarray(REAL - seen.rebuilt)).mean(),
        "encoder": (np.asarray(seen.z - seen.again) ** 2).mean(),
    }
    for name, expected in parts.items():
        alone = dataclasses.replace(spec, **{each: float(each == name) for each in parts})
        assert float(ganomaly.generator_loss(weights, JUDGE, REAL, alone)) == pytest.approx(
            expected, rel=1e-4
        )


def test_ganomalys_score_is_the_whitened_latent_difference():
    spec = ganomaly.GanomalySpec(width=16, epochs=3, epoch_windows=512)
    fitted = ganomaly.SCORER.fit(jax.random.key(0), WINDOWS, spec, silent)
    rows = jnp.asarray(RNG.normal(size=(30, 12)), jnp.float32)
    apart = np.asarray(ganomaly.difference(fitted.params["generator"], rows)) - np.asarray(
        fitted.params["mean"]
    )
    precision = np.asarray(fitted.params["precision"])
    assert precision.shape == (12, 12), "as many units as the two last samples have entries"
    windows = np.zeros((30, 4, 6), np.float32)
    windows[:, -2:] = (
        np.asarray(rows) @ np.linalg.inv(np.asarray(fitted.params["whitening"]["root"]))
    ).reshape(30, 2, 6)
    found = ganomaly.SCORER.score(
        fitted.params, spec, ganomaly.Windows(jnp.asarray(windows), jnp.ones(windows.shape, bool))
    )
    expected = np.sqrt(np.einsum("bi,ij,bj->b", apart, precision, apart) / 12)
    np.testing.assert_allclose(found.score, expected, rtol=1e-2)


def line_pair() -> anogan.Pair:
    """A generator of a line through 0 in three dimensions, and a discriminator that sees nothing."""
    made = {"0": {"kernel": jnp.array([[2.0, 1.0, 0.0]])}}
    blind = jax.tree.map(jnp.zeros_like, discriminator(jax.random.key(0), 3, 4))
    return anogan.Pair(made, blind)


def test_the_search_finds_the_nearest_row_that_the_generator_can_make():
    spec = anogan.AnoganSpec(noise=1, prior=0.0, search_steps=200, search_rate=0.1)
    rows = jnp.array([[2.0, 1.0, 5.0], [1.0, -2.0, 0.0], [0.0, 5.0, 1.0]])
    direction = np.array([2.0, 1.0, 0.0])
    expected = np.outer(np.asarray(rows) @ direction / 5.0, direction)
    np.testing.assert_allclose(anogan.nearest(line_pair(), rows, spec), expected, atol=1e-3)


def test_a_rows_search_does_not_depend_on_the_rows_beside_it():
    spec = anogan.AnoganSpec(noise=3, width=8)
    pair = anogan.first_pair(jax.random.key(0), 4, spec)
    alone = anogan.nearest(pair, REAL, spec)
    beside = anogan.nearest(pair, REAL.at[1:].set(1e4), spec)
    np.testing.assert_array_equal(alone[0], beside[0])


def test_gradients_are_bounded_and_small_ones_are_as_they_are():
    found = anogan.bounded(jnp.array([[3.0, 4.0], [0.3, 0.4]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)


@pytest.mark.parametrize("module", [ganomaly, anogan])
def test_a_generator_that_makes_nothing_like_the_windows_is_refused(module):
    refuse = module.refuse_useless if module is ganomaly else module.refuse_collapse
    refuse(0.9, 1.0)
    for error in (1.0, 2.0, float("nan")):
        with pytest.raises(FitRefused, match="collapsed"):
            refuse(error, 1.0)


def test_an_untrained_ganomaly_is_refused():
    spec = ganomaly.GanomalySpec(width=16, epochs=1, epoch_windows=512, learning_rate=0.0)
    with pytest.raises(FitRefused, match="collapsed"):
        ganomaly.SCORER.fit(jax.random.key(0), WINDOWS, spec, silent)


def test_anogan_fits_fewer_windows_than_it_makes_readings():
    few = as_windows(normal_rows(7 * SENSORS + 7, 4), 8)
    assert len(few.values) < 8 * SENSORS
    fitted = anogan.SCORER.fit(jax.random.key(0), few, anogan.AnoganSpec(samples=8, epochs=20), silent)
    assert np.isfinite(fitted.params["precision"]).all()
