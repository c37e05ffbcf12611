"""The feature-major LSTM against flax and NumPy; what its training promises."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import lstm_training
from models.lstm import reconstruct_tail
from models.lstm_autoencoder import LstmAutoencoderSpec, fit, residuals_of
from models.scorer import FitRefused, Windows, silent
from tests.synthetic import as_windows, normal_rows

SMALL = LstmAutoencoderSpec(hidden=8, tail=4, epochs=3, epoch_windows=256)


def random_weights(sensors: int, hidden: int, length: int):
    network = lstm_training.Autoencoder(hidden)
    variables = jax.jit(network.init)(jax.random.key(1), jnp.zeros((1, length, sensors)))
    rng = np.random.default_rng(2)
    noisy = jax.tree.map(
        lambda leaf: jnp.asarray(leaf + 0.1 * rng.normal(size=leaf.shape), jnp.float32), variables
    )
    return network, noisy


@pytest.mark.parametrize(
    ("sensors", "length", "hidden", "batch"), [(8, 64, 64, 64), (3, 10, 5, 7), (5, 12, 6, 256)]
)
def test_the_feature_major_pass_agrees_with_flax(sensors, length, hidden, batch):
    network, variables = random_weights(sensors, hidden, length)
    values = jax.random.normal(jax.random.key(3), (batch, length, sensors))
    reference = jax.jit(network.apply)(variables, values)
    for rows in (1, length):
        tail = jax.jit(reconstruct_tail, static_argnums=2)(lstm_training.pack(variables), values, rows)
        np.testing.assert_allclose(tail, reference[:, -rows:], atol=1e-5)


def test_the_flax_network_is_the_lstm_of_the_textbook():
    network, variables = random_weights(2, 3, 4)
    values = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    tree = jax.tree.map(np.asarray, variables["params"])

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def run(cell, inputs):
        h, c, states = np.zeros(3), np.zeros(3), []
        for x in inputs:
            i, f, g, o = (
                x @ cell["i" + n]["kernel"] + h @ cell["h" + n]["kernel"] + cell["h" + n]["bias"]
                for n in "ifgo"
            )
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            states.append(h)
        return states

    code = run(tree["encoder"], values)[-1]
    newest_first = run(tree["decoder"], [code] * 4)
    expected = [h @ tree["output"]["kernel"] + tree["output"]["bias"] for h in newest_first][::-1]
    np.testing.assert_allclose(network.apply(variables, jnp.asarray(values)[None])[0], expected, atol=1e-5)


def test_packing_and_unpacking_changes_no_bit():
    _, variables = random_weights(3, 5, 6)
    again = lstm_training.unpack(lstm_training.pack(variables))
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_residuals_count_only_real_samples():
    values = jnp.asarray([[[9.0], [4.0], [2.0], [6.0]]])
    mask = jnp.asarray([[[True], [True], [False], [True]]])
    off = residuals_of(Windows(values, mask), jnp.ones((1, 4, 1)), 3)
    assert off.last[0, 0] == 5.0
    # 3 and 5 are real: their mean 4, shrunk by sqrt(2 / 3) because two samples vary more than three
    np.testing.assert_allclose(off.mean[0, 0], 4.0 * np.sqrt(2 / 3), rtol=1e-6)


def test_validation_is_newer_than_training_and_shares_no_row_with_it():
    rows = np.arange(200, dtype=np.float32)[:, None]
    older, newest = lstm_training.split_in_time(as_windows(rows, 10), 0.2)
    assert np.max(older.values) < np.min(newest.values)
    assert len(newest.values) == int(191 * 0.2)


def test_training_lowers_the_held_out_loss_and_keeps_the_best_epoch():
    windows = as_windows(normal_rows(1500, 1))
    spec = LstmAutoencoderSpec(hidden=16, tail=4, epochs=12, epoch_windows=1024)
    curves = fit(jax.random.key(0), windows, spec, silent).curves
    assert min(curves["validation"]) < 0.9 * curves["validation"][0]


def test_training_stops_when_the_validation_loss_stops_falling():
    noise = as_windows(np.random.default_rng(0).normal(size=(260, 3)).astype(np.float32), 8)
    spec = LstmAutoencoderSpec(hidden=32, epochs=60, epoch_windows=2048, patience=1, learning_rate=0.02)
    curve = fit(jax.random.key(0), noise, spec, silent).curves["validation"]
    assert len(curve) < 60
    assert len(curve) - 1 - int(np.argmin(curve)) == 1


def test_progress_is_told_of_every_epoch():
    told = []
    fit(
        jax.random.key(0),
        as_windows(normal_rows(400, 1)),
        SMALL,
        lambda done, total, values: told.append((done, total, set(values))),
    )
    assert told == [(done, 3, {"train", "validation"}) for done in (1, 2, 3)]


def test_a_loss_that_is_not_finite_refuses_the_fit():
    values = np.array(as_windows(normal_rows(400, 1)).values)
    values[5, 3, 2] = np.inf
    with pytest.raises(FitRefused, match="not finite"):
        fit(jax.random.key(0), Windows(values, np.ones(values.shape, bool)), SMALL, silent)


def test_too_few_windows_refuse_the_fit():
    with pytest.raises(FitRefused, match="got 1 windows"):
        fit(jax.random.key(0), as_windows(normal_rows(24, 1)), SMALL, silent)
