"""Convolutional autoencoder: filters along time, two halvings of the rate, a code, and the way back.

After Masci, Meier, Ciresan & Schmidhuber 2011 (ICANN). The way back stretches and convolves (Odena, Dumoulin & Olah
2016, distill.pub): transposed convolutions leave a pattern of their stride.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax

from models.autoencoder import AutoencoderSpec, Kind, autoencoder, mean_square
from models.hyperparameters import Count, Searched
from models.layers import convolve, dense, dense_layer, scaled, stretch
from models.scorer import Params, Windows

_REACH = 5
"""Samples that a filter sees."""


@dataclass(frozen=True)
class ConvAutoencoderSpec(AutoencoderSpec):
    """Hyperparameters; those of the core, and its own.

    Attributes:
        width: filters of the inner layers; the outer ones have half as many.
    """

    width: Annotated[Count, Searched(8, 64)] = 32


def init(key: jax.Array, spec: ConvAutoencoderSpec, length: int, sensors: int) -> Params:
    """Six layers by name."""
    keys = jax.random.split(key, 6)
    few, many, quarter = spec.width // 2, spec.width, _half(_half(length))
    return {
        "down1": dense_layer(keys[0], _REACH * sensors, few),
        "down2": dense_layer(keys[1], _REACH * few, many),
        "code": dense_layer(keys[2], quarter * many, spec.code),
        "start": dense_layer(keys[3], spec.code, quarter * many),
        "up2": dense_layer(keys[4], _REACH * many, few),
        "up1": dense_layer(keys[5], _REACH * few, sensors),
    }


def _half(length: int) -> int:
    return -(-length // 2)


def encode(weights: Params, values: jax.Array) -> jax.Array:
    """Windows [B, T, D] -> codes [B, code]."""
    hidden = jax.nn.elu(convolve(weights["down1"], values, 2))
    hidden = jax.nn.elu(convolve(weights["down2"], hidden, 2))
    return dense(weights["code"], hidden.reshape(values.shape[0], -1))


def rebuild(weights: Params, spec: ConvAutoencoderSpec, values: jax.Array) -> jax.Array:
    """Windows [B, T, D], through the code."""
    count, length, _ = values.shape
    hidden = jax.nn.elu(dense(weights["start"], encode(weights, values))).reshape(count, -1, spec.width)
    hidden = jax.nn.elu(convolve(weights["up2"], stretch(hidden, _half(length))))
    return convolve(weights["up1"], stretch(hidden, length))


def loss(weights: Params, spec: ConvAutoencoderSpec, windows: Windows, key: jax.Array) -> jax.Array:
    """Mean square of what is not rebuilt."""
    del key
    return mean_square(rebuild(weights, spec, windows.values) - windows.values, windows.mask)


def larger(weights: Params, factor: jax.Array) -> Params:
    """Weights that rebuild ``factor`` times as much."""
    return {**weights, "up1": scaled(weights["up1"], factor)}


KIND = Kind(init, rebuild, loss, larger, encode)
SCORER = autoencoder("conv_autoencoder", ConvAutoencoderSpec, KIND)
"""The scorer."""
