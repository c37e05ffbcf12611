"""Training OC-NN: first w alone, then w, V and the encoder in turns with Theorem 1's r."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.covariance import root
from models.cross_fitting import cross_fitted, fold_forecasts
from models.innovations import innovations
from models.lstm import LstmWeights, corrections
from models.lstm_autoencoder import confirmed_share
from models.lstm_network import Autoencoder, pack, unpack
from models.lstm_training import Linear, losses, on_device, parts_in_time, some_begun_later, take
from models.ocnn import OcnnSpec, Whitening, closeness, refuse_collapse, whitened
from models.ocnn_head import ACTIVATIONS, Head, ocnn_loss, respond, solve_w, theorem1_r
from models.scorer import Fitted, Params, Progress, Windows
from models.var import in_chunks

_FLOOR = -3.0
"""No feature is less close than this in training, 2.8 widths off: a few outliers must not decide the weights. Scoring
has no floor."""


class Trainable(NamedTuple):
    """What the gradient steps move: the head and the autoencoder's flax variables."""

    head: Head
    variables: Any


class _Fixed(NamedTuple):
    """What the gradient steps leave alone: the linear forecast, what whitens errors, their scale [], V0 [F, F]."""

    linear: Linear
    whitening: Whitening
    scale: jax.Array
    anchor: jax.Array


class _Data(NamedTuple):
    """Windows, and the errors [N, L, D] of linear forecasts that were fitted without them."""

    windows: Windows
    residual: jax.Array


def train(key: jax.Array, pretrained: Params, windows: Windows, spec: OcnnSpec, progress: Progress) -> Fitted:
    """Alternate from a pretrained autoencoder; see `models.ocnn.fit`.

    Raises:
        FitRefused: the network collapsed.
    """
    older, newest = _parts(windows, spec)
    weights = LstmWeights(**pretrained["weights"])
    fixed = _fixed(pretrained, spec, weights, older)
    first = _hidden(spec, fixed, weights, fixed.anchor, older)
    head = Head(jax.nn.relu(solve_w(first, spec.nu, spec.head_steps)), fixed.anchor)
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
    learnt = {
        "weights": weights._asdict(),
        **trainable.head._asdict(),
        "r": r,
        "scale": fixed.scale,
        "root": fixed.whitening.root,
        **({} if fixed.whitening.slow_root is None else {"slow_root": fixed.whitening.slow_root}),
    }
    return Fitted({**pretrained, **learnt}, {name: tuple(curve) for name, curve in curves.items()})


def _parts(windows: Windows, spec: OcnnSpec) -> tuple[_Data, _Data]:
    """The older windows, to learn from, and the newest; not more of them than an epoch draws."""
    forecasts = fold_forecasts(windows, spec.order, spec.ridge)
    old, new = parts_in_time(len(windows.values), windows.values.shape[1], spec.held_out)

    def some(part: slice) -> _Data:
        few = slice(part.start, part.stop, max(1, -(-(part.stop - part.start) // spec.epoch_windows)))
        taken = on_device(Windows(windows.values[few], windows.mask[few]))
        return _Data(taken, cross_fitted(forecasts, taken.values, few))

    return some(old), some(new)


def _fixed(pretrained: Params, spec: OcnnSpec, weights: LstmWeights, older: _Data) -> _Fixed:
    slow = pretrained.get("slow_precision")
    by = Whitening(
        pretrained["precision"], root(pretrained["precision"]), slow, None if slow is None else root(slow)
    )
    u = jnp.concatenate([_errors(spec, by, weights, chunk) for chunk in _chunks(older)])
    linear = Linear(pretrained["forecast"], by.root)
    return _Fixed(linear, by, jnp.sqrt(jnp.mean(u**2)), jnp.eye(u.shape[1], dtype=u.dtype))


def _chunks(data: _Data, size: int = 1024) -> Iterator[_Data]:
    for chunk, start in zip(in_chunks(data.windows, size), range(0, len(data.residual), size), strict=True):
        yield _Data(chunk, data.residual[start : start + size])


@partial(jax.jit, static_argnums=0)
def _errors(spec: OcnnSpec, by: Whitening, weights: LstmWeights, data: _Data) -> jax.Array:
    """Whitened errors u [N, F] of cross-fitted linear forecasts with the network's corrections."""
    return _whitened(spec, by, data, corrections(weights, data.windows.values))


def _whitened(spec: OcnnSpec, by: Whitening, data: _Data, added: jax.Array) -> jax.Array:
    order = added.shape[1] - data.residual.shape[1]
    found = innovations(data.residual - added[:, order:], data.windows.mask)
    return whitened(found, by, spec.memory_weight)


def _hidden(spec: OcnnSpec, fixed: _Fixed, weights: LstmWeights, v: jax.Array, data: _Data) -> jax.Array:
    """The hidden layer g(V z) of any number of windows, [N, K]."""
    u = jnp.concatenate([_errors(spec, fixed.whitening, weights, chunk) for chunk in _chunks(data)])
    return ACTIVATIONS[spec.activation](_features(spec, fixed, u) @ v.T)


def _features(spec: OcnnSpec, fixed: _Fixed, u: jax.Array) -> jax.Array:
    """Closeness z [N, F], with the floor of training."""
    return jnp.maximum(closeness(u / fixed.scale, spec.width), _FLOOR / (2.0 * u.shape[-1]) ** 0.5)


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
    key_pick, key_begin = jax.random.split(key)
    picks = jax.random.randint(key_pick, (max(1, count // spec.batch), spec.batch), 0, count)
    begins = jax.random.split(key_begin, len(picks))
    objective = partial(_objective, spec, network, fixed, r)

    def step(
        carry: tuple[Trainable, Any], drawn: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[Trainable, Any], None]:
        trainable, state = carry
        pick, begin = drawn
        windows = some_begun_later(begin, take(data.windows, pick))
        gradient = jax.grad(objective)(trainable, _Data(windows, data.residual[pick]))
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
            updates, state = optimiser.update(gradient, state, trainable)
        moved: Any = optax.apply_updates(trainable, updates)
        head = Head(jax.nn.relu(moved.head.w), moved.head.v)
        return (Trainable(head, moved.variables), state), None

    return jax.lax.scan(step, (trainable, state), (picks, begins))[0]


def _objective(
    spec: OcnnSpec, network: Autoencoder, fixed: _Fixed, r: jax.Array, trainable: Trainable, data: _Data
) -> jax.Array:
    """OC-NN's loss plus the autoencoder's own, which keep the encoder from mapping all to one point."""
    guess: Any = network.apply(trainable.variables, data.windows.values)
    z = _features(spec, fixed, _whitened(spec, fixed.whitening, data, guess.corrections))
    y = respond(trainable.head, z, ACTIVATIONS[spec.activation])
    own = losses(guess, fixed.linear, data.windows)
    anchored = own.forecast + spec.reconstruction_weight * own.reconstruction
    return ocnn_loss(trainable.head, fixed.anchor, y, r, spec.nu) + spec.anchor_weight * anchored
