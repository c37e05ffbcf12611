"""Layers of the small networks, against NumPy and SciPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.signal import correlate

from models.layers import convolve, dense_layer, perceptron, perceptron_layers, stretch

VALUES = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)


def test_a_perceptron_is_matrix_products_with_the_activation_between():
    layers = perceptron_layers(jax.random.key(0), (3, 4, 2))
    layers["0"]["bias"] = jnp.arange(4.0)
    hidden = np.tanh(VALUES @ np.asarray(layers["0"]["kernel"]) + np.arange(4.0))
    expected = hidden @ np.asarray(layers["1"]["kernel"])
    np.testing.assert_allclose(
        perceptron(layers, jnp.asarray(VALUES), jnp.tanh), expected, rtol=1e-5, atol=1e-6
    )


def test_layers_without_biases_map_zero_to_zero():
    layers = perceptron_layers(jax.random.key(0), (3, 4, 2), bias=False)
    assert all("bias" not in layer for layer in layers.values())
    np.testing.assert_array_equal(perceptron(layers, jnp.zeros((1, 3))), np.zeros((1, 2)))


def test_a_convolution_is_that_of_scipy():
    layer = dense_layer(jax.random.key(1), 5 * 3, 4)
    kernel = np.asarray(layer["kernel"]).reshape(5, 3, 4)
    expected = np.stack(
        [
            [sum(correlate(window[:, f], kernel[:, f, out], "same") for f in range(3)) for out in range(4)]
            for window in VALUES
        ]
    ).transpose(0, 2, 1)
    found = convolve(layer, jnp.asarray(VALUES))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(convolve(layer, jnp.asarray(VALUES), 2), found[:, ::2], rtol=1e-5, atol=1e-6)


def test_stretching_repeats_samples_and_cuts_to_length():
    found = stretch(jnp.asarray(VALUES[:, :2]), 3)
    np.testing.assert_array_equal(found, VALUES[:, [0, 0, 1]])
