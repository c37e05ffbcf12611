"""Isolation forest, one-class SVM and kernel density: scikit-learn's own scores, from plain arrays, in JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import spearmanr
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import KFold
from sklearn.neighbors import KernelDensity
from sklearn.svm import OneClassSVM

from models.fitting import evenly
from models.isolation_forest import as_arrays, isolation
from models.kde import best_bandwidth
from models.kernels import as_distance, log_kernel_mean
from models.ocsvm import outside, solved

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(600, 5)).astype(np.float32)
OTHERS = np.concatenate([RNG.normal(size=(200, 5)), 3.0 * RNG.normal(size=(200, 5))]).astype(np.float32)


@pytest.mark.parametrize("samples", [256, 100, 3])
def test_the_forest_scores_as_scikit_learns_does(samples):
    forest = IsolationForest(n_estimators=50, max_samples=samples, random_state=1).fit(NORMAL)
    arrays = as_arrays([tree.tree_ for tree in forest.estimators_], samples)
    rows = np.concatenate([NORMAL, OTHERS])
    np.testing.assert_allclose(isolation(arrays, jnp.asarray(rows)), -forest.score_samples(rows), rtol=1e-5)


def test_rows_on_a_threshold_go_the_same_way_as_in_scikit_learn():
    coarse = np.round(NORMAL * 4) / 4
    forest = IsolationForest(n_estimators=20, random_state=1).fit(coarse)
    trees = [tree.tree_ for tree in forest.estimators_]
    on_threshold = np.zeros((len(trees), 5), np.float32)
    for place, tree in enumerate(trees):
        on_threshold[place, tree.feature[0]] = tree.threshold[0]
    found = isolation(as_arrays(trees, 256), jnp.asarray(on_threshold))
    np.testing.assert_allclose(found, -forest.score_samples(on_threshold), rtol=1e-5)


@pytest.mark.parametrize(("nu", "sharpness"), [(0.05, 1.0), (0.3, 0.2), (0.1, 5.0)])
def test_the_machine_ranks_as_scikit_learns_does_and_has_its_sign(nu, sharpness):
    svm = OneClassSVM(nu=nu, gamma=sharpness / 5).fit(NORMAL.astype(np.float64))
    decision = svm.decision_function(OTHERS.astype(np.float64))
    found = np.asarray(outside(solved(jnp.asarray(NORMAL), nu, sharpness), jnp.asarray(OTHERS)))
    clear = np.abs(decision) > 1e-4
    np.testing.assert_array_equal(found[clear] > 0.0, decision[clear] < 0.0)
    assert spearmanr(found, -decision).statistic > 0.9999


def test_the_machine_gives_scikit_learns_decision_back():
    svm = OneClassSVM(nu=0.1, gamma=0.2).fit(NORMAL.astype(np.float64))
    machine = solved(jnp.asarray(NORMAL), 0.1, 1.0)
    logs = log_kernel_mean(jnp.asarray(OTHERS), machine["support"], machine["weights"], machine["gamma"])
    decision = np.exp(logs) * float(jnp.sum(machine["weights"])) - float(machine["rho"])
    np.testing.assert_allclose(
        decision, svm.decision_function(OTHERS.astype(np.float64)), rtol=1e-3, atol=1e-3
    )


def test_the_density_is_scikit_learns():
    bandwidth, entries = 0.7, 5
    gamma = jnp.float32(0.5 / bandwidth**2)
    logs = log_kernel_mean(jnp.asarray(OTHERS), jnp.asarray(NORMAL), jnp.ones(len(NORMAL)), gamma)
    found = np.asarray(logs) - entries * np.log(bandwidth * np.sqrt(2 * np.pi))
    expected = KernelDensity(bandwidth=bandwidth).fit(NORMAL).score_samples(OTHERS)
    near = expected > -40.0  # beyond, its tree stops short of the sum
    np.testing.assert_allclose(found[near], expected[near], rtol=1e-4, atol=1e-3)
    squared = ((OTHERS[:, None, :] - NORMAL[None, :, :]).astype(np.float64) ** 2).sum(axis=2)
    np.testing.assert_allclose(logs, logsumexp(-squared / (2 * bandwidth**2), axis=1, b=1 / 600), rtol=1e-3)
    np.testing.assert_allclose(
        as_distance(logs, gamma, entries), np.sqrt(-2 * bandwidth**2 * np.asarray(logs) / entries), rtol=1e-5
    )


def test_far_from_all_points_the_distance_still_grows_where_the_kernel_is_nothing():
    far = jnp.array([[100.0, 0, 0, 0, 0], [200.0, 0, 0, 0, 0]])
    logs = log_kernel_mean(far, jnp.asarray(NORMAL), jnp.ones(len(NORMAL)), jnp.float32(1.0))
    assert float(jnp.max(jnp.exp(logs))) == 0.0
    np.testing.assert_allclose(
        as_distance(logs, jnp.float32(1.0), 5), np.array([100, 200]) / np.sqrt(5), rtol=0.04
    )


def test_the_bandwidth_is_the_one_of_the_highest_likelihood_over_five_contiguous_folds():
    tried = [0.1, 0.3, 0.5, 0.8, 1.3]
    rows = np.sort(NORMAL[:300], axis=0)  # in order, so that shuffled folds would find another
    total = [
        sum(
            KernelDensity(bandwidth=h).fit(rows[train]).score(rows[held])
            for train, held in KFold(5).split(rows)
        )
        for h in tried
    ]
    assert best_bandwidth(jnp.asarray(rows), tried) == tried[int(np.argmax(total))]


def test_rows_are_thinned_evenly_and_keep_both_ends():
    np.testing.assert_array_equal(evenly(jnp.arange(11), 3), [0, 5, 10])
    np.testing.assert_array_equal(evenly(jnp.arange(3), 3), [0, 1, 2])


def test_an_untouched_key_seeds_the_forest_alike():
    from models.fitting import seed_of

    assert seed_of(jax.random.key(3)) == seed_of(jax.random.key(3)) != seed_of(jax.random.key(4))
