"""Residuals weighed by how rare they normally are, and marginal over the sensors that are masked."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from models.covariance import as_if_all_observed, quadratic
from models.imputation import fill


def weighed(residual: jax.Array, real: jax.Array, precision: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Squared distance [B] and contributions [B, D] of residuals [B, D], marginal over what is not real."""
    distance, shares = quadratic(fill(precision, residual, real), precision)
    return as_if_all_observed(distance, real), jnp.where(real, shares, 0.0)
