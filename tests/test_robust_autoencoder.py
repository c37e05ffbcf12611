"""Robust autoencoder: the proximal step, and what is left out of a history that is partly wrong."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import dense_autoencoder
from models.autoencoder import AutoencoderSpec
from models.robust_autoencoder import SCORER, RobustAutoencoderSpec, shortened, sparse_part
from models.scorer import FitRefused, Windows, silent
from tests.synthetic import as_windows, normal_rows

SMALL = RobustAutoencoderSpec(code=6, width=32, epochs=12, epoch_windows=1024, warm_up=2, penalty=2.0)


def test_rows_are_shortened_by_the_threshold_and_the_shorter_ones_dropped():
    rest = (
        jnp.zeros((3, 1, 2)).at[:, 0].set(jnp.array([[3.0, 4.0], [0.6, 0.8], [0.0, 1.0]]))
    )  # lengths 5, 1, 1
    found = shortened(rest, "rows", 2.0)  # threshold 2
    np.testing.assert_allclose(found[:, 0], [[1.8, 2.4], [0.0, 0.0], [0.0, 0.0]], atol=1e-6)


def test_columns_are_taken_over_all_windows():
    rest = jnp.zeros((2, 1, 3)).at[:, 0].set(jnp.array([[3.0, 1.0, 0.0], [4.0, 0.0, 1.0]]))
    found = shortened(rest, "columns", 2.5)  # lengths 5, 1, 1, threshold 2.5
    np.testing.assert_allclose(found[:, 0], [[1.5, 0.0, 0.0], [2.0, 0.0, 0.0]], atol=1e-6)


@pytest.fixture(scope="module")
def contaminated():
    """Normal windows, of which every twelfth is buried in noise."""
    windows = as_windows(normal_rows(1200, 1), 6)
    wrong = np.arange(len(windows.values)) % 12 == 0
    values = np.array(windows.values)
    values[wrong] += np.random.default_rng(2).normal(scale=3.0, size=values[wrong].shape).astype(np.float32)
    return Windows(values, np.array(windows.mask)), wrong


def test_the_wrong_windows_are_left_out_and_not_learnt(contaminated):
    windows, wrong = contaminated
    fitted = SCORER.fit(jax.random.key(0), windows, SMALL, silent)
    assert float(fitted.params["left_out"]) == pytest.approx(wrong.mean(), abs=0.04)
    on_device = Windows(jnp.asarray(windows.values), jnp.asarray(windows.mask))
    nothing = jnp.zeros_like(on_device.values)
    left_out = sparse_part(dense_autoencoder.KIND, SMALL, fitted.params["weights"], on_device, nothing)
    gone = np.asarray(left_out != 0.0).any(axis=(1, 2))
    assert gone[wrong].mean() > 0.9
    assert gone[~wrong].mean() < 0.05

    plain = AutoencoderSpec(**{f.name: getattr(SMALL, f.name) for f in dataclasses.fields(AutoencoderSpec)})
    dense = dense_autoencoder.SCORER.fit(jax.random.key(0), windows, plain, silent)

    def contrast(scores):
        return float(jnp.median(scores[wrong]) / jnp.median(scores[~wrong]))

    robust_scores = SCORER.score(fitted.params, SMALL, on_device).score
    dense_scores = dense_autoencoder.SCORER.score(dense.params, plain, on_device).score
    assert contrast(robust_scores) > 1.2 * contrast(dense_scores)


def test_nothing_is_left_out_where_the_penalty_is_large(contaminated):
    spec = dataclasses.replace(SMALL, penalty=100.0, epochs=4)
    assert float(SCORER.fit(jax.random.key(0), contaminated[0], spec, silent).params["left_out"]) == 0.0


def test_leaving_out_more_than_half_and_unknown_groups_are_refused(contaminated):
    with pytest.raises(FitRefused, match="expected at most 50%"):
        SCORER.fit(
            jax.random.key(0), contaminated[0], dataclasses.replace(SMALL, penalty=0.1, epochs=4), silent
        )
    with pytest.raises(FitRefused, match="expected one of rows, columns"):
        SCORER.fit(jax.random.key(0), contaminated[0], dataclasses.replace(SMALL, groups="cells"), silent)
