"""Training OC-NN: first w alone, then w, V and the encoder in turns with Theorem 1's r."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from models.covariance import root
from models.lstm import LstmWeights
from models.lstm_autoencoder import residuals_of
from models.lstm_training import Autoencoder, on_device, pack, split_in_time, spread, unpack
from models.ocnn import OcnnSpec, Whitening, all_features, features, refuse_collapse
from models.ocnn_head import ACTIVATIONS, Head, ocnn_loss, respond, solve_w, theorem1_r
from models.scorer import Fitted, Params, Progress, Windows


class Trainable(NamedTuple):
    """What the gradient steps move: the head and the autoencoder's flax variables."""

    head: Head
    variables: Any


class _Fixed(NamedTuple):
    """What the gradient steps leave alone."""

    whitening: Whitening
    anchor: jax.Array


def train(key: jax.Array, pretrained: Params, windows: Windows, spec: OcnnSpec, progress: Progress) -> Fitted:
    """Alternate from a pretrained autoencoder; see `models.ocnn.fit`.

    Raises:
        FitRefused: the network collapsed.
    """
    older, newest = split_in_time(windows, spec.held_out)
    reference, held = spread(older, spec.epoch_windows // 2), spread(newest, spec.epoch_windows // 2)
    whitening, activation = _whitening(pretrained), ACTIVATIONS[spec.activation]
    weights = LstmWeights(**pretrained["weights"])

    def responses(trainable: Trainable, of: Windows) -> jax.Array:
        return respond(
            trainable.head, all_features(pack(trainable.variables), whitening, spec, of), activation
        )

    anchor = jnp.eye(2 * windows.values.shape[2], dtype=jnp.float32)
    hidden = activation(all_features(weights, whitening, spec, reference) @ anchor.T)
    first = Trainable(Head(jnp.mean(hidden, axis=0), anchor), unpack(weights))
    untrained = responses(first, held)
    trainable = Trainable(Head(solve_w(hidden, spec.nu, spec.head_steps), anchor), first.variables)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(spec.head_learning_rate))
    epoch = jax.jit(partial(_epoch, spec, optimiser, Autoencoder(spec.hidden), _Fixed(whitening, anchor)))
    state, data, y = optimiser.init(trainable), on_device(older), responses(trainable, reference)
    r = theorem1_r(y, spec.nu)
    curves: dict[str, list[float]] = {"loss": [], "r": [], "spread": []}
    for done, turn in enumerate(jax.random.split(key, spec.alternations), start=1):
        trainable, state = epoch(trainable, state, r, turn, data)
        y = responses(trainable, reference)
        r = theorem1_r(y, spec.nu)
        now = {
            "loss": float(ocnn_loss(trainable.head, anchor, y, r, spec.nu)),
            "r": float(r),
            "spread": float(jnp.std(y)),
        }
        for name, value in now.items():
            curves[name].append(value)
        progress(done, spec.alternations, now)
    after = np.asarray(responses(trainable, held))
    refuse_collapse(curves["loss"][-1], float(r), after, np.asarray(untrained), spec.min_spread)
    return Fitted(_params(trainable, whitening, r), {name: tuple(curve) for name, curve in curves.items()})


def _whitening(pretrained: Params) -> Whitening:
    last, mean = pretrained["last_precision"], pretrained["mean_precision"]
    return Whitening(last, mean, root(last), root(mean))


def _params(trainable: Trainable, whitening: Whitening, r: jax.Array) -> Params:
    return {
        "weights": pack(trainable.variables)._asdict(),
        **whitening._asdict(),
        **trainable.head._asdict(),
        "r": r,
    }


def _epoch(
    spec: OcnnSpec,
    optimiser: optax.GradientTransformation,
    network: nn.Module,
    fixed: _Fixed,
    trainable: Trainable,
    state: Any,
    r: jax.Array,
    key: jax.Array,
    data: Windows,
) -> tuple[Trainable, Any]:
    """Gradient steps on w, V and the autoencoder with r fixed, in one scan."""
    count = data.values.shape[0]
    steps = max(1, min(count, spec.epoch_windows) // spec.batch)
    picks = jax.random.randint(key, (steps, spec.batch), 0, count)
    objective = partial(_objective, spec, network, fixed, r)

    def step(carry: tuple[Trainable, Any], pick: jax.Array) -> tuple[tuple[Trainable, Any], None]:
        trainable, state = carry
        gradient = jax.grad(objective)(trainable, Windows(data.values[pick], data.mask[pick]))
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
            updates, state = optimiser.update(gradient, state, trainable)
        moved: Any = optax.apply_updates(trainable, updates)
        return (moved, state), None

    return jax.lax.scan(step, (trainable, state), picks)[0]


def _objective(
    spec: OcnnSpec, network: nn.Module, fixed: _Fixed, r: jax.Array, trainable: Trainable, windows: Windows
) -> jax.Array:
    """OC-NN's loss plus the autoencoder's own, which keeps the encoder from mapping all to one point."""
    rebuilt: Any = network.apply(trainable.variables, windows.values)
    off = residuals_of(windows, rebuilt, spec.tail)
    z = features(off, fixed.whitening, spec.width)
    y = respond(trainable.head, z, ACTIVATIONS[spec.activation])
    real = windows.mask.astype(rebuilt.dtype)
    squared = jnp.sum(real * (rebuilt - windows.values) ** 2) / jnp.maximum(jnp.sum(real), 1.0)
    return ocnn_loss(trainable.head, fixed.anchor, y, r, spec.nu) + spec.reconstruction_weight * squared
