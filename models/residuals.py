"""Residuals weighed by how rare they normally are, and marginal over the sensors that are masked.

A sensor's contribution is reconstruction-based (Alcala & Qin 2009, Automatica 45:1593), generalised from one
direction per sensor to several, its signatures: the residuals that a step in that sensor leaves, depending on
how long ago it began. For a signature s the squared distance falls by ``(s' M r)^2 / (s' M s)`` when the best
correction is made along s; by Cauchy-Schwarz none falls further than the true one, for a fault that is large.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.covariance import as_if_all_observed
from models.imputation import fill


class Weighed(NamedTuple):
    """One set of residuals and how they are weighed.

    Attributes:
        residual: [B, D].
        real: [B, D] bool.
        precision: [D, D], inverse covariance of normal residuals.
        signatures: [K, D, D], ``signatures[k, :, j]`` the k-th signature of sensor j.
    """

    residual: jax.Array
    real: jax.Array
    precision: jax.Array
    signatures: jax.Array


def weighed(
    residual: jax.Array, real: jax.Array, precision: jax.Array, signatures: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """`weighed_together` of one set; without signatures each sensor shows only in its own residual."""
    if signatures is None:
        signatures = jnp.eye(precision.shape[0], dtype=precision.dtype)[None]
    return weighed_together([Weighed(residual, real, precision, signatures)])


def weighed_together(parts: Sequence[Weighed]) -> tuple[jax.Array, jax.Array]:
    """Distance of residuals from zero, marginal over what is not real; the mean of several sets.

    A set of which nothing is real in a window does not count there.

    Args:
        parts: sets of residuals of the same B windows. The k-th signatures of all belong together: they are what
            one change in a sensor leaves in each.

    Returns:
        Squared distance [B], on the scale of distances over all sensors, and contributions [B, D] >= 0: the
        largest fall of the squared distance by a correction along one of the sensor's signatures.
    """
    distance, along, power = jnp.float32(0.0), jnp.float32(0.0), jnp.float32(0.0)
    real, count = jnp.bool_(False), jnp.float32(0.0)
    for part in parts:
        filled = fill(part.precision, part.residual, part.real)
        pulled = filled @ part.precision  # 0 where masked: what was filled in is what the others let expect
        distance += as_if_all_observed(jnp.sum(filled * pulled, axis=1), part.real)
        along += jnp.einsum("bi,kij->kbj", pulled, part.signatures)
        power += _power(part.precision, part.signatures, part.real)
        real |= part.real
        count += jnp.any(part.real, axis=1).astype(jnp.float32)
    count = jnp.maximum(count, 1.0)
    falls = jnp.max(along**2 / jnp.maximum(power, 1e-12), axis=0)
    return distance / count, jnp.where(real, falls, 0.0) / count[:, None]


def _power(precision: jax.Array, signatures: jax.Array, real: jax.Array) -> jax.Array:
    """Squared distance [K, B, D] of each signature over the sensors that are real in each row [B, D]."""
    whole = jnp.einsum("kij,il,klj->kj", signatures, precision, signatures)[:, None, :]
    whole = jnp.broadcast_to(whole, (signatures.shape[0], *real.shape))

    def marginal() -> jax.Array:
        observed = real[:, :, None] & real[:, None, :]
        kept = jnp.where(observed, jnp.linalg.inv(precision), jnp.eye(real.shape[1], dtype=precision.dtype))
        over = jnp.where(observed, jnp.linalg.inv(kept), 0.0)
        part = jnp.einsum("kij,bil,klj->kbj", signatures, over, signatures)
        return jnp.where(jnp.all(real, axis=1)[None, :, None], whole, part)

    return jax.lax.cond(jnp.all(real), lambda: whole, marginal)


def per_sensor(squared: jax.Array, sensors: int) -> jax.Array:
    """Distance in standard deviations per sensor [B] of squared distances [B]: about 1 for normal rows.

    Smoothed over time, distances tell a lasting fault from a single outlier better than their squares do.
    """
    return jnp.sqrt(jnp.maximum(squared, 0.0) / sensors)


def step_signatures(forecast: jax.Array) -> jax.Array:
    """Residuals that a unit step in each sensor leaves in a vector autoregression.

    Args:
        forecast: [p D, D], coefficients by lag, the oldest first: ``x^_t = sum_k x_(t-k) A_k``.

    Returns:
        [p + 1, D, D]: for a step that began 0, 1, .. p samples before the last, in column j that of sensor j.
    """
    sensors = forecast.shape[1]
    lags = forecast.reshape(-1, sensors, sensors)[::-1]  # A_1 first
    eye = jnp.eye(sensors, dtype=forecast.dtype)
    left = jnp.concatenate([eye[None], eye[None] - jnp.cumsum(lags, axis=0)])
    return jnp.swapaxes(left, 1, 2)
