"""OC-NN: the paper's worked example and Theorem 1, the convex oracle, and the refusal of a collapse."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import spearmanr
from sklearn.svm import OneClassSVM

from models import lstm_autoencoder, ocnn
from models.lstm_autoencoder import LstmAutoencoderSpec
from models.ocnn import OcnnSpec, refuse_collapse
from models.ocnn_head import ACTIVATIONS, Head, ocnn_loss, order_of_quantile, respond, solve_w, theorem1_r
from models.scorer import FitRefused, Windows, silent
from tests.synthetic import as_windows, normal_rows, with_step

HEAD = Head(jnp.asarray([1.0, 2.0]), jnp.asarray([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))


def objective(w: np.ndarray, features: np.ndarray, nu: float) -> float:
    """1/2 ||w||^2 - CVaR_nu(y), in NumPy, with the boundary's fraction."""
    y = np.sort(features @ w)
    share = nu * len(y)
    weights = np.clip(share - np.arange(len(y)), 0, 1) / share
    return float(0.5 * w @ w - weights @ y)


def test_the_worked_example_of_the_paper():
    assert theorem1_r(jnp.arange(1.0, 10.0), 0.33) == 3.0


@pytest.mark.parametrize(
    ("count", "nu", "order"), [(9, 0.33, 3), (30, 0.1, 3), (10, 0.05, 1), (10, 1.0, 10), (100, 0.07, 7)]
)
def test_the_order_statistic_is_not_thrown_off_by_rounding(count, nu, order):
    assert order_of_quantile(count, nu) == order


@pytest.mark.parametrize("nu", [0.05, 0.1, 0.33, 0.5])
def test_theorem_1_r_minimises_the_loss_with_the_rest_fixed(nu):
    y = np.random.default_rng(1).normal(size=57)

    def loss(r: float) -> float:
        return np.mean(np.maximum(0, r - y)) / nu - r

    r = float(theorem1_r(jnp.asarray(y, jnp.float32), nu))
    best = minimize_scalar(loss, bounds=(y.min(), y.max()), method="bounded", options={"xatol": 1e-9}).fun
    assert loss(r) <= best + 1e-5
    assert loss(r) <= min(loss(at) for at in np.linspace(-5, 5, 5001)) + 1e-6


def test_the_loss_by_hand():
    anchor = jnp.zeros((2, 3))
    y = jnp.asarray([0.0, 1.0, 3.0, 4.0])
    # 1/2 (1 + 4) + 1/2 (1 + 1 + 1) + (2 + 1) / 4 / 0.5 - 2
    assert ocnn_loss(HEAD, anchor, y, jnp.float32(2.0), 0.5) == pytest.approx(2.5 + 1.5 + 1.5 - 2.0)


def test_the_response_by_hand():
    features = jnp.asarray([[1.0, -1.0, 3.0]])
    assert respond(HEAD, features, ACTIVATIONS["linear"])[0] == pytest.approx(1 * 4 + 2 * -1)
    assert respond(HEAD, features, ACTIVATIONS["relu"])[0] == pytest.approx(4.0)


@pytest.mark.parametrize("nu", [0.05, 0.2, 0.5])
def test_with_fixed_features_w_is_that_of_the_linear_one_class_svm(nu):
    rng = np.random.default_rng(2)
    features = np.exp(-0.5 * (rng.normal(size=(400, 6)) * np.linspace(0.3, 1.5, 6)) ** 2) / 12**0.5
    oracle = OneClassSVM(kernel="linear", nu=nu, tol=1e-8).fit(features)
    w = np.asarray(solve_w(jnp.asarray(features, jnp.float32), nu, 5000), np.float64)
    theirs = oracle.coef_[0] / (nu * len(features))  # scikit-learn scales its dual by nu n
    assert objective(w, features, nu) == pytest.approx(objective(theirs, features, nu), rel=1e-3)
    assert spearmanr(features @ w, oracle.decision_function(features)).statistic > 0.999
    np.testing.assert_allclose(w, theirs, atol=0.004 * np.linalg.norm(theirs))


def test_on_centred_features_the_linear_network_collapses_and_is_refused():
    centred = jnp.asarray(np.random.default_rng(3).normal(size=(2000, 4)), jnp.float32)
    centred = 0.2 * (centred - jnp.mean(centred, axis=0)[None, :])
    w = solve_w(centred, 0.5, 3000)
    y = centred @ w
    r = theorem1_r(y, 0.5)
    loss = float(ocnn_loss(Head(w, jnp.eye(4)), jnp.eye(4), y, r, 0.5))
    assert float(jnp.linalg.norm(w)) < 0.05
    with pytest.raises(FitRefused, match="collapsed"):
        refuse_collapse(loss, float(r), np.asarray(y), np.asarray(-y), 0.5)


@pytest.mark.parametrize(
    ("loss", "r", "y", "first", "finding"),
    [
        (0.1, 1.0, [1.0, 2.0, 3.0], [3.0, 1.0, 2.0], "a loss of 0.1"),
        (-0.1, -1.0, [1.0, 2.0, 3.0], [3.0, 1.0, 2.0], "r = -1"),
        (-0.1, 1.0, [1.0, 1.0, 1.0], [3.0, 1.0, 2.0], "differ by 0 of r"),
        (-0.1, 1.0, [1.0, 2.0, 3.0], [10.0, 20.0, 30.0], "the ranking it had before"),
        (float("nan"), 1.0, [1.0, 2.0, 3.0], [3.0, 1.0, 2.0], "a loss of nan"),
    ],
)
def test_each_sign_of_a_collapse_is_refused_by_name(loss, r, y, first, finding):
    with pytest.raises(FitRefused, match=finding):
        refuse_collapse(loss, r, np.asarray(y, np.float32), np.asarray(first, np.float32), 0.01)


def test_a_sound_fit_is_not_refused():
    refuse_collapse(-0.1, 1.0, np.asarray([1.0, 2.0, 3.0]), np.asarray([3.0, 1.0, 2.0]), 0.01)


@pytest.fixture(scope="module")
def trained():
    windows = as_windows(normal_rows(3000, 1))
    base = LstmAutoencoderSpec(hidden=16, tail=4, epochs=6, epoch_windows=1024)
    spec = OcnnSpec(hidden=16, tail=4, alternations=3, epoch_windows=1024)
    pretrained = lstm_autoencoder.fit(jax.random.key(0), windows, base, silent).params
    return pretrained, spec, ocnn.fit(jax.random.key(1), windows, spec, silent, pretrained)


def test_training_moves_w_v_and_the_encoder(trained):
    pretrained, _, fitted = trained
    sensors = pretrained["precision"].shape[0]
    assert float(jnp.std(fitted.params["w"])) > 0.0
    assert float(jnp.max(jnp.abs(fitted.params["v"] - jnp.eye(2 * sensors)))) > 1e-4
    moved = fitted.params["weights"]["encoder"] - pretrained["weights"]["encoder"]
    assert float(jnp.max(jnp.abs(moved))) > 1e-4


def test_after_training_the_loss_is_negative_and_r_positive(trained):
    curves = trained[2].curves
    assert curves["loss"][-1] < 0.0
    assert curves["r"][-1] > 0.0
    assert curves["r"][-1] == pytest.approx(float(trained[2].params["r"]))


def test_about_nu_of_normal_windows_score_above_zero(trained):
    _, spec, fitted = trained
    windows = as_windows(normal_rows(2000, 9))
    above = float(jnp.mean(score_of(ocnn.score, fitted.params, spec, windows) > 0.0))
    assert 0.2 * spec.nu < above < 4.0 * spec.nu


def score_of(function, params, spec, windows: Windows) -> jax.Array:
    result = jax.jit(function, static_argnums=1)(params, spec, windows)
    return getattr(result, "score", result)


def test_the_rows_that_every_table_carries_rank_the_same_faults(trained):
    _, spec, fitted = trained
    normal = as_windows(normal_rows(500, 5))
    faulty = with_step(normal, 2, 6.0)
    for function in (ocnn.score, ocnn.score_unweighted, ocnn.score_squares):
        low = score_of(function, fitted.params, spec, normal)
        high = score_of(function, fitted.params, spec, faulty)
        assert low.shape == (len(normal.values),)
        assert float(jnp.mean(high > jnp.quantile(low, 0.95))) > 0.9


def test_a_pretrained_autoencoder_of_another_size_is_refused(trained):
    pretrained, spec, _ = trained
    with pytest.raises(FitRefused, match="got a pretrained autoencoder of 16 hidden units, expected 8"):
        ocnn.fit(
            jax.random.key(0), as_windows(normal_rows(300, 1)), replace(spec, hidden=8), silent, pretrained
        )
