"""The feature-major LSTM against flax and NumPy; what its training promises."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import var
from models.cross_fitting import cross_fitted, fold_forecasts
from models.innovations import linear_forecasts
from models.lstm import code, corrections
from models.lstm_autoencoder import LstmAutoencoderSpec, confirmed_share, fit, past, score
from models.lstm_network import Autoencoder, Guess, pack, unpack
from models.lstm_training import Linear, losses, split_in_time
from models.scorer import FitRefused, Windows, silent
from models.var import VarSpec
from tests.synthetic import as_windows, normal_rows

SMALL = LstmAutoencoderSpec(hidden=8, tail=4, epochs=3, epoch_windows=256)


@cache
def random_weights(sensors: int, hidden: int, length: int, tail: int = 3):
    network = Autoencoder(hidden, tail)
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
    reference = jax.jit(network.apply)(variables, values).corrections
    np.testing.assert_allclose(jax.jit(corrections)(pack(variables), values), reference, atol=1e-5)


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

    states = run(tree["encoder"], values)
    newest_first = run(tree["decoder"], [states[-1]] * 3)
    rebuilt = [h @ tree["output"]["kernel"] + tree["output"]["bias"] for h in newest_first][::-1]
    corrections = [h @ tree["forecast"]["kernel"] for h in [np.zeros(3), *states[:-1]]]
    guess = jax.jit(network.apply)(variables, jnp.asarray(values)[None])
    np.testing.assert_allclose(guess.rebuilt[0], rebuilt, atol=1e-5)
    np.testing.assert_allclose(guess.corrections[0], corrections, atol=1e-5)
    np.testing.assert_allclose(code(pack(variables), jnp.asarray(values)[None])[0], states[-1], atol=1e-5)


def test_packing_and_unpacking_changes_no_bit():
    _, variables = random_weights(3, 5, 6)
    again = unpack(pack(variables))
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_the_last_sample_is_not_used_to_forecast_itself():
    _, variables = random_weights(3, 5, 6)
    values = jax.random.normal(jax.random.key(3), (4, 6, 3))
    moved = values.at[:, -1].add(5.0)
    weights = pack(variables)
    np.testing.assert_array_equal(corrections(weights, values), corrections(weights, moved))
    other = corrections(weights, values.at[:, -2].add(5.0))
    assert float(jnp.min(jnp.abs((other - corrections(weights, values))[:, -1]))) > 0.0
    np.testing.assert_array_equal(other[:, :-1], corrections(weights, values)[:, :-1])


def test_linear_forecasts_at_all_samples_are_those_of_the_last_one_window_by_window():
    rng = np.random.default_rng(4)
    linear = jnp.asarray(rng.normal(size=(6, 2)), jnp.float32)
    values = jnp.asarray(rng.normal(size=(3, 7, 2)), jnp.float32)
    everywhere = linear_forecasts(linear, values)
    for end in range(4, 8):
        np.testing.assert_allclose(
            everywhere[:, end - 4], past(values[:, :end], linear) @ linear, rtol=1e-5, atol=1e-6
        )


def test_the_losses_count_only_real_entries():
    values = jnp.asarray([[[9.0], [4.0], [2.0], [6.0]]])
    mask = jnp.asarray([[[True], [True], [False], [True]]])
    guess = Guess(corrections=jnp.full((1, 4, 1), 1.0), rebuilt=jnp.asarray([[[5.0], [5.0]]]))
    # one lag of weight 1/2: of the samples 2 to 4 the third is masked; 4 - 4.5 - 1 and 6 - 1 - 1, root 2
    each = losses(guess, Linear(jnp.full((1, 1), 0.5), jnp.full((1, 1), 2.0)), Windows(values, mask))
    assert each.forecast == pytest.approx((3.0**2 + 8.0**2) / 2)
    assert each.reconstruction == pytest.approx((6.0 - 5.0) ** 2)


def constant_correction(values: jax.Array, network_says: float):
    """Weights with which the network adds about the same to the forecast of every window."""
    _, variables = random_weights(2, 3, values.shape[1])
    weights = pack(variables)
    encoder = jnp.zeros_like(weights.encoder).at[:, -1].set(5.0)  # every gate open
    open_gates = weights._replace(encoder=encoder, forecast=jnp.ones((1, 3)))
    state = float(corrections(open_gates, values)[0, -1, 0])
    forecast = jnp.zeros((2, 3)).at[0].set(network_says / state)
    return weights._replace(encoder=encoder, forecast=forecast)


@pytest.mark.parametrize(("says", "truth", "share"), [(0.5, 0.5, 1.0), (2.0, 1.0, 0.5), (1.0, -1.0, 0.0)])
def test_of_the_correction_as_much_is_kept_as_held_out_windows_confirm(says, truth, share):
    rng = np.random.default_rng(5)
    values = rng.normal(size=(20_000, 4, 2)).astype(np.float32) * 0.1
    values[:, -1, 0] += truth
    windows = Windows(jnp.asarray(values), jnp.ones(values.shape, bool))
    linear = {"forecast": jnp.zeros((4, 2)), "precision": jnp.eye(2)}
    kept = confirmed_share(constant_correction(windows.values, says), linear, windows)
    assert float(kept) == pytest.approx(share, abs=0.01)


def test_what_chance_explains_is_not_kept():
    values = np.random.default_rng(6).normal(size=(60, 4, 2)).astype(np.float32)
    values[:, -1, 0] += 0.1
    windows = Windows(jnp.asarray(values), jnp.ones(values.shape, bool))
    linear = {"forecast": jnp.zeros((4, 2)), "precision": jnp.eye(2)}
    assert float(confirmed_share(constant_correction(windows.values, 0.1), linear, windows)) == 0.0


def test_cross_fitted_residuals_come_from_forecasts_of_the_other_folds():
    windows = as_windows(normal_rows(200, 1)[:, :2], 6)
    order, ridge, folds = 2, 0.1, 4
    values = windows.values.astype(float)
    every_third = slice(1, None, 3)
    forecasts = fold_forecasts(windows, order, ridge, folds)
    found = np.asarray(cross_fitted(forecasts, jnp.asarray(windows.values[every_third]), every_third))
    before, last = values[:, -3:-1].reshape(-1, 4), values[:, -1]
    fold = np.arange(len(last)) * folds // len(last)
    for left_out in range(folds):
        x, y = before[fold != left_out], last[fold != left_out]
        linear = np.linalg.solve(x.T @ x + ridge * len(x) * np.eye(4), x.T @ y)
        mine = values[every_third][fold[every_third] == left_out]
        for at in range(2, 6):
            expected = mine[:, at] - mine[:, at - 2 : at].reshape(-1, 4) @ linear
            np.testing.assert_allclose(found[fold[every_third] == left_out][:, at - 2], expected, atol=1e-4)


def test_untrained_it_is_the_linear_forecast():
    windows = as_windows(normal_rows(600, 1))
    spec = replace(SMALL, epochs=1, learning_rate=0.0)
    same = VarSpec(spec.order, spec.ridge, spec.memory_weight)
    linear = var.fit(jax.random.key(0), windows, same, silent).params
    found = score(fit(jax.random.key(0), windows, spec, silent).params, spec, windows)
    expected = var.score(linear, same, windows)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def squaring_rows(count: int, seed: int) -> np.ndarray:
    """White noise, and beside it its square one sample later: no linear forecast sees it."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=count + 1)
    squares = (noise[:-1] ** 2 - 1.0) / 2**0.5 + 0.1 * rng.normal(size=count)
    return np.stack([noise[1:], squares], axis=1).astype(np.float32)


def test_where_the_past_holds_more_than_a_line_the_network_forecasts_it():
    spec = replace(SMALL, epochs=12, epoch_windows=2048, learning_rate=0.02)
    params = fit(jax.random.key(0), as_windows(squaring_rows(3000, 1), 8), spec, silent).params
    new = as_windows(squaring_rows(1000, 2), 8)
    off = np.asarray(score(params, spec, new).expected) - new.values[:, -1]
    assert float(params["share"]) > 0.5
    assert np.mean(off[:, 1] ** 2) < 0.5 * np.var(new.values[:, -1, 1])


def test_validation_is_newer_than_training_and_shares_no_row_with_it():
    rows = np.arange(200, dtype=np.float32)[:, None]
    older, newest = split_in_time(as_windows(rows, 10), 0.2)
    assert np.max(older.values) < np.min(newest.values)
    assert len(newest.values) == int(191 * 0.2)


def test_training_stops_when_the_validation_loss_stops_falling():
    noise = as_windows(np.random.default_rng(0).normal(size=(260, 3)).astype(np.float32), 8)
    spec = replace(SMALL, epochs=60, patience=1, learning_rate=0.02)
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
    values[::7, 3, 2] = np.inf  # often enough to be drawn
    with pytest.raises(FitRefused, match="not finite"):
        fit(jax.random.key(0), Windows(values, np.ones(values.shape, bool)), SMALL, silent)


def test_too_few_windows_refuse_the_fit():
    with pytest.raises(FitRefused, match="got 1 windows"):
        fit(jax.random.key(0), as_windows(normal_rows(24, 1)), SMALL, silent)
