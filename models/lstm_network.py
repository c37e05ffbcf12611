"""The LSTM autoencoder's flax network, batch-major, for training; and its weights in the scoring layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.lstm import LstmWeights

_GATES = "ifog"


class Guess(NamedTuple):
    """What the network says of windows, at every sample.

    Attributes:
        corrections: [B, T, D], what the state before each sample adds to that sample's linear forecast.
        rebuilt: [B, tail, D], the newest samples as reconstructed, oldest first.
    """

    corrections: jax.Array
    rebuilt: jax.Array


class Autoencoder(nn.Module):
    """LSTM(D -> H) with a forecasting head, and a decoder: LSTM(H -> H) backwards in time, dense(H -> D).

    The forecasting head starts at zero: the untrained network forecasts what the linear model does.

    Attributes:
        hidden: H.
        tail: newest samples that are reconstructed.
        dropout: share of the states that the forecasting head does not see at a training step.
    """

    hidden: int
    tail: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, values: jax.Array, *, training: bool = False) -> Guess:
        """Look at windows [B, T, D]."""
        sensors, zeros = values.shape[2], nn.initializers.zeros_init()
        states: Any = nn.RNN(nn.OptimizedLSTMCell(self.hidden, name="encoder"))(values)
        before = jnp.pad(states[:, :-1, :], ((0, 0), (1, 0), (0, 0)))
        before = nn.Dropout(self.dropout, deterministic=not training)(before)
        corrections = nn.Dense(sensors, use_bias=False, kernel_init=zeros, name="forecast")(before)
        repeated = jnp.repeat(states[:, -1:, :], self.tail, axis=1)
        decoded = nn.RNN(nn.OptimizedLSTMCell(self.hidden, name="decoder"))(repeated)
        return Guess(corrections, nn.Dense(sensors, name="output")(decoded)[:, ::-1, :])


@jax.jit
def pack(variables: Mapping[str, Any]) -> LstmWeights:
    """The scoring layout of flax parameters."""
    tree = variables["params"]
    encoder, decoder, output = tree["encoder"], tree["decoder"], tree["output"]
    return LstmWeights(
        encoder=jnp.concatenate([_gates(encoder, "h"), _gates(encoder, "i"), _biases(encoder)], axis=1),
        decoder_state=_gates(decoder, "h"),
        decoder_code=jnp.concatenate([_gates(decoder, "i"), _biases(decoder)], axis=1),
        output=jnp.concatenate([output["kernel"].T, output["bias"][:, None]], axis=1),
        forecast=tree["forecast"]["kernel"].T,
    )


@jax.jit
def unpack(weights: LstmWeights) -> dict[str, Any]:
    """The flax parameters of the scoring layout; `pack` undoes it to the last bit."""
    hidden = weights.decoder_state.shape[1]
    inputs = weights.encoder.shape[1] - hidden - 1
    encoder = jnp.split(weights.encoder, [hidden, hidden + inputs], axis=1)
    decoder_code, decoder_bias = jnp.split(weights.decoder_code, [hidden], axis=1)
    output, output_bias = jnp.split(weights.output, [hidden], axis=1)
    return {
        "params": {
            "encoder": _cell(*encoder),
            "decoder": _cell(weights.decoder_state, decoder_code, decoder_bias),
            "output": {"kernel": output.T, "bias": output_bias[:, 0]},
            "forecast": {"kernel": weights.forecast.T},
        }
    }


def _cell(state: jax.Array, inputs: jax.Array, bias: jax.Array) -> dict[str, Any]:
    cell: dict[str, Any] = {}
    parts = zip(_GATES, jnp.split(state, 4), jnp.split(inputs, 4), jnp.split(bias, 4), strict=True)
    for gate, h, i, b in parts:
        scale = 1.0 / _half(gate)
        cell["h" + gate] = {"kernel": h.T * scale, "bias": b[:, 0] * scale}
        cell["i" + gate] = {"kernel": i.T * scale}
    return cell


def _gates(cell: Mapping[str, Any], source: str) -> jax.Array:
    return jnp.concatenate([cell[source + gate]["kernel"].T * _half(gate) for gate in _GATES])


def _biases(cell: Mapping[str, Any]) -> jax.Array:
    return jnp.concatenate([cell["h" + gate]["bias"] * _half(gate) for gate in _GATES])[:, None]


def _half(gate: str) -> float:
    return 1.0 if gate == "g" else 0.5
