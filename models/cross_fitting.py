"""Residuals of linear forecasts that were fitted without the rows that they forecast.

Residuals of rows that a forecast was fitted on are too small, and most where it fits noise: what learns from them
learns which sensors were overfitted.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.innovations import linear_forecasts
from models.scorer import Windows


class FoldForecasts(NamedTuple):
    """Linear forecasts, each fitted on the windows outside one contiguous fold.

    Attributes:
        forecast: [K, p D, D], see `models.var`.
        fold: [N] the fold of each window.
    """

    forecast: jax.Array
    fold: jax.Array


def fold_forecasts(windows: Windows, order: int, ridge: float, folds: int = 5) -> FoldForecasts:
    """Fit them; masked readings count as imputed.

    Args:
        windows: [N, T, D] in order of time.
        order: samples that a forecast looks back at (p).
        ridge: penalty, as a share of the number of rows.
        folds: K.
    """
    tail = jnp.asarray(np.asarray(windows.values[:, -1 - order :, :]))
    fold = jnp.asarray(np.arange(len(tail)) * folds // len(tail))
    return FoldForecasts(_fitted(tail.reshape(len(tail), -1), fold, ridge, folds, tail.shape[2]), fold)


@partial(jax.jit, static_argnums=(3, 4))
def _fitted(rows: jax.Array, fold: jax.Array, ridge: float, folds: int, sensors: int) -> jax.Array:
    before, last = rows[:, :-sensors], rows[:, -sensors:]
    eye = jnp.eye(before.shape[1], dtype=rows.dtype)

    def without(left_out: jax.Array) -> jax.Array:
        counts = (fold != left_out).astype(rows.dtype)
        others = counts[:, None] * before
        gram = others.T @ others + ridge * jnp.sum(counts) * eye
        return jax.scipy.linalg.solve(gram, others.T @ last, assume_a="pos")

    return jax.lax.map(without, jnp.arange(folds))


def cross_fitted(forecasts: FoldForecasts, values: jax.Array, part: slice) -> jax.Array:
    """Residuals of some of the windows, by the forecasts that were fitted without them.

    Args:
        forecasts: of all windows.
        values: [B, T, D], those of the windows in ``part``.
        part: which they are.

    Returns:
        [B, T - p, D].
    """
    count, order = forecasts.forecast.shape[0], forecasts.forecast.shape[1] // forecasts.forecast.shape[2]
    left = values[:, order:]
    for number in range(count):
        mine = (forecasts.fold[part] == number)[:, None, None]
        left = left - jnp.where(mine, linear_forecasts(forecasts.forecast[number], values), 0.0)
    return left
