"""Expected values and normal bands: what a sensor should show does not follow its own fault, nor that of others."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.expectation import Bands, Expected, expect
from models.imputation import Imputation, conditional_mean, fit_imputation
from monitor.training.bands import normal_bands
from tests.synthetic import normal_rows

D = 6
RUN = jax.jit(expect)


@cache
def learnt(fitted: int = 3000) -> tuple[Imputation, Bands]:
    rows = normal_rows(6000, seed=1)
    mask = np.ones(rows.shape, bool)
    imputation = fit_imputation(jnp.asarray(rows[:fitted]), jnp.asarray(mask[:fitted]))
    part = (np.arange(len(rows)) >= fitted).astype(np.int8)
    normal = SimpleNamespace(z=rows, usable=mask, weight=mask.astype(np.float32), part=part)
    return imputation, normal_bands(normal, imputation)  # type: ignore[arg-type] # of its parts only these are read


def told(rows: np.ndarray, mask: np.ndarray | None = None) -> Expected:
    imputation, bands = learnt()
    known = np.ones(rows.shape, bool) if mask is None else mask
    result = RUN(imputation.precision, bands, jnp.asarray(rows, jnp.float32), jnp.asarray(known))
    return Expected(*(np.asarray(each, np.float64) for each in result))  # type: ignore[arg-type] # NumPy for the tests


def test_the_band_holds_what_it_says_of_normal_rows_that_it_has_not_seen() -> None:
    rows = normal_rows(12_000, seed=7)
    found = told(rows)
    inside = (rows >= found.low) & (rows <= found.high)
    assert inside.mean() == pytest.approx(0.999, abs=0.0015)
    assert inside.mean(axis=0).min() > 0.996
    assert np.std((rows - found.value) / found.sigma, axis=0) == pytest.approx(1.0, abs=0.15)


def test_where_all_rows_fit_the_models_the_bands_come_from_stretches_that_did_not() -> None:
    for by_folds, by_parts in zip(learnt(6000)[1], learnt()[1], strict=True):
        assert by_folds == pytest.approx(by_parts, rel=0.25)


@pytest.mark.parametrize("sensor", range(D))
def test_expected_does_not_follow_a_ramp_of_the_sensor_itself(sensor: int) -> None:
    rows = normal_rows(200, seed=3)
    ramp = rows.copy()
    ramp[:, sensor] += np.linspace(0.0, 30.0, 200, dtype=np.float32)
    before, during = told(rows), told(ramp)
    assert np.abs(during.value[:, sensor] - before.value[:, sensor]).max() < 1.5
    assert (ramp[-100:, sensor] > during.high[-100:, sensor]).all()


@pytest.mark.parametrize("sensor", range(D))
def test_a_sensor_that_lies_does_not_push_the_others_out_of_their_bands(sensor: int) -> None:
    rows = normal_rows(300, seed=4)
    lying = rows.copy()
    lying[:, sensor] += 12.0
    found = told(lying)
    others = np.arange(D) != sensor
    outside = (lying < found.low) | (lying > found.high)
    assert outside[:, sensor].all()
    assert outside[:, others].mean() < 0.005
    truth_in_band = (rows[:, sensor] >= found.low[:, sensor]) & (rows[:, sensor] <= found.high[:, sensor])
    assert truth_in_band.mean() > 0.98


def test_sensors_that_move_together_do_not_confirm_each_other() -> None:
    rows = normal_rows(300, seed=5)
    moved = rows.copy()
    moved[:, :3] += 8.0
    found = told(moved)
    assert np.abs(found.value[:, :3] - told(rows).value[:, :3]).mean() < 1.0
    assert (moved[:, :3] > found.high[:, :3]).all()
    assert ((moved < found.low) | (moved > found.high))[:, 3:].mean() < 0.02


def test_with_more_than_half_of_the_sensors_aside_expected_is_the_trained_mean() -> None:
    _, bands = learnt()
    found = told(normal_rows(20, seed=6) + np.array([9, 9, 9, 9, 0, 0], np.float32))
    assert (found.value == 0.0).all()
    assert (found.low == bands.least).all()
    assert (found.high == bands.most).all()


def test_a_masked_sensor_is_expected_where_the_others_say() -> None:
    rows = normal_rows(50, seed=8) * np.float32(0.3)  # all within their bands
    mask = np.ones(rows.shape, bool)
    mask[:, 2] = False
    wrong = rows.copy()
    wrong[:, 2] = 1e6
    imputation, _ = learnt()
    filled = conditional_mean(imputation.precision, jnp.asarray(wrong), jnp.asarray(mask))
    assert told(wrong, mask).value[:, 2] == pytest.approx(np.asarray(filled)[:, 2], abs=1e-4)


def test_a_row_does_not_depend_in_any_bit_on_the_rows_beside_it() -> None:
    rows = normal_rows(64, seed=9)
    rows[::3] += 6.0 * np.random.default_rng(0).normal(size=(22, D)).astype(np.float32)
    alone = np.zeros_like(rows)
    whole = told(rows)
    for k in (0, 1, 33, 63):
        alone[:] = 0.0
        alone[17] = rows[k]
        for one, all_of_them in zip(told(alone), whole, strict=True):
            assert np.array_equal(np.asarray(one)[17], np.asarray(all_of_them)[k])
