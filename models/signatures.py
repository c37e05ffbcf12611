"""Signatures of sensors in the residuals of any network, found by trying: plant a step, and see what it leaves.

`models.residuals` names the sensor along whose signatures the residual is best corrected. For a linear forecast the
signatures follow from its coefficients; a network's are measured, as the mean change of its residual over normal
windows when one sensor steps up.

Shape letters: B windows, T samples, D sensors, F features (residuals of the last sample: F = D), K ages of a step.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

_STEP = 3.0
"""In the sensor's own standard deviations: well outside normal, and not where every activation is saturated."""


def step_ages(length: int) -> tuple[int, ...]:
    """Samples since a step began: with the last one, a quarter window ago, and before the window."""
    return 1, max(1, length // 4), length


def measured_signatures(
    residual: Callable[[jax.Array], jax.Array], values: jax.Array, ages: tuple[int, ...] | None = None
) -> jax.Array:
    """Signatures of steps of some ages.

    Args:
        residual: [B, T, D] -> [B, F], jittable.
        values: [B, T, D] normal windows, a few hundred.
        ages: K of them, in samples; None: `step_ages`.

    Returns:
        [K, F, D], ``[k, :, j]`` the mean change of the residual by a unit step of sensor j.
    """
    length, sensors = values.shape[1:]
    before = residual(values)

    def change(place: jax.Array) -> jax.Array:
        age, sensor = place[0], place[1]
        newest = jnp.arange(length) >= length - age
        step = newest[None, :, None] & (jnp.arange(sensors) == sensor)[None, None, :]
        return jnp.mean(residual(values + _STEP * step.astype(values.dtype)) - before, axis=0) / _STEP

    ages = step_ages(length) if ages is None else ages
    places = jnp.array([(age, sensor) for age in ages for sensor in range(sensors)])
    columns = jax.lax.map(change, places).reshape(len(ages), sensors, -1)
    return jnp.swapaxes(columns, 1, 2)
