"""Training the LSTM autoencoder: batch-major, in flax and optax, which only this module imports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from models.lstm import LstmWeights
from models.scorer import FitRefused, Progress, Windows

_GATES = "ifog"


class Autoencoder(nn.Module):
    """LSTM(D -> H), its last state repeated, LSTM(H -> H) backwards in time, dense(H -> D).

    Attributes:
        hidden: H.
    """

    hidden: int

    @nn.compact
    def __call__(self, values: jax.Array) -> jax.Array:
        """Reconstruct windows [B, T, D]."""
        states: Any = nn.RNN(nn.OptimizedLSTMCell(self.hidden, name="encoder"))(values)
        code = states[:, -1, :]
        repeated = jnp.broadcast_to(code[:, None, :], (*values.shape[:2], self.hidden))
        decoded = nn.RNN(nn.OptimizedLSTMCell(self.hidden, name="decoder"))(repeated)
        return nn.Dense(values.shape[2], name="output")(decoded)[:, ::-1, :]


def pack(variables: Mapping[str, Any]) -> LstmWeights:
    """The scoring layout of flax parameters."""
    tree = variables["params"]
    encoder, decoder, output = tree["encoder"], tree["decoder"], tree["output"]
    return LstmWeights(
        encoder=jnp.concatenate([_gates(encoder, "h"), _gates(encoder, "i"), _biases(encoder)], axis=1),
        decoder_state=_gates(decoder, "h"),
        decoder_code=jnp.concatenate([_gates(decoder, "i"), _biases(decoder)], axis=1),
        output=jnp.concatenate([output["kernel"].T, output["bias"][:, None]], axis=1),
    )


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


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast to train.

    Attributes:
        epochs: at most so many.
        epoch_windows: windows drawn per epoch; neighbouring windows share nearly all rows, so a sample is
            enough.
        batch: windows per gradient step.
        learning_rate: Adam's.
        patience: epochs without a better validation loss before training stops.
        held_out: the newest share of the windows, for the validation curve and the residuals' covariance.
    """

    epochs: int
    epoch_windows: int
    batch: int
    learning_rate: float
    patience: int
    held_out: float


class Trained(NamedTuple):
    """The best epoch's flax variables, and the loss curves."""

    variables: Mapping[str, Any]
    curves: Mapping[str, tuple[float, ...]]


def split_in_time(windows: Windows, held_out: float) -> tuple[Windows, Windows]:
    """The older and the newest windows, with a window's length left out between them.

    Raises:
        FitRefused: either part would be empty.
    """
    count, length, _ = windows.values.shape
    first = count - int(count * held_out)
    train_end = max(first - length, min(first, count // 2))
    if train_end < 1 or first >= count:
        raise FitRefused(
            f"fit: got {count} windows of {length} samples, too few to hold a part out; "
            "hint: use a longer history"
        )
    old, new = slice(0, train_end), slice(first, count)
    return Windows(windows.values[old], windows.mask[old]), Windows(windows.values[new], windows.mask[new])


Loss = Callable[[Any, jax.Array, jax.Array], jax.Array]
"""``loss(variables, values [B, T, D], mask [B, T, D]) -> scalar``."""


def reconstruction_loss(network: nn.Module) -> Loss:
    """Mean squared error over the real entries."""

    def loss(variables: Any, values: jax.Array, mask: jax.Array) -> jax.Array:
        rebuilt: Any = network.apply(variables, values)
        weight = mask.astype(values.dtype)
        return jnp.sum(weight * (rebuilt - values) ** 2) / jnp.maximum(jnp.sum(weight), 1.0)

    return loss


def train(rng: jax.Array, hidden: int, windows: Windows, plan: TrainingPlan, progress: Progress) -> Trained:
    """Train an autoencoder with Adam and early stopping.

    Args:
        rng: key for the initial weights and the draws.
        hidden: H.
        windows: [N, T, D] normal windows in order of time.
        plan: how long and how fast.
        progress: called after every epoch.

    Returns:
        The variables of the epoch with the lowest validation loss; curves ``train`` and ``validation``.

    Raises:
        FitRefused: too few windows, or the loss stopped being finite.
    """
    key_init, key_draw = jax.random.split(rng)
    older, newest = split_in_time(windows, plan.held_out)
    network = Autoencoder(hidden)
    variables = jax.jit(network.init)(key_init, jnp.zeros((1, *windows.values.shape[1:]), jnp.float32))
    loss = reconstruction_loss(network)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(plan.learning_rate))
    epoch = jax.jit(partial(_epoch, loss, optimiser, plan), donate_argnums=(0, 1))
    validate = jax.jit(loss)
    held = on_device(spread(newest, plan.epoch_windows // 4))
    data = on_device(older)
    state = optimiser.init(variables)
    curves: dict[str, list[float]] = {"train": [], "validation": []}
    best = jax.tree.map(np.asarray, variables)
    for done, key in enumerate(jax.random.split(key_draw, plan.epochs), start=1):
        variables, state, trained = epoch(variables, state, key, data)
        curves["train"].append(float(trained))
        curves["validation"].append(float(validate(variables, *held)))
        _finite(curves)
        progress(done, plan.epochs, {name: curve[-1] for name, curve in curves.items()})
        if curves["validation"][-1] <= min(curves["validation"]):
            best = jax.tree.map(np.array, variables)
        elif done - 1 - int(np.argmin(curves["validation"])) >= plan.patience:
            break
    return Trained(jax.tree.map(jnp.asarray, best), {name: tuple(curve) for name, curve in curves.items()})


def _epoch(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    plan: TrainingPlan,
    variables: Any,
    state: Any,
    key: jax.Array,
    data: Windows,
) -> tuple[Any, Any, jax.Array]:
    """One epoch in one scan: windows are gathered per step, never shuffled as a whole."""
    count = data.values.shape[0]
    steps = max(1, min(count, plan.epoch_windows) // plan.batch)
    picks = jax.random.randint(key, (steps, plan.batch), 0, count)

    def step(carry: tuple[Any, Any], pick: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        variables, state = carry
        value, gradient = jax.value_and_grad(loss)(variables, data.values[pick], data.mask[pick])
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
            updates, state = optimiser.update(gradient, state, variables)
        return (optax.apply_updates(variables, updates), state), value

    (variables, state), losses = jax.lax.scan(step, (variables, state), picks)
    return variables, state, jnp.mean(losses)


def spread(windows: Windows, most: int) -> Windows:
    """At most so many windows, evenly spaced."""
    step = max(1, -(-len(windows.values) // max(1, most)))
    return Windows(windows.values[::step], windows.mask[::step])


def on_device(windows: Windows) -> Windows:
    """Windows as JAX arrays."""
    return Windows(jnp.asarray(windows.values), jnp.asarray(windows.mask))


def _finite(curves: Mapping[str, list[float]]) -> None:
    if not np.isfinite([curve[-1] for curve in curves.values()]).all():
        raise FitRefused(
            "fit: got a loss that is not finite, expected training to converge; hint: lower the learning rate"
        )
