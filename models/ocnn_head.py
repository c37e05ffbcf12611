"""The one-class network's last layers and objective (Chalapathy, Menon & Chawla 2019, arXiv:1802.06360).

    y    = <w, g(V z)>
    loss = 1/2 ||w||^2 + 1/2 ||V - V0||^2 + 1/nu mean(max(0, r - y)) - r

Minimised over r (Theorem 1: r is the nu-quantile of y) the last two terms are minus the mean of the lowest nu
of y. Two departures from the print, both against collapse: V is penalised for leaving V0, not the origin,
because V = 0 ends learning; and the features must satisfy ||z||^2 < 1, because along V - V0 = w z' the
printed loss is ``1/2 ||w||^2 (1 - ||z||^2) - ...``, which for longer z and a linear g has no minimum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

Activation = Callable[[jax.Array], jax.Array]

ACTIVATIONS: dict[str, Activation] = {"linear": lambda x: x, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}
"""g by name. With sigmoid g(0) is not 0: a hidden bias, by which the network can collapse to a constant."""


class Head(NamedTuple):
    """The trainable layers.

    Attributes:
        w: [K].
        v: [K, F].
    """

    w: jax.Array
    v: jax.Array


def respond(head: Head, features: jax.Array, activation: Activation) -> jax.Array:
    """Y = <w, g(V z)> of features [..., F]; [...]."""
    return activation(features @ head.v.T) @ head.w


def order_of_quantile(count: int, nu: float) -> int:
    """K = ceil(nu n), at least 1; 1e-9 is taken off first, so that .1 * 30 = 3.0000000000000004 gives 3."""
    return max(1, math.ceil(nu * count - 1e-9))


def theorem1_r(y: jax.Array, nu: float) -> jax.Array:
    """The r that minimises the loss for given y: their k-th smallest, k = ceil(nu n) (Theorem 1).

    An order statistic, never an interpolation: y = 1..9 and nu = .33 give 3.

    Args:
        y: [N].
        nu: in (0, 1].
    """
    return jnp.sort(y)[order_of_quantile(y.shape[0], nu) - 1]


def ocnn_loss(head: Head, anchor: jax.Array, y: jax.Array, r: jax.Array, nu: float) -> jax.Array:
    """The objective above.

    Args:
        head: w and V.
        anchor: [K, F], V0.
        y: [N] responses.
        r: [] the current bias.
        nu: in (0, 1].
    """
    weights = 0.5 * jnp.sum(head.w**2) + 0.5 * jnp.sum((head.v - anchor) ** 2)
    return weights + jnp.mean(jax.nn.relu(r - y)) / nu - r


@partial(jax.jit, static_argnums=(1, 2))
def solve_w(features: jax.Array, nu: float, steps: int) -> jax.Array:
    """The best w for fixed features: a convex problem, scikit-learn's linear OneClassSVM.

    Alternates one gradient step on w, of rate 1 / (t + 1), with Theorem 1's r. The objective is 1-strongly
    convex, so this rate closes the gap as 1 / t.

    Args:
        features: [N, F], that is g(V z).
        nu: in (0, 1].
        steps: alternations.

    Returns:
        w [F].
    """

    def step(done: jax.Array, w: jax.Array) -> jax.Array:
        rate = 1.0 / (done.astype(w.dtype) + 2.0)
        return w - rate * (w - _lowest_mean(features, features @ w, nu))

    return jax.lax.fori_loop(jnp.int32(0), jnp.int32(steps), step, jnp.mean(features, axis=0))


def _lowest_mean(features: jax.Array, y: jax.Array, nu: float) -> jax.Array:
    """Mean feature of the lowest nu of y; the row at r itself counts with the fraction that is left."""
    share = nu * y.shape[0]
    ranks = jnp.argsort(jnp.argsort(y)).astype(y.dtype)
    return jnp.clip(share - ranks, 0.0, 1.0) @ features / share
