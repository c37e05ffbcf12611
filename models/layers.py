"""Layers of the small networks, as plain functions on nested mappings of arrays: what scoring runs needs no flax.

Shape letters: B windows, T samples, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Layer = Mapping[str, jax.Array]
"""``kernel`` [inputs, outputs] and, unless the layer has none, ``bias`` [outputs]."""
Layers = Mapping[str, Any]
"""Layers by their number as text, from '0': a bundle holds nested mappings, not lists."""
Activation = Callable[[jax.Array], jax.Array]


def dense_layer(key: jax.Array, inputs: int, outputs: int, *, bias: bool = True) -> dict[str, jax.Array]:
    """A layer with normal weights of variance 1 / inputs (LeCun et al. 1998)."""
    kernel = jax.random.normal(key, (inputs, outputs), jnp.float32) * inputs**-0.5
    return {"kernel": kernel} | ({"bias": jnp.zeros(outputs, jnp.float32)} if bias else {})


def dense(layer: Layer, features: jax.Array) -> jax.Array:
    """Features [..., inputs] -> [..., outputs]."""
    product = features @ layer["kernel"]
    if "bias" not in layer:
        return product
    return product + jnp.broadcast_to(layer["bias"], product.shape)


def perceptron_layers(key: jax.Array, sizes: Sequence[int], *, bias: bool = True) -> dict[str, Any]:
    """Layers from ``sizes[0]`` inputs through the hidden sizes to ``sizes[-1]`` outputs."""
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return {str(place): dense_layer(one, *pair, bias=bias) for place, (one, *pair) in enumerate(pairs)}


def perceptron(layers: Layers, features: jax.Array, activation: Activation = jax.nn.elu) -> jax.Array:
    """Layers one after another, the activation between them and not after the last."""
    for place in range(len(layers)):
        features = dense(layers[str(place)], features if place == 0 else activation(features))
    return features


def convolve(layer: Layer, values: jax.Array, stride: int = 1) -> jax.Array:
    """Convolution along time with zeros beyond the ends, [B, T, F] -> [B, ceil(T / stride), outputs].

    Written as one product over gathered patches: inside a compiled loop XLA's own convolution is slow on CPUs.

    Args:
        layer: a dense layer of an odd ``width`` times F inputs.
        values: [B, T, F].
        stride: samples between two outputs.
    """
    length, features = values.shape[1:]
    width = layer["kernel"].shape[0] // features
    padded = jnp.pad(values, ((0, 0), (width // 2, width // 2), (0, 0)))
    patches = [padded[:, place : place + length : stride] for place in range(width)]
    return dense(layer, jnp.concatenate(patches, axis=2))


def stretch(values: jax.Array, length: int) -> jax.Array:
    """Every sample twice, cut to ``length``: [B, T, F] -> [B, length, F]."""
    return jnp.repeat(values, 2, axis=1)[:, :length]


def scaled(layer: Layer, factor: jax.Array) -> dict[str, jax.Array]:
    """The layer whose outputs are ``factor`` times as large."""
    return {name: factor * value for name, value in layer.items()}
