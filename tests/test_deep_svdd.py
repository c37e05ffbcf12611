"""Deep SVDD: its objectives, its centre and its guard against collapse; the contract suite does the rest."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.deep_svdd import (
    SCORER,
    Ball,
    DeepSvddSpec,
    distances,
    first_ball,
    refuse_collapse,
    svdd_loss,
    with_radius,
)
from models.scorer import FitRefused, Windows, silent
from tests.synthetic import as_windows, normal_rows

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(400, 6)), jnp.float32)
IDENTITY = Ball({"0": {"kernel": jnp.eye(2)}}, jnp.array([1.0, 0.0]), jnp.float32(2.0))
WINDOWS = as_windows(normal_rows(900, 1), 4)
SMALL = DeepSvddSpec(code=8, width=16, epochs=4, epoch_windows=512)


def test_the_objectives_are_those_of_the_paper():
    rows = jnp.array([[1.0, 1.0], [4.0, 4.0]])  # distances 1 and 5 from the centre
    np.testing.assert_allclose(distances(IDENTITY, rows), [1.0, 5.0])
    assert float(svdd_loss(IDENTITY, rows, DeepSvddSpec())) == pytest.approx(13.0)
    soft = DeepSvddSpec(objective="soft_boundary", nu=0.5)
    assert float(svdd_loss(IDENTITY, rows, soft)) == pytest.approx(4.0 + (25.0 - 4.0) / 2 / 0.5)


def test_the_centre_is_the_first_passs_mean_kept_away_from_zero():
    spec = DeepSvddSpec(code=8, width=16)
    ball = first_ball(jax.random.key(0), ROWS, spec)
    hidden = np.asarray(ROWS) @ np.asarray(ball.layers["0"]["kernel"])
    mean = (np.where(hidden > 0, hidden, 0.01 * hidden) @ np.asarray(ball.layers["1"]["kernel"])).mean(axis=0)
    clear = np.abs(mean) > 0.1
    np.testing.assert_allclose(np.asarray(ball.centre)[clear], mean[clear], atol=1e-5)
    np.testing.assert_allclose(np.abs(np.asarray(ball.centre)[~clear]), 0.1, atol=1e-6)
    assert 0 < clear.sum() < len(clear), "the draw has both kinds"


def test_no_layer_has_a_bias_so_zero_maps_to_zero_whatever_was_learnt():
    fitted = SCORER.fit(jax.random.key(0), WINDOWS, SMALL, silent)
    ball = Ball(**fitted.params["ball"])
    assert all(set(layer) == {"kernel"} for layer in ball.layers.values())
    nothing = jnp.zeros((1, ball.layers["0"]["kernel"].shape[0]))
    assert float(distances(ball, nothing)[0]) == pytest.approx(float(jnp.linalg.norm(ball.centre)))


def test_the_radius_is_the_quantile_of_the_distances():
    ball = with_radius(first_ball(jax.random.key(0), ROWS, SMALL), ROWS, 0.1)
    assert float(jnp.mean(distances(ball, ROWS) > ball.radius)) == pytest.approx(0.1, abs=0.01)


def test_with_the_soft_boundary_about_nu_of_normal_is_over_zero():
    spec = dataclasses.replace(SMALL, objective="soft_boundary", nu=0.2)
    fitted = SCORER.fit(jax.random.key(0), WINDOWS, spec, silent)
    windows = Windows(jnp.asarray(WINDOWS.values), jnp.asarray(WINDOWS.mask))
    assert float(jnp.mean(SCORER.score(fitted.params, spec, windows).score > 0.0)) == pytest.approx(
        0.2, abs=0.07
    )


def test_training_shrinks_the_ball():
    fitted = SCORER.fit(jax.random.key(0), WINDOWS, SMALL, silent)
    assert fitted.curves["validation"][-1] < 0.7 * fitted.curves["validation"][0]


def test_a_collapsed_network_is_refused():
    before = np.arange(10.0, dtype=np.float32)
    with pytest.raises(FitRefused, match="differ by 0 of their mean"):
        refuse_collapse(np.ones(10, np.float32), before, 0.01)
    with pytest.raises(FitRefused, match="ranking of the untrained"):
        refuse_collapse(3.0 * before, before, 0.01)
    refuse_collapse(before[::-1], before, 0.01)


def test_a_network_that_learns_nothing_and_an_unknown_objective_are_refused():
    with pytest.raises(FitRefused, match="untrained"):
        SCORER.fit(jax.random.key(0), WINDOWS, dataclasses.replace(SMALL, learning_rate=0.0), silent)
    with pytest.raises(FitRefused, match="expected one of one_class, soft_boundary"):
        SCORER.fit(jax.random.key(0), WINDOWS, dataclasses.replace(SMALL, objective="two"), silent)
