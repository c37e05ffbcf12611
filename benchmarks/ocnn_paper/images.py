"""A convolutional autoencoder of images, as a kind of `models.autoencoder`: a window of 28 samples x 28 sensors is one.

Down by two convolutions of 4 x 4 with stride 2, through a code, and up by two transposed convolutions of 2 x 2 with
stride 2. No layer of the encoder has a bias, so that Deep SVDD can start from it. Its hidden layers are normalised over
the images of a step (Ioffe & Szegedy 2015), without scale and shift: an encoder that can shrink all of its hidden units
at once finds a small ball without learning what is normal (docs/ocnn-paper.md).

Convolutions are products over gathered patches: many networks trained side by side (`benchmarks.ocnn_paper.fleet`) are
then batched products, where XLA would make slow grouped convolutions of them, and on a CPU an epoch takes half the time
of XLA's own. Transposed ones whose patches do not overlap are products and nothing else.

Shape letters: B images, P side in pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp

from models.autoencoder import AutoencoderSpec, Kind, mean_square
from models.layers import dense, dense_layer, scaled
from models.scorer import Params, Windows

MOMENTS: Final = "moments"
_BLOCK: Final = 500
_MEASURED: Final = 1000
"""Images over which the moments are measured, at most."""
_LEAST: Final = 0.0001
"""Added to variances: a channel that is the same everywhere stays finite."""


@dataclass(frozen=True)
class ImageSpec(AutoencoderSpec):
    """Hyperparameters; those of the core, and its own.

    Attributes:
        code: units of the code; as many as in Ruff et al. 2018.
        width: channels of the first layer; the second has twice as many.
    """

    code: int = 32
    width: int = 8
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
            "up2": dense_layer(keys[4], 2 * few, 4 * few),
            "up1": dense_layer(keys[5], few, 4),
        },
    }


def encode(layers: Params, images: jax.Array) -> jax.Array:
    """Images [B, P, P] -> codes [B, H].

    Hidden layers are normalised by the images' own moments, as in training, or by those in ``layers`` (`settled`): then
    an image's code does not depend on the others, and many are encoded in blocks, so that patches do not fill memory.
    """
    if MOMENTS not in layers:
        return _encode(layers, images)[0]
    return in_blocks(lambda some: _encode(layers, some)[0], images)


def settled(layers: Params, images: jax.Array) -> Params:
    """An encoder's layers and the moments of its hidden layers over some of the images."""
    plain = {name: layer for name, layer in layers.items() if name != MOMENTS}
    return {**plain, MOMENTS: _encode(plain, images[:_MEASURED])[1]}


def _encode(layers: Params, images: jax.Array) -> tuple[jax.Array, Params]:
    """Codes, and the moments by which the hidden layers were normalised."""
    known, used, hidden = layers.get(MOMENTS), dict[str, Any](), images[..., None]
    for name in ("down1", "down2"):
        hidden = dense(layers[name], patches(hidden, 4, 2))
        used[name] = _moments(hidden) if known is None else known[name]
        mean, variance = used[name]
        hidden = jax.nn.leaky_relu((hidden - mean) * jax.lax.rsqrt(variance + _LEAST))
    return dense(layers["code"], hidden.reshape(hidden.shape[0], -1)), used


def _moments(hidden: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of each channel."""
    axes = tuple(range(hidden.ndim - 1))
    return jnp.mean(hidden, axis=axes, keepdims=True), jnp.var(hidden, axis=axes, keepdims=True)


def decode(layers: Params, code: jax.Array, side: int) -> jax.Array:
    """Codes [B, H] -> images [B, side, side]."""
    hidden = jax.nn.leaky_relu(dense(layers["start"], code)).reshape(len(code), side // 4, side // 4, -1)
    hidden = jax.nn.leaky_relu(spread(dense(layers["up2"], hidden)))
    return spread(dense(layers["up1"], hidden))[..., 0]


def rebuild(weights: Params, spec: Any, images: jax.Array) -> jax.Array:
    """Images [B, P, P], through the code."""
    del spec
    return decode(weights["decoder"], encode_images(weights, images), images.shape[1])


def encode_images(weights: Params, images: jax.Array) -> jax.Array:
    """Images [B, P, P] -> codes [B, H]."""
    return encode(weights["encoder"], images)


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


def in_blocks(function: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """A function of images [B, ..], of at most so many at a time."""
    if len(images) <= _BLOCK:
        return function(images)
    return jax.lax.map(lambda one: function(one[None])[0], images, batch_size=_BLOCK)


def larger(weights: Params, factor: jax.Array) -> Params:
    """Weights that rebuild ``factor`` times as much."""
    return {**weights, "decoder": {**weights["decoder"], "up1": scaled(weights["decoder"]["up1"], factor)}}


KIND = Kind(init, rebuild, loss, larger, encode_images)
"""The convolutional autoencoder."""
