"""A convolutional autoencoder of images, as a kind of `models.autoencoder`: a window of 28 samples x 28 sensors is one.

Down by two convolutions of 4 x 4 with stride 2, through a code, and up by two sub-pixel convolutions of 3 x 3 (Shi et
al. 2016). No layer of the encoder has a bias, so that Deep SVDD can start from it.

Convolutions are products over gathered patches: many networks trained side by side (`benchmarks.ocnn_paper.fleet`) are
then batched products, where XLA would make slow grouped convolutions of them.

Shape letters: B images, P side in pixels, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from models.autoencoder import AutoencoderSpec, Kind, mean_square
from models.layers import dense, dense_layer, scaled
from models.scorer import Params, Windows


@dataclass(frozen=True)
class ImageSpec(AutoencoderSpec):
    """Hyperparameters; those of the core, and its own.

    Attributes:
        code: units of the code; as many as in Ruff et al. 2018.
        width: channels of the first layer; the second has twice as many.
    """

    code: int = 32
    width: int = 16
    batch: int = 100
    learning_rate: float = 0.003
    weight_decay: float = 0.000001


def init(key: jax.Array, spec: AutoencoderSpec, height: int, width: int) -> Params:
    """``encoder`` and ``decoder``, three layers each."""
    keys, few, inner = jax.random.split(key, 6), spec.width, height // 4 * (width // 4) * 2 * spec.width
    return {
        "encoder": {
            "down1": dense_layer(keys[0], 16, few, bias=False),
            "down2": dense_layer(keys[1], 16 * few, 2 * few, bias=False),
            "code": dense_layer(keys[2], inner, spec.code, bias=False),
        },
        "decoder": {
            "start": dense_layer(keys[3], spec.code, inner),
            "up2": dense_layer(keys[4], 18 * few, 4 * few),
            "up1": dense_layer(keys[5], 9 * few, 4),
        },
    }


def encode(layers: Params, images: jax.Array) -> jax.Array:
    """Images [B, P, P] -> codes [B, H]."""
    hidden = jax.nn.leaky_relu(dense(layers["down1"], patches(images[..., None], 4, 2)))
    hidden = jax.nn.leaky_relu(dense(layers["down2"], patches(hidden, 4, 2)))
    return dense(layers["code"], hidden.reshape(hidden.shape[0], -1))


def decode(layers: Params, code: jax.Array, side: int) -> jax.Array:
    """Codes [B, H] -> images [B, side, side]."""
    hidden = jax.nn.leaky_relu(dense(layers["start"], code)).reshape(len(code), side // 4, side // 4, -1)
    hidden = jax.nn.leaky_relu(spread(dense(layers["up2"], patches(hidden, 3, 1))))
    return spread(dense(layers["up1"], patches(hidden, 3, 1)))[..., 0]


def rebuild(weights: Params, spec: Any, images: jax.Array) -> jax.Array:
    """Images [B, P, P], through the code."""
    del spec
    return decode(weights["decoder"], encode(weights["encoder"], images), images.shape[1])


def loss(weights: Params, spec: Any, windows: Windows, key: jax.Array) -> jax.Array:
    """Mean square of what is not rebuilt."""
    del key
    return mean_square(rebuild(weights, spec, windows.values) - windows.values, windows.mask)


def patches(images: jax.Array, size: int, stride: int) -> jax.Array:
    """What a filter sees: [B, P, P, C] -> [B, P / stride, P / stride, size^2 C], with zeros beyond the edges."""
    side, edge = images.shape[1], (size - 1) // 2
    padded = jnp.pad(images, ((0, 0), (edge, size - 1 - edge), (edge, size - 1 - edge), (0, 0)))
    shifted = [
        padded[:, row : row + side : stride, column : column + side : stride]
        for row in range(size)
        for column in range(size)
    ]
    return jnp.concatenate(shifted, axis=-1)


def spread(values: jax.Array) -> jax.Array:
    """Channels as sub-pixels: [B, P, P, 4 C] -> [B, 2 P, 2 P, C]."""
    count, side, _, channels = values.shape
    blocks = values.reshape(count, side, side, 2, 2, channels // 4)
    return jnp.transpose(blocks, (0, 1, 3, 2, 4, 5)).reshape(count, 2 * side, 2 * side, channels // 4)


def larger(weights: Params, factor: jax.Array) -> Params:
    """Weights that rebuild ``factor`` times as much."""
    return {**weights, "decoder": {**weights["decoder"], "up1": scaled(weights["decoder"]["up1"], factor)}}


KIND = Kind(init, rebuild, loss, larger)
"""The convolutional autoencoder."""
