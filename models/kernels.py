"""Sums of Gaussian kernels as distances: what one-class SVM and kernel density have in common.

    f(u) = sum_i a_i exp(-gamma ||u - p_i||^2),  a_i >= 0
    d(u) = sqrt(-log(f(u) / sum_i a_i) / (gamma L))

Ranked alike, but f is flat far from all points (a large fault and a larger one both give 0) and float32 rounds it to 0
there; d grows with the distance to the nearest points, in standard deviations per entry, as the other scorers' does.

Shape letters: B rows, P points, L entries.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def log_kernel_mean(rows: jax.Array, points: jax.Array, weights: jax.Array, gamma: jax.Array) -> jax.Array:
    """``log(f / sum a)`` [B] <= 0 of rows [B, L], for points [P, L] of weights [P] >= 0."""
    squared = jnp.sum(rows**2, axis=1)[:, None] + jnp.sum(points**2, axis=1)[None, :] - 2.0 * rows @ points.T
    logs = jnp.where(weights > 0.0, jnp.log(jnp.where(weights > 0.0, weights, 1.0)), -jnp.inf)
    exponents = logs[None, :] - gamma * jnp.maximum(squared, 0.0)
    return jax.scipy.special.logsumexp(exponents, axis=1) - jax.scipy.special.logsumexp(logs)


def as_distance(log_mean: jax.Array, gamma: jax.Array, entries: int) -> jax.Array:
    """D [B] of `log_kernel_mean`."""
    return jnp.sqrt(jnp.maximum(-log_mean, 0.0) / (gamma * entries))
