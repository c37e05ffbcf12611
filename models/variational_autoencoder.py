"""Variational autoencoder: the code is a distribution, kept near a standard normal one.

    loss = 1/2 mean((x - x^)^2 / s^2 + log s^2) + weight KL(q(z | x) || N(0, 1)) / (T D)

Kingma & Welling 2014 (arXiv:1312.6114). s^2, one per sensor, is learnt (Rybkin, Daniilidis & Levine 2021,
arXiv:2006.13202): set by hand it decides how much of the code is used at all. Scores come from the mean code, without
chance; the whitening of the residual does what s does in a reconstruction probability (An & Cho 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from models import dense_autoencoder
from models.autoencoder import AutoencoderSpec, Kind, autoencoder
from models.hyperparameters import Amount, Searched
from models.layers import perceptron, perceptron_layers
from models.scorer import Params, Windows

_LEAST = -8.0
"""Of a log variance: an unbounded one makes the loss run away on a sensor that never moves."""


@dataclass(frozen=True)
class VariationalAutoencoderSpec(AutoencoderSpec):
    """Hyperparameters; those of the core, and its own.

    Attributes:
        divergence_weight: of the Kullback-Leibler divergence; 1 is the evidence lower bound.
    """

    divergence_weight: Annotated[Amount, Searched(0.1, 10.0)] = 1.0


def init(key: jax.Array, spec: VariationalAutoencoderSpec, length: int, sensors: int) -> Params:
    """``encoder`` to means and log variances, ``decoder``, and ``log_variance`` [D] of what is rebuilt."""
    key_encoder, key_decoder = jax.random.split(key)
    inputs = length * sensors
    return {
        "encoder": perceptron_layers(key_encoder, (inputs, spec.width, 2 * spec.code)),
        "decoder": perceptron_layers(key_decoder, (spec.code, spec.width, inputs)),
        "log_variance": jnp.zeros(sensors, jnp.float32),
    }


def encode(weights: Params, values: jax.Array) -> jax.Array:
    """Windows [B, T, D] -> mean codes [B, code]."""
    return _encode(weights, values)[0]


def _encode(weights: Params, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means and log variances of the codes, each [B, code]."""
    mean, log_variance = jnp.split(perceptron(weights["encoder"], values.reshape(values.shape[0], -1)), 2, 1)
    return mean, jnp.clip(log_variance, _LEAST, -_LEAST)


def _decode(weights: Params, code: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return perceptron(weights["decoder"], code).reshape(shape)


def rebuild(weights: Params, spec: VariationalAutoencoderSpec, values: jax.Array) -> jax.Array:
    """Windows [B, T, D], through the mean code."""
    del spec
    return _decode(weights, encode(weights, values), values.shape)


def loss(weights: Params, spec: VariationalAutoencoderSpec, windows: Windows, key: jax.Array) -> jax.Array:
    """The negative evidence lower bound per real entry, for one drawn code per window."""
    mean, log_variance = _encode(weights, windows.values)
    drawn = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape, mean.dtype)
    noise = jnp.maximum(weights["log_variance"], _LEAST)[None, None, :]
    off = _decode(weights, drawn, windows.values.shape) - windows.values
    real = windows.mask.astype(off.dtype)
    rebuilt = 0.5 * jnp.sum(real * (off**2 * jnp.exp(-noise) + noise))
    return (rebuilt + spec.divergence_weight * jnp.sum(divergence(mean, log_variance))) / jnp.maximum(
        jnp.sum(real), 1.0
    )


def divergence(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) [B], summed over the code."""
    return 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - log_variance - 1.0, axis=1)


KIND = Kind(init, rebuild, loss, dense_autoencoder.larger, encode)
SCORER = autoencoder("variational_autoencoder", VariationalAutoencoderSpec, KIND)
"""The scorer."""
