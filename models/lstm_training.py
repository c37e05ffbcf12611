"""Training the LSTM autoencoder: batch-major, in flax and optax, in one compiled scan per epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.innovations import linear_forecasts
from models.lstm_network import Autoencoder, Guess
from models.scorer import FitRefused, Progress, Windows

_BEGUN_LATER = 0.25
"""Share of the windows of a gradient step that begin later than their first sample."""


@dataclass(frozen=True)
class TrainingPlan:
    """How long, how fast and towards what to train.

    Attributes:
        epochs: at most so many.
        epoch_windows: windows drawn per epoch; neighbouring windows share nearly all rows, so a sample is
            enough.
        batch: windows per gradient step.
        learning_rate: Adam's.
        weight_decay: AdamW's.
        patience: epochs without a better validation loss before training stops.
        reconstruction: weight of the reconstruction beside the forecast.
    """

    epochs: int
    epoch_windows: int
    batch: int
    learning_rate: float
    weight_decay: float
    patience: int
    reconstruction: float

    def optimiser(self) -> optax.GradientTransformation:
        """AdamW on clipped gradients."""
        return optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(self.learning_rate, weight_decay=self.weight_decay)
        )


class Linear(NamedTuple):
    """The linear forecast that the network starts from.

    Attributes:
        forecast: [p D, D], see `models.var`.
        root: [D, D], the symmetric root of its residuals' inverse covariance: whitens them.
    """

    forecast: jax.Array
    root: jax.Array


class Losses(NamedTuple):
    """Mean squared whitened one-step residual, and mean squared error of the reconstruction; both scalar."""

    forecast: jax.Array
    reconstruction: jax.Array


class Trained(NamedTuple):
    """The best epoch's flax variables, and the loss curves."""

    variables: Mapping[str, Any]
    curves: Mapping[str, tuple[float, ...]]


def parts_in_time(count: int, length: int, held_out: float) -> tuple[slice, slice]:
    """The older and the newest of ``count`` windows, with a window's length left out between them.

    Raises:
        FitRefused: either part would be empty.
    """
    first = count - int(count * held_out)
    train_end = max(first - length, min(first, count // 2))
    if train_end < 1 or first >= count:
        raise FitRefused(
            f"fit: got {count} windows of {length} samples, too few to hold a part out; "
            "hint: use a longer history"
        )
    return slice(0, train_end), slice(first, count)


def split_in_time(windows: Windows, held_out: float) -> tuple[Windows, Windows]:
    """The older and the newest windows; see `parts_in_time`."""
    count, length, _ = windows.values.shape
    old, new = parts_in_time(count, length, held_out)
    return Windows(windows.values[old], windows.mask[old]), Windows(windows.values[new], windows.mask[new])


def losses(guess: Guess, linear: Linear, windows: Windows) -> Losses:
    """The two losses over the real entries of windows [B, T, D], of what the network says of them."""
    order = linear.forecast.shape[0] // linear.forecast.shape[1]
    present, real = windows.values[:, order:], windows.mask[:, order:]
    off = present - linear_forecasts(linear.forecast, windows.values) - guess.corrections[:, order:]
    whitened = jnp.where(real, off, 0.0) @ linear.root
    tail = guess.rebuilt.shape[1]
    rebuilt = guess.rebuilt - windows.values[:, -tail:]
    return Losses(_mean_square(whitened, real), _mean_square(rebuilt, windows.mask[:, -tail:]))


def _mean_square(off: jax.Array, real: jax.Array) -> jax.Array:
    weight = real.astype(off.dtype)
    return jnp.sum(weight * off**2) / jnp.maximum(jnp.sum(weight), 1.0)


def train(
    rng: jax.Array,
    network: Autoencoder,
    linear: Linear,
    older: Windows,
    newest: Windows,
    plan: TrainingPlan,
    progress: Progress,
) -> Trained:
    """Train an autoencoder with AdamW and early stopping.

    Args:
        rng: key for the initial weights, the draws and the dropout.
        network: of which size.
        linear: the forecast to start from.
        older: [N, T, D] normal windows in order of time.
        newest: [M, T, D], for the validation curve.
        plan: how long and how fast.
        progress: called after every epoch.

    Returns:
        The variables of the epoch with the lowest validation loss; curves ``train`` and ``validation``.

    Raises:
        FitRefused: the loss stopped being finite.
    """
    key_init, key_draw = jax.random.split(rng)
    variables = _init(network, older.values.shape[1:], key_init)
    held = on_device(spread(newest, plan.epoch_windows // 4))
    data = on_device(older)
    state = plan.optimiser().init(variables)
    alike = replace(plan, epochs=1, patience=0)  # how long to train compiles nothing anew
    curves: dict[str, list[float]] = {"train": [], "validation": []}
    best = jax.tree.map(np.asarray, variables)
    for done, key in enumerate(jax.random.split(key_draw, plan.epochs), start=1):
        variables, state, trained = _epoch(network, alike, variables, state, linear, key, data)
        curves["train"].append(float(trained))
        curves["validation"].append(float(_validate(network, alike, variables, linear, held)))
        _finite(curves)
        progress(done, plan.epochs, {name: curve[-1] for name, curve in curves.items()})
        if curves["validation"][-1] <= min(curves["validation"]):
            best = jax.tree.map(np.array, variables)
        elif done - 1 - int(np.argmin(curves["validation"])) >= plan.patience:
            break
    return Trained(jax.tree.map(jnp.asarray, best), {name: tuple(curve) for name, curve in curves.items()})


@partial(jax.jit, static_argnums=(0, 1))
def _init(network: Autoencoder, shape: tuple[int, int], key: jax.Array) -> Any:
    return network.init(key, jnp.zeros((1, *shape), jnp.float32))


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def _epoch(
    network: Autoencoder,
    plan: TrainingPlan,
    variables: Any,
    state: Any,
    linear: Linear,
    key: jax.Array,
    data: Windows,
) -> tuple[Any, Any, jax.Array]:
    """One epoch in one scan: windows are gathered per step, never shuffled as a whole."""
    count, optimiser = data.values.shape[0], plan.optimiser()
    steps = max(1, min(count, plan.epoch_windows) // plan.batch)
    key_pick, key_drop = jax.random.split(key)
    picks = jax.random.randint(key_pick, (steps, plan.batch), 0, count)
    drops = jax.random.split(key_drop, steps)

    def loss(variables: Any, pick: jax.Array, drop: jax.Array) -> jax.Array:
        windows = some_begun_later(drop, take(data, pick))
        guess: Any = network.apply(variables, windows.values, training=True, rngs={"dropout": drop})
        return _total(plan, losses(guess, linear, windows))

    def step(carry: tuple[Any, Any], drawn: tuple[jax.Array, jax.Array]) -> tuple[tuple[Any, Any], jax.Array]:
        variables, state = carry
        value, gradient = jax.value_and_grad(loss)(variables, *drawn)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
            updates, state = optimiser.update(gradient, state, variables)
        return (optax.apply_updates(variables, updates), state), value

    (variables, state), values = jax.lax.scan(step, (variables, state), (picks, drops))
    return variables, state, jnp.mean(values)


@partial(jax.jit, static_argnums=(0, 1))
def _validate(
    network: Autoencoder, plan: TrainingPlan, variables: Any, linear: Linear, held: Windows
) -> jax.Array:
    guess: Any = network.apply(variables, held.values)
    return _total(plan, losses(guess, linear, held))


def _total(plan: TrainingPlan, each: Losses) -> jax.Array:
    return each.forecast + plan.reconstruction * each.reconstruction


def take(windows: Windows, pick: jax.Array) -> Windows:
    """Some of the windows."""
    return Windows(windows.values[pick], windows.mask[pick])


def some_begun_later(key: jax.Array, windows: Windows) -> Windows:
    """The same windows [B, T, D], in a quarter of them padding up to any sample but the last.

    A network that has seen padding only where batches begin takes a stream that begins in the middle of one, after a
    restart or a gap, for the beginning of a batch.
    """
    key_which, key_where = jax.random.split(key)
    count, length, _ = windows.values.shape
    which = jax.random.bernoulli(key_which, _BEGUN_LATER, (count,))
    first = jnp.where(which, jax.random.randint(key_where, (count,), 0, length), 0)
    there = (jnp.arange(length)[None, :] >= first[:, None])[:, :, None]
    return Windows(jnp.where(there, windows.values, 0.0), windows.mask & there)


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
