"""Masked readings, replaced by their conditional mean given the row's other sensors.

For a centred Gaussian row with precision P, the masked part m given the observed part o has the mean
``-P_mm^-1 P_mo x_o``. Conjugate gradients solve it for all rows at once. With k masked sensors they are exact after k
steps; a row takes twice as many, and then stands still, so that its result depends on its own mask and on no neighbour.
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
    filled = jax.lax.cond(
        jnp.all(windows.mask), _as_they_are, _quick_mean, imputation.precision, windows.values, windows.mask
    )
    return Windows(filled, windows.mask)


@partial(jax.jit, inline=True)
def fill(precision: jax.Array, values: jax.Array, mask: jax.Array) -> jax.Array:
    """`conditional_mean`, skipped when nothing is masked; it can be differentiated, which `impute` cannot.

    Residuals filled with the precision of their own covariance give the marginal quadratic form of the
    observed
    ones: ``r_o' (S_oo)^-1 r_o``.
    """
    return jax.lax.cond(jnp.all(mask), _as_they_are, conditional_mean, precision, values, mask)


def _as_they_are(precision: jax.Array, values: jax.Array, mask: jax.Array) -> jax.Array:
    del precision, mask
    return values


def _quick_mean(precision: jax.Array, values: jax.Array, mask: jax.Array) -> jax.Array:
    """`conditional_mean` that ends when its slowest row does: with few masked sensors many times faster."""
    return conditional_mean(precision, values, mask, jnp.max(_needed(mask)))


def conditional_mean(
    precision: jax.Array, values: jax.Array, mask: jax.Array, steps: jax.Array | int | None = None
) -> jax.Array:
    """Replace masked entries of centred Gaussian rows by their mean given the others.

    Args:
        precision: [D, D].
        values: [..., D]; what stands at masked entries is ignored.
        mask: [..., D] True where observed.
        steps: at least as many as any row takes; None: D. The results are the same.

    Returns:
        [..., D], observed entries unchanged.
    """
    observed = jnp.where(mask, values, 0.0)
    most = precision.shape[0] if steps is None else steps
    filled = _solve(precision, -jnp.where(mask, 0.0, observed @ precision), mask, most)
    return jnp.where(mask, values, filled)


def _needed(mask: jax.Array) -> jax.Array:
    """Steps [..., 1] that a row takes: twice its masked sensors, for rounding, and at most D."""
    return jnp.minimum(2 * jnp.sum(~mask, axis=-1, keepdims=True, dtype=jnp.int32), mask.shape[-1])


def _solve(precision: jax.Array, target: jax.Array, mask: jax.Array, most: jax.Array | int) -> jax.Array:
    """Conjugate gradients on the masked block of the precision; rows [..., D], zero where observed."""
    needed = _needed(mask)

    def step(
        done: jax.Array, state: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        solution, residual, direction = state
        pulled = jnp.where(mask, 0.0, direction @ precision)
        power = _dot(residual, residual)
        length = _ratio(power, _dot(direction, pulled))
        left = residual - length * pulled
        turn = _ratio(_dot(left, left), power)
        going = done < needed
        return (
            jnp.where(going, solution + length * direction, solution),
            jnp.where(going, left, residual),
            jnp.where(going, left + turn * direction, direction),
        )

    start = (jnp.zeros_like(target), target, target)
    return jax.lax.fori_loop(0, most, step, start)[0]


def _dot(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.sum(left * right, axis=-1, keepdims=True)


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Numerator over denominator, 0 where the row has converged and both vanish."""
    solid = denominator > _TINY
    return jnp.where(solid, numerator / jnp.where(solid, denominator, 1.0), 0.0)
