"""The loop that trains every network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.scorer import FitRefused, silent
from models.training import Schedule, adam, descend, train
from models.training import spread as spread_windows
from tests.synthetic import as_windows, normal_rows

ROWS = np.random.default_rng(0).normal(size=(96, 3)).astype(np.float32)
TARGET = ROWS @ np.array([1.0, -2.0, 0.5], np.float32) + 0.1 * ROWS[:, 0] ** 2
DATA = (jnp.asarray(ROWS), jnp.asarray(TARGET))
traces: list[str] = []


@dataclass(frozen=True)
class Line:
    """Least squares by gradient steps."""

    learning_rate: float = 0.05

    def start(self) -> Any:
        weights = jnp.zeros(3)
        return weights, adam(self.learning_rate).init(weights)

    def step(self, state, batch, key):
        del key
        traces.append("step")
        weights, memory = state
        loss, gradient = jax.value_and_grad(self.loss)(weights, batch)
        return descend(adam(self.learning_rate), gradient, memory, weights), loss

    def judge(self, state, held):
        traces.append("judge")
        return self.loss(state[0], held)

    def loss(self, weights, batch):
        rows, target = batch
        return jnp.mean((rows @ weights - target) ** 2)


@dataclass(frozen=True)
class Counter:
    """Adds up what it is shown; its validation loss is what the test wants it to be."""

    validation: tuple[float, ...]

    def step(self, state, batch, key):
        del key
        return (state[0] + jnp.sum(batch, axis=0), state[1]), jnp.float32(0.0)

    def judge(self, state, held):
        del held
        return jnp.asarray(self.validation)[state[1]]


def counted(validation, patience=2):
    def between(state, data):
        return (state[0], state[1] + 1), data

    start = (jnp.zeros(2), jnp.int32(-1))
    numbers = jnp.arange(24.0).reshape(12, 2)
    schedule = Schedule(len(validation), 12, 4, patience)
    return train(
        jax.random.key(0), Counter(tuple(validation)), start, numbers, numbers, schedule, silent, between
    )


def test_steps_reach_the_least_squares_solution():
    trained = train(jax.random.key(0), Line(), Line().start(), DATA, DATA, Schedule(150, 96, 32, 150), silent)
    expected = np.linalg.lstsq(ROWS, TARGET, rcond=None)[0]
    np.testing.assert_allclose(trained.state[0], expected, atol=0.02)
    assert len(trained.curves["train"]) == len(trained.curves["validation"]) == 150


def test_nothing_is_traced_again_for_a_later_epoch_or_an_equal_task():
    traces.clear()
    for _ in range(2):
        train(jax.random.key(1), Line(0.01), Line(0.01).start(), DATA, DATA, Schedule(5, 96, 16, 9), silent)
    assert traces == ["step", "judge"]


def test_an_epoch_shows_every_window_once():
    state = counted([1.0]).state
    np.testing.assert_array_equal(state[0], np.arange(24.0).reshape(12, 2).sum(axis=0))


def test_the_state_of_the_best_epoch_is_returned_and_patience_ends_the_training():
    trained = counted([3.0, 1.0, 2.0, 2.0, 0.0])
    assert trained.curves["validation"] == (3.0, 1.0, 2.0, 2.0)
    assert int(trained.state[1]) == 1


def test_a_loss_that_is_not_finite_is_refused():
    with pytest.raises(FitRefused, match="not finite"):
        counted([1.0, float("nan"), 0.0])


def test_a_batch_larger_than_the_data_is_all_of_them():
    schedule = Schedule(1, 1000, 1000, 1)
    trained = train(jax.random.key(0), Line(), Line().start(), DATA, DATA, schedule, silent)
    assert np.isfinite(trained.curves["train"][0])


def test_windows_are_thinned_evenly_and_never_to_more_than_asked():
    windows = as_windows(normal_rows(123, 0))
    few = spread_windows(windows, 30)
    np.testing.assert_array_equal(few.values, windows.values[::4])
    assert len(few.values) == 25
