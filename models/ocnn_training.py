"""Training OC-NN: first w alone, then w, V and the encoder in turns with Theorem 1's r."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.covariance import root
from models.lstm import LstmWeights
from models.lstm_autoencoder import confirmed_share, corrections, cross_fitted, in_chunks
from models.lstm_network import Autoencoder, pack, unpack
from models.lstm_training import Linear, losses, on_device, parts_in_time, take
from models.ocnn import OcnnSpec, closeness, complete, refuse_collapse
from models.ocnn_head import ACTIVATIONS, Head, ocnn_loss, respond, solve_w, theorem1_r
from models.scorer import Fitted, Params, Progress, Windows


class Trainable(NamedTuple):
    """What the gradient steps move: the head and the autoencoder's flax variables."""

    head: Head
    variables: Any


class _Fixed(NamedTuple):
    """What the gradient steps leave alone."""

    linear: Linear
    precision: jax.Array
    anchor: jax.Array


class _Data(NamedTuple):
    """Windows, and the residuals [N, D] of their last samples from linear forecasts fitted without them."""

    windows: Windows
    residual: jax.Array


def train(key: jax.Array, pretrained: Params, windows: Windows, spec: OcnnSpec, progress: Progress) -> Fitted:
    """Alternate from a pretrained autoencoder; see `models.ocnn.fit`.

    Raises:
        FitRefused: the network collapsed.
    """
    older, newest = _parts(windows, spec)
    fixed = _fixed(pretrained)
    weights = LstmWeights(**pretrained["weights"])
    first = _hidden(spec, fixed, weights, fixed.anchor, older)
    head = Head(solve_w(first, spec.nu, spec.head_steps), fixed.anchor)
    held = _hidden(spec, fixed, weights, fixed.anchor, newest)
    untrained = jnp.concatenate([first, held]) @ jnp.mean(first, axis=0)
    trainable, curves = _alternate(key, spec, fixed, Trainable(head, unpack(weights)), older, progress)
    weights = _confirmed(pack(trainable.variables), pretrained, newest.windows)
    y = _hidden(spec, fixed, weights, trainable.head.v, older) @ trainable.head.w
    r = theorem1_r(y, spec.nu)
    after = jnp.concatenate([y, _hidden(spec, fixed, weights, trainable.head.v, newest) @ trainable.head.w])
    curves["loss"][-1], curves["r"][-1] = (
        float(ocnn_loss(trainable.head, fixed.anchor, y, r, spec.nu)),
        float(r),
    )
    refuse_collapse(curves["loss"][-1], float(r), np.asarray(after), np.asarray(untrained), spec.min_spread)
    learnt = {"weights": weights._asdict(), "root": fixed.linear.root, **trainable.head._asdict(), "r": r}
    return Fitted({**pretrained, **learnt}, {name: tuple(curve) for name, curve in curves.items()})


def _parts(windows: Windows, spec: OcnnSpec) -> tuple[_Data, _Data]:
    """The older windows, to learn from, and the newest; not more of them than an epoch draws."""
    residual = cross_fitted(windows, spec.order, spec.ridge)
    count, length, _ = windows.values.shape
    old, new = parts_in_time(count, length, spec.held_out)
    most = spec.epoch_windows
    return _spread(windows, residual, old, most), _spread(windows, residual, new, most)


def _spread(windows: Windows, residual: jax.Array, part: slice, most: int) -> _Data:
    few = slice(part.start, part.stop, max(1, -(-(part.stop - part.start) // most)))
    return _Data(on_device(Windows(windows.values[few], windows.mask[few])), residual[few])


def _fixed(pretrained: Params) -> _Fixed:
    sensors = pretrained["precision"].shape[0]
    linear = Linear(pretrained["forecast"], root(pretrained["precision"]))
    return _Fixed(linear, pretrained["precision"], jnp.eye(sensors, dtype=jnp.float32))


def _hidden(spec: OcnnSpec, fixed: _Fixed, weights: LstmWeights, v: jax.Array, data: _Data) -> jax.Array:
    """The hidden layer g(V z) of any number of windows, [N, K]."""
    added = jnp.concatenate([corrections(weights, chunk.values) for chunk in in_chunks(data.windows)])
    z = _features(spec, fixed, data.residual - added, data.windows.mask[:, -1])
    return ACTIVATIONS[spec.activation](z @ v.T)


def _features(spec: OcnnSpec, fixed: _Fixed, residual: jax.Array, real: jax.Array) -> jax.Array:
    return closeness(complete(residual, real, fixed.precision) @ fixed.linear.root, spec.width)


def _alternate(
    key: jax.Array, spec: OcnnSpec, fixed: _Fixed, trainable: Trainable, data: _Data, progress: Progress
) -> tuple[Trainable, dict[str, list[float]]]:
    """Epochs of gradient steps, each followed by Theorem 1's r."""
    network = Autoencoder(spec.hidden, min(spec.tail, data.windows.values.shape[1]), spec.dropout)
    state = _optimiser(spec).init(trainable)
    curves: dict[str, list[float]] = {"loss": [], "r": [], "spread": []}
    r = theorem1_r(_responses(spec, fixed, trainable, data), spec.nu)
    for done, turn in enumerate(jax.random.split(key, spec.alternations), start=1):
        trainable, state = _epoch(spec, network, fixed, trainable, state, r, turn, data)
        y = _responses(spec, fixed, trainable, data)
        r = theorem1_r(y, spec.nu)
        loss = ocnn_loss(trainable.head, fixed.anchor, y, r, spec.nu)
        now = {"loss": float(loss), "r": float(r), "spread": float(jnp.std(y))}
        for name, value in now.items():
            curves[name].append(value)
        progress(done, spec.alternations, now)
    return trainable, curves


def _responses(spec: OcnnSpec, fixed: _Fixed, trainable: Trainable, data: _Data) -> jax.Array:
    return _hidden(spec, fixed, pack(trainable.variables), trainable.head.v, data) @ trainable.head.w


def _confirmed(weights: LstmWeights, linear: Params, newest: Windows) -> LstmWeights:
    """With that share of the forecast's corrections that held-out windows confirm."""
    return weights._replace(forecast=confirmed_share(weights, linear, newest) * weights.forecast)


def _optimiser(spec: OcnnSpec) -> optax.GradientTransformation:
    """Plain gradient steps on w and V, Adam's on the encoder.

    Adam would move each of V's entries by as much, noise and all; its gradient w z' has rank one.
    """
    steps: Any = {"head": optax.sgd(spec.head_learning_rate), "rest": optax.adam(spec.encoder_learning_rate)}
    labels: Any = Trainable("head", "rest")  # pyright: ignore[reportArgumentType] # a tree of names, as optax asks
    return optax.chain(optax.clip_by_global_norm(1.0), optax.partition(steps, labels))


@partial(jax.jit, static_argnums=(0, 1))
def _epoch(
    spec: OcnnSpec,
    network: Autoencoder,
    fixed: _Fixed,
    trainable: Trainable,
    state: Any,
    r: jax.Array,
    key: jax.Array,
    data: _Data,
) -> tuple[Trainable, Any]:
    """Gradient steps on w >= 0, V and the autoencoder with r fixed, in one scan."""
    count, optimiser = data.residual.shape[0], _optimiser(spec)
    picks = jax.random.randint(key, (max(1, count // spec.batch), spec.batch), 0, count)
    objective = partial(_objective, spec, network, fixed, r)

    def step(carry: tuple[Trainable, Any], pick: jax.Array) -> tuple[tuple[Trainable, Any], None]:
        trainable, state = carry
        gradient = jax.grad(objective)(trainable, _Data(take(data.windows, pick), data.residual[pick]))
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
            updates, state = optimiser.update(gradient, state, trainable)
        moved: Any = optax.apply_updates(trainable, updates)
        head = Head(jax.nn.relu(moved.head.w), moved.head.v)
        return (Trainable(head, moved.variables), state), None

    return jax.lax.scan(step, (trainable, state), picks)[0]


def _objective(
    spec: OcnnSpec, network: Autoencoder, fixed: _Fixed, r: jax.Array, trainable: Trainable, data: _Data
) -> jax.Array:
    """OC-NN's loss plus the autoencoder's own, which keep the encoder from mapping all to one point."""
    guess: Any = network.apply(trainable.variables, data.windows.values)
    z = _features(spec, fixed, data.residual - guess.corrections[:, -1], data.windows.mask[:, -1])
    y = respond(trainable.head, z, ACTIVATIONS[spec.activation])
    own = losses(guess, fixed.linear, data.windows)
    anchored = own.forecast + spec.reconstruction_weight * own.reconstruction
    return ocnn_loss(trainable.head, fixed.anchor, y, r, spec.nu) + spec.anchor_weight * anchored
