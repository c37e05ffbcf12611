"""What the two adversarial scorers share: a discriminator, its loss, and steps that take turns.

Shape letters: B rows, L entries, W features of the discriminator.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from models.layers import dense, dense_layer
from models.scorer import Params


def discriminator(key: jax.Array, inputs: int, width: int) -> Params:
    """``hidden`` and ``out``: is a row real?"""
    key_hidden, key_out = jax.random.split(key)
    return {"hidden": dense_layer(key_hidden, inputs, width), "out": dense_layer(key_out, width, 1)}


def seen_features(weights: Params, rows: jax.Array) -> jax.Array:
    """The discriminator's features [B, W] of rows [B, L]."""
    return jax.nn.leaky_relu(dense(weights["hidden"], rows), 0.2)


def verdict(weights: Params, rows: jax.Array) -> jax.Array:
    """Logits [B]: high for real."""
    return dense(weights["out"], seen_features(weights, rows))[:, 0]


def discriminator_loss(weights: Params, real: jax.Array, made: jax.Array) -> jax.Array:
    """Cross-entropy [] of telling real rows from made ones."""
    return jnp.mean(jax.nn.softplus(-verdict(weights, real))) + jnp.mean(
        jax.nn.softplus(verdict(weights, made))
    )


def feature_gap(weights: Params, real: jax.Array, made: jax.Array) -> jax.Array:
    """Feature matching [] (Salimans et al. 2016): the generator is to give the discriminator the same mean features.

    Against a discriminator that is sure of itself it still has a gradient; the cross-entropy has none.
    """
    gap = jnp.mean(seen_features(weights, real), axis=0) - jnp.mean(seen_features(weights, made), axis=0)
    return jnp.sum(gap**2)


def optimiser(learning_rate: float) -> Any:
    """Adam with the short memory that adversarial training needs (Radford, Metz & Chintala 2016)."""
    import optax

    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate, b1=0.5))
