"""What scorers show of themselves: for most, exactly what they judge."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.neighbors import KernelDensity

from models.anogan import make
from models.bundle import build_spec
from models.dense_autoencoder import decode
from models.layers import perceptron
from models.ocsvm import outside
from models.registry import get_scorer
from models.scorer import Scores, silent
from tests.synthetic import LENGTH, SENSORS, as_windows, normal_rows

SMALL: dict[str, dict[str, Any]] = {
    "pca": {"lags": 1},
    "mewma": {"weight": 0.3},
    "var": {"memory_weight": 0.3},
    "kde": {"points": 200, "tried": 2},
    "ocsvm": {"points": 400},
    "deep_svdd": {"epochs": 2, "epoch_windows": 512, "code": 5},
    "ganomaly": {"epochs": 2, "epoch_windows": 512},
    "anogan": {"epochs": 2, "epoch_windows": 512, "noise": 5},
    "dense_autoencoder": {"epochs": 8, "epoch_windows": 512, "code": 5},
    "variational_autoencoder": {"epochs": 8, "epoch_windows": 512, "code": 4},
    "robust_autoencoder": {"epochs": 8, "epoch_windows": 512, "code": 5, "penalty": 4.0},
    "autoencoder_ocsvm": {"epochs": 8, "epoch_windows": 512, "code": 5, "points": 400},
    "ocnn": {"hidden": 4, "epochs": 1, "alternations": 1, "epoch_windows": 512},
}


class Seen(NamedTuple):
    """A scorer's parameters, its features of some windows, and its scores of them."""

    params: Any
    features: np.ndarray
    scores: Scores


@cache
def seen(name: str) -> Seen:
    scorer = get_scorer(name)
    spec = build_spec(scorer.spec, SMALL[name])
    params = scorer.fit(jax.random.key(0), as_windows(normal_rows(900, seed=3)), spec, silent).params
    some = jax.tree.map(jnp.asarray, as_windows(normal_rows(60, seed=4)))
    return Seen(params, np.asarray(scorer.features_of(params, spec, some)), scorer.score(params, spec, some))


@pytest.mark.parametrize(("name", "width"), [("pca", 2 * SENSORS), ("mewma", SENSORS), ("var", 2 * SENSORS)])
def test_a_classics_features_have_the_length_that_it_scores(name: str, width: int) -> None:
    _, features, scores = seen(name)
    assert features.shape == (len(scores.score), width)
    square = np.square(features)
    found = square.sum(axis=1) if name == "pca" else np.sqrt(square.mean(axis=1))
    np.testing.assert_allclose(found, scores.score, rtol=2e-4)


@pytest.mark.parametrize(
    ("name", "judge"),
    [
        ("ocsvm", lambda params, u: outside(params["machine"], u)),
        ("autoencoder_ocsvm", lambda params, u: outside(params["machine"], u)),
        (
            "deep_svdd",
            lambda params, z: (
                np.linalg.norm(np.asarray(z) - np.asarray(params["ball"]["centre"]), axis=1)
                / params["typical"]
            ),
        ),
    ],
)
def test_judging_the_features_gives_the_score(name: str, judge: Callable[..., jax.Array]) -> None:
    params, features, scores = seen(name)
    np.testing.assert_allclose(judge(params, jnp.asarray(features)), scores.score, rtol=1e-4, atol=1e-5)


def test_a_density_of_scikit_learns_over_the_features_ranks_as_the_score() -> None:
    params, features, scores = seen("kde")
    density = KernelDensity(bandwidth=float(params["bandwidth"])).fit(np.asarray(params["points"]))
    assert spearmanr(density.score_samples(features), scores.score).statistic < -0.9999


def test_oc_nns_features_are_what_its_response_is_a_weighted_sum_of() -> None:
    params, features, scores = seen("ocnn")
    assert spearmanr(features @ np.asarray(params["w"]), scores.score).statistic < -0.9999


def test_ganomalys_features_less_the_code_of_what_is_made_of_them_are_scored() -> None:
    params, features, scores = seen("ganomaly")
    made = params["generator"]
    rebuilt = perceptron(made["decoder"], jnp.tanh(features), jax.nn.leaky_relu)
    again = np.asarray(perceptron(made["second"], rebuilt, jax.nn.leaky_relu))
    apart = features - again - np.asarray(params["mean"])
    square = (apart * (apart @ np.asarray(params["precision"]))).sum(axis=1)
    np.testing.assert_allclose(np.sqrt(square / apart.shape[1]), scores.score, rtol=1e-3)


def test_anogans_features_are_the_noise_that_it_makes_the_expected_sample_from() -> None:
    params, features, scores = seen("anogan")
    made = make(params["pair"]["generator"], jnp.asarray(features))
    np.testing.assert_allclose(made[:, -SENSORS:], scores.expected, atol=1e-4)


@pytest.mark.parametrize("name", ["dense_autoencoder", "variational_autoencoder", "robust_autoencoder"])
def test_an_autoencoders_features_are_the_code_that_the_expected_sample_comes_from(name: str) -> None:
    params, features, scores = seen(name)
    assert features.shape[1] == SMALL[name]["code"]
    rebuilt = decode(params["weights"], jnp.asarray(features), (len(features), LENGTH, SENSORS))
    np.testing.assert_allclose(rebuilt[:, -1], scores.expected, atol=1e-4)
