"""Forecast errors of a window and what they add up to, against NumPy loops."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from models import var
from models.innovations import Innovations, innovations, newest, onset_signatures, summed
from models.residuals import Weighed, weighed_together
from models.scorer import FitRefused, Windows, silent
from models.var import VarSpec
from tests.synthetic import as_windows

SENSORS, LENGTH, ORDER, WEIGHT = 3, 6, 2, 0.3
SPEC = VarSpec(order=ORDER, memory_weight=WEIGHT)


def whole(residual: np.ndarray) -> Innovations:
    return as_real(residual, np.ones(residual.shape, bool))


def as_real(residual: np.ndarray, real: np.ndarray) -> Innovations:
    return Innovations(jnp.asarray(residual, jnp.float32), jnp.asarray(real), jnp.asarray(real[:, -1]))


def test_the_sum_is_that_of_a_loop_and_has_the_variance_of_white_residuals():
    residual = np.random.default_rng(0).normal(size=(5, 4, SENSORS))
    weights = [(1 - WEIGHT) ** (3 - at) for at in range(4)]
    expected = sum(w * residual[:, at] for at, w in enumerate(weights)) / sum(w * w for w in weights) ** 0.5
    found = summed(whole(residual), WEIGHT)
    np.testing.assert_allclose(found.value, expected, rtol=1e-5, atol=1e-6)
    assert bool(jnp.all(found.real))
    many = np.random.default_rng(1).normal(size=(200_000, 4, 1))
    assert float(jnp.var(summed(whole(many), WEIGHT).value)) == pytest.approx(1.0, abs=0.01)


def test_masked_residuals_are_left_out_of_the_sum_and_its_variance_stays():
    residual = np.random.default_rng(2).normal(size=(100_000, 4, 2))
    real = np.ones(residual.shape, bool)
    real[:, 1, 0] = False
    found = summed(as_real(residual, real), WEIGHT)
    weights = np.array([(1 - WEIGHT) ** 3, 0.0, 1 - WEIGHT, 1.0])
    expected = residual[:, :, 0] @ weights / np.sqrt(weights @ weights)
    np.testing.assert_allclose(found.value[:, 0], expected, rtol=1e-4, atol=1e-5)
    assert float(jnp.var(found.value[:, 0])) == pytest.approx(1.0, abs=0.02)


def test_a_sensor_counts_where_half_of_the_weight_that_its_window_can_have_is_real():
    real = np.ones((3, 4, 2), bool)
    real[0, 3, 0] = False  # the newest: 1 of 1 + .7 + .49 + .343 = 2.533
    real[1, 2:, 0] = False  # 1.7 of 2.533
    real[2, :3] = False  # a young window: only the newest has a past
    found = summed(as_real(np.ones((3, 4, 2)), real), WEIGHT)
    assert found.real.tolist() == [[True, True], [False, True], [True, True]]


def test_a_residual_is_real_where_the_sample_is_and_no_row_of_its_past_is_padding():
    mask = np.ones((2, 5, 2), bool)
    mask[0, :2] = False  # padding
    mask[1, 3, 1] = False  # one sensor, once
    found = innovations(jnp.ones((2, 3, 2)), jnp.asarray(mask))  # of the samples 2, 3, 4
    assert found.real[0].tolist() == [[False, False], [False, False], [True, True]]
    assert found.real[1].tolist() == [[True, True], [True, False], [True, True]]


def test_in_a_window_too_young_for_a_past_the_newest_residual_alone_is_judged():
    mask = np.zeros((1, 5, 2), bool)
    mask[0, 3:] = True
    found = innovations(jnp.full((1, 3, 2), 2.0), jnp.asarray(mask))
    fast, slow = newest(found), summed(found, WEIGHT)
    assert fast.real.all()
    assert not slow.real.any()
    eye = jnp.eye(2)
    parts = [Weighed(band.value, band.real, eye, eye[None]) for band in (fast, slow)]
    distance, contributions = weighed_together(parts)
    assert float(distance[0]) == pytest.approx(8.0)
    np.testing.assert_allclose(contributions[0], [4.0, 4.0], rtol=1e-5)


def test_signatures_are_what_a_step_in_a_sensor_leaves_in_the_residuals():
    rng = np.random.default_rng(3)
    forecast = rng.normal(size=(ORDER * SENSORS, SENSORS)).astype(np.float32) * 0.3
    length = LENGTH - ORDER
    fast, slow = onset_signatures(jnp.asarray(forecast), WEIGHT, length)
    onsets = [0, 1, 2, 3]
    assert fast.shape == slow.shape == (len(onsets), SENSORS, SENSORS)
    weights = np.array([(1 - WEIGHT) ** (length - 1 - at) for at in range(length)])
    for sensor in range(SENSORS):
        for number, onset in enumerate(onsets):
            step = np.zeros((LENGTH, SENSORS))
            step[LENGTH - 1 - onset :, sensor] = 1.0
            residual = np.array(
                [step[at] - step[at - ORDER : at].reshape(-1) @ forecast for at in range(ORDER, LENGTH)]
            )
            np.testing.assert_allclose(fast[number, :, sensor], residual[-1], atol=1e-5)
            expected = weights @ residual / np.sqrt(weights @ weights)
            np.testing.assert_allclose(slow[number, :, sensor], expected, atol=1e-5)


def test_two_bands_are_judged_as_one_and_a_correction_takes_from_both():
    rng = np.random.default_rng(4)
    residuals = [rng.normal(size=(7, SENSORS)).astype(np.float32) for _ in range(2)]
    factors = [rng.normal(size=(SENSORS, SENSORS)) for _ in range(2)]
    precisions = [(f @ f.T + np.eye(SENSORS)).astype(np.float32) for f in factors]
    signatures = [rng.normal(size=(2, SENSORS, SENSORS)).astype(np.float32) for _ in range(2)]
    real = jnp.ones((7, SENSORS), bool)
    parts = [
        Weighed(jnp.asarray(r), real, jnp.asarray(p), jnp.asarray(s))
        for r, p, s in zip(residuals, precisions, signatures, strict=True)
    ]
    distance, contributions = weighed_together(parts)

    def mean_square(row: int, sensor: int | None = None, onset: int = 0, size: float = 0.0) -> float:
        total = 0.0
        for r, p, s in zip(residuals, precisions, signatures, strict=True):
            left = r[row] - (0.0 if sensor is None else size * s[onset][:, sensor])
            total += left @ p @ left / 2
        return total

    for row in range(7):
        assert float(distance[row]) == pytest.approx(mean_square(row), rel=1e-4)
        for sensor in range(SENSORS):
            least = min(
                minimize_scalar(lambda size, at=(row, sensor, onset): mean_square(*at, size)).fun
                for onset in (0, 1)
            )
            assert float(contributions[row, sensor]) == pytest.approx(mean_square(row) - least, rel=1e-3)


def white(seed: int) -> Windows:
    return as_windows(np.random.default_rng(seed).normal(size=(2000, 4)).astype(np.float32), 20)


def scored(params, spec: VarSpec, windows: Windows) -> np.ndarray:
    return np.asarray(jax.jit(var.score, static_argnums=1)(params, spec, windows).score)


def test_a_shift_too_small_for_one_residual_is_seen_in_their_sum():
    held = white(2)
    shifted = Windows(held.values + np.float32(1.0) * (np.arange(4) == 1), held.mask)
    seen = {}
    for weight in (1.0, 0.2):
        spec = replace(SPEC, memory_weight=weight)
        params = var.fit(jax.random.key(0), white(1), spec, silent).params
        limit = np.quantile(scored(params, spec, held), 0.99)
        seen[weight] = float(np.mean(scored(params, spec, shifted) > limit))
    assert seen[0.2] > 2 * seen[1.0]


def test_windows_that_are_hardly_ever_whole_refuse_the_fit():
    windows = white(1)
    mask = np.ones(windows.values.shape, bool)
    mask[:, 2:16, 0] = False
    with pytest.raises(
        FitRefused, match="got 0 of 1981 windows whose residuals are real for most of the window"
    ):
        var.fit(jax.random.key(0), Windows(windows.values, mask), replace(SPEC, memory_weight=0.05), silent)
