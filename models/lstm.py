"""The LSTM autoencoder's forward pass, feature-major: the fast way to score on a CPU.

    encoder:    [i f o g] = W [h; x_t; 1]           t = 1 .. T - 1
    forecast:   F h_(t-1)                           what the past adds to the linear forecast of each sample

The state is [H, B], so one product per step feeds all gates of all windows; i, f and o are halved beforehand,
``sigmoid(a) = (1 + tanh(a / 2)) / 2``, so that every gate is a tanh. The decoder is needed in training only,
which is batch-major in `models.lstm_training`, with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

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
        forecast: [D, H] on the encoder's state before the last sample.
    """

    encoder: jax.Array
    decoder_state: jax.Array
    decoder_code: jax.Array
    output: jax.Array
    forecast: jax.Array


def code(weights: LstmWeights, values: jax.Array) -> jax.Array:
    """The encoder's state [B, H] behind the last sample of windows [B, T, D]: what the decoder rebuilds them from."""
    return _read(weights, jnp.transpose(values, (1, 2, 0)), lambda _: None)[0].T


def corrections(weights: LstmWeights, values: jax.Array) -> jax.Array:
    """What the network adds to the linear forecasts of a window's samples.

    Args:
        weights: packed weights.
        values: [B, T, D]; B at most `CHUNK` or a multiple of it. The last sample is not looked at.

    Returns:
        [B, T, D]; 0 for the first sample, which has no past.
    """
    batch, length, sensors = values.shape
    if batch <= CHUNK or batch % CHUNK:
        return _corrections(weights, values)
    chunks = values.reshape(batch // CHUNK, CHUNK, length, sensors)
    return jax.lax.map(lambda chunk: _corrections(weights, chunk), chunks).reshape(batch, length, sensors)


def _corrections(weights: LstmWeights, values: jax.Array) -> jax.Array:
    before = jnp.transpose(values[:, :-1, :], (1, 2, 0))  # [T - 1, D, B]
    added = _read(weights, before, lambda h: weights.forecast @ h)[1]  # [T - 1, D, B]
    return jnp.pad(jnp.transpose(added, (2, 0, 1)), ((0, 0), (1, 0), (0, 0)))


def _read(
    weights: LstmWeights, samples: jax.Array, shown: Callable[[jax.Array], jax.Array | None]
) -> tuple[jax.Array, Any]:
    """The encoder over samples [T, D, B]: its last state [H, B], and what is shown of the state behind each."""
    hidden, batch = weights.decoder_state.shape[1], samples.shape[2]
    ones = jnp.ones((1, batch), samples.dtype)

    def step(
        state: tuple[jax.Array, jax.Array], sample: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array | None]:
        h, c = state
        h, c = _cell(weights.encoder @ jnp.concatenate([h, sample, ones]), c)  # [4H, B]
        return (h, c), shown(h)

    zeros = jnp.zeros((hidden, batch), samples.dtype)
    (h, _), seen = jax.lax.scan(step, (zeros, zeros), samples)
    return h, seen


def _cell(projected: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One LSTM step from the projected gates [4H, B] and the memory [H, B]; the new (h, c)."""
    i, f, o, g = jnp.split(jnp.tanh(projected), 4)
    c = (0.5 + 0.5 * f) * c + (0.5 + 0.5 * i) * g
    return (0.5 + 0.5 * o) * jnp.tanh(c), c
