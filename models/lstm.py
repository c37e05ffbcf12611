"""The LSTM autoencoder's forward pass, feature-major: the fast way to score on a CPU.

    encoder:  [i f o g] = W [h; x_t; 1]            t = 1 .. T, code = the last h
    decoder:  [i f o g] = V h + U [code; 1]        newest sample first
    output:   x^_t = O [h; 1]

The state is [H, B], so one product per step feeds all gates of all windows; i, f and o are halved beforehand,
``sigmoid(a) = (1 + tanh(a / 2)) / 2``, so that every gate is a tanh; the decoder's input never changes and is
projected once. The decoder runs backwards in time (Srivastava et al. 2015, arXiv:1502.04681): the newest
samples, the ones that are scored, come out first, and the older ones need not be decoded at all. Training is
batch-major in `models.lstm_training`, with the same weights.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

CHUNK = 128
"""Windows per pass: the state of more does not stay in a core's cache."""


class LstmWeights(NamedTuple):
    """Packed weights; rows of the gates are i, f, o (halved), g.

    Attributes:
        encoder: [4H, H + D + 1] on [h; x; 1].
        decoder_state: [4H, H] on h.
        decoder_code: [4H, H + 1] on [code; 1].
        output: [D, H + 1] on [h; 1].
    """

    encoder: jax.Array
    decoder_state: jax.Array
    decoder_code: jax.Array
    output: jax.Array


def reconstruct_tail(weights: LstmWeights, values: jax.Array, rows: int) -> jax.Array:
    """Reconstruct the newest samples of windows.

    Args:
        weights: packed weights.
        values: [B, T, D]; B at most `CHUNK` or a multiple of it.
        rows: how many of the newest samples, at most T.

    Returns:
        [B, rows, D], oldest first.
    """
    batch, length, sensors = values.shape
    if batch <= CHUNK or batch % CHUNK:
        return _reconstruct(weights, values, rows)
    chunks = values.reshape(batch // CHUNK, CHUNK, length, sensors)
    return jax.lax.map(lambda chunk: _reconstruct(weights, chunk, rows), chunks).reshape(batch, rows, sensors)


def encode(weights: LstmWeights, values: jax.Array) -> jax.Array:
    """The code of windows [B, T, D], feature-major [H, B]."""
    hidden, batch = weights.decoder_state.shape[1], values.shape[0]
    ones = jnp.ones((1, batch), values.dtype)

    def step(
        state: tuple[jax.Array, jax.Array], sample: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        h, c = state
        return _cell(weights.encoder @ jnp.concatenate([h, sample, ones]), c), None  # [4H, B]

    zeros = jnp.zeros((hidden, batch), values.dtype)
    return jax.lax.scan(step, (zeros, zeros), jnp.transpose(values, (1, 2, 0)))[0][0]


def _reconstruct(weights: LstmWeights, values: jax.Array, rows: int) -> jax.Array:
    code = encode(weights, values)  # [H, B]
    ones = jnp.ones((1, code.shape[1]), code.dtype)
    constant = weights.decoder_code @ jnp.concatenate([code, ones])  # [4H, B]

    def step(state: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        h, c = _cell(weights.decoder_state @ state[0] + constant, state[1])
        return (h, c), weights.output @ jnp.concatenate([h, ones])  # [D, B]

    zeros = jnp.zeros_like(code)
    newest_first = jax.lax.scan(step, (zeros, zeros), None, length=rows)[1]  # [rows, D, B]
    return jnp.transpose(newest_first[::-1], (2, 0, 1))


def _cell(projected: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One LSTM step from the projected gates [4H, B] and the memory [H, B]; the new (h, c)."""
    i, f, o, g = jnp.split(jnp.tanh(projected), 4)
    c = (0.5 + 0.5 * f) * c + (0.5 + 0.5 * i) * g
    return (0.5 + 0.5 * o) * jnp.tanh(c), c
