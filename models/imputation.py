"""Masked readings, replaced by their conditional mean given the row's other sensors.

For a centred Gaussian row with precision P, the masked part m given the observed part o has the mean
``-P_mm^-1 P_mo x_o``. Conjugate gradients solve it for all rows at once with a fixed number of steps: after D
steps they are exact, and a fixed number keeps a row's result independent of its neighbours.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.covariance import inverse, shrunk_covariance
from models.scorer import Windows

_TINY = 1e-30


class Imputation(NamedTuple):
    """What is known of the sensors' correlation.

    Attributes:
        precision: [D, D] float32, the inverse of the shrunk correlation of training z-scores.
    """

    precision: jax.Array


def fit_imputation(rows: jax.Array, mask: jax.Array) -> Imputation:
    """Learn the precision from training rows.

    Args:
        rows: [N, D] z-scores.
        mask: [N, D] True where real; a masked reading counts as its mean, 0.
    """
    return Imputation(inverse(shrunk_covariance(jnp.where(mask, rows, 0.0))))


def impute(imputation: Imputation, windows: Windows) -> Windows:
    """Replace masked readings; real ones come back bit for bit, and a block without a mask costs nothing.

    Args:
        imputation: the fitted precision.
        windows: [B, T, D].

    Returns:
        The same windows with conditional means where the mask is False; a row that is masked as a whole
        becomes 0.
    """
    return Windows(fill(imputation.precision, windows.values, windows.mask), windows.mask)


@partial(jax.jit, inline=True)
def fill(precision: jax.Array, values: jax.Array, mask: jax.Array) -> jax.Array:
    """`conditional_mean`, skipped when nothing is masked.

    Residuals filled with the precision of their own covariance give the marginal quadratic form of the
    observed
    ones: ``r_o' (S_oo)^-1 r_o``.
    """
    return jax.lax.cond(
        jnp.all(mask),
        lambda precision, values, mask: values,  # noqa: ARG005 - cond hands both branches the same operands
        conditional_mean,
        precision,
        values,
        mask,
    )


def conditional_mean(precision: jax.Array, values: jax.Array, mask: jax.Array) -> jax.Array:
    """Replace masked entries of centred Gaussian rows by their mean given the others.

    Args:
        precision: [D, D].
        values: [..., D]; what stands at masked entries is ignored.
        mask: [..., D] True where observed.

    Returns:
        [..., D], observed entries unchanged.
    """
    observed = jnp.where(mask, values, 0.0)
    filled = _solve(precision, -jnp.where(mask, 0.0, observed @ precision), mask)
    return jnp.where(mask, values, filled)


def _solve(precision: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
    """Conjugate gradients on the masked block of the precision; rows [..., D], zero where observed."""

    def step(_: int, state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        solution, residual, direction = state
        pulled = jnp.where(mask, 0.0, direction @ precision)
        power = _dot(residual, residual)
        length = _ratio(power, _dot(direction, pulled))
        residual = residual - length * pulled
        turn = _ratio(_dot(residual, residual), power)
        return solution + length * direction, residual, residual + turn * direction

    start = (jnp.zeros_like(target), target, target)
    return jax.lax.fori_loop(0, precision.shape[0], step, start)[0]


def _dot(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.sum(left * right, axis=-1, keepdims=True)


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Numerator over denominator, 0 where the row has converged and both vanish."""
    solid = denominator > _TINY
    return jnp.where(solid, numerator / jnp.where(solid, denominator, 1.0), 0.0)
