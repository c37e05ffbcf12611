"""Dense autoencoder: the window as one vector through T D - width - code - width - T D units.

Rumelhart, Hinton & Williams 1986; as a novelty detector Japkowicz, Myers & Gluck 1995. With a linear activation it
would be PCA of whole windows.
"""

from __future__ import annotations

from typing import Any

import jax

from models.autoencoder import AutoencoderSpec, Kind, autoencoder, mean_square
from models.layers import perceptron, perceptron_layers, scaled
from models.scorer import Params, Windows


def init(key: jax.Array, spec: AutoencoderSpec, length: int, sensors: int) -> Params:
    """``encoder`` and ``decoder``, two layers each."""
    key_encoder, key_decoder = jax.random.split(key)
    inputs = length * sensors
    return {
        "encoder": perceptron_layers(key_encoder, (inputs, spec.width, spec.code)),
        "decoder": perceptron_layers(key_decoder, (spec.code, spec.width, inputs)),
    }


def encode(weights: Params, values: jax.Array) -> jax.Array:
    """Windows [B, T, D] -> codes [B, code]."""
    return perceptron(weights["encoder"], values.reshape(values.shape[0], -1))


def decode(weights: Params, code: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Codes [B, code] -> windows of a shape."""
    return perceptron(weights["decoder"], code).reshape(shape)


def rebuild(weights: Params, spec: Any, values: jax.Array) -> jax.Array:
    """Windows [B, T, D], through the code."""
    del spec
    return decode(weights, encode(weights, values), values.shape)


def loss(weights: Params, spec: Any, windows: Windows, key: jax.Array) -> jax.Array:
    """Mean square of what is not rebuilt."""
    del key
    return mean_square(rebuild(weights, spec, windows.values) - windows.values, windows.mask)


def larger(weights: Params, factor: jax.Array) -> Params:
    """Weights that rebuild ``factor`` times as much."""
    layers = weights["decoder"]
    last = str(len(layers) - 1)
    return {**weights, "decoder": {**layers, last: scaled(layers[last], factor)}}


KIND = Kind(init, rebuild, loss, larger, encode)
SCORER = autoencoder("dense_autoencoder", AutoencoderSpec, KIND)
"""The scorer."""
