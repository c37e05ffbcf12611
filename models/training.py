"""The loop that trains every network: an epoch is one compiled scan with donated buffers; nothing recompiles.

What one step is belongs to a `Task`, so that adversarial pairs train in the same loop as plain descents. A task is a
frozen dataclass: the compiled epoch is kept by its value, so a second fit with equal hyperparameters and shapes
compiles nothing either.

Shape letters: N windows, B windows of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.scorer import FitRefused, Progress, Windows

Data = Any
"""Arrays in any nesting whose first axis is the windows'."""
State = Any
"""Arrays in any nesting: weights, the optimisers' state, and what else a task learns."""


@dataclass(frozen=True)
class Schedule:
    """How long to train.

    Attributes:
        epochs: at most so many.
        epoch_windows: windows drawn per epoch; neighbouring windows share nearly all rows, so a sample is enough.
        batch: windows per step.
        patience: epochs without a better validation loss before training stops.
    """

    epochs: int
    epoch_windows: int
    batch: int
    patience: int


class Task(Protocol):
    """What is trained. Hashable, and equal where its hyperparameters are: it is a static argument of the epoch."""

    def step(self, state: State, batch: Data, key: jax.Array) -> tuple[State, jax.Array]:
        """One step on a batch; the new state, and the loss before it."""
        ...

    def judge(self, state: State, held: Data) -> jax.Array:
        """The loss [] of held-out windows; the lower, the better."""
        ...


class Trained(NamedTuple):
    """The state of the epoch with the lowest validation loss; curves ``train`` and ``validation``."""

    state: State
    curves: Mapping[str, tuple[float, ...]]


def train(
    key: jax.Array,
    task: Task,
    state: State,
    data: Data,
    held: Data,
    schedule: Schedule,
    progress: Progress,
    between: Callable[[State, Data], tuple[State, Data]] | None = None,
) -> Trained:
    """Train until the schedule ends or the validation loss rests.

    Args:
        key: for the draws and the steps.
        task: what a step is.
        state: where to start; its arrays are given away.
        data: to learn from, on the device.
        held: for the validation loss.
        schedule: how long.
        progress: called after every epoch.
        between: what happens to state and data after every epoch; None: nothing.

    Raises:
        FitRefused: a loss is not finite.
    """
    curves: dict[str, list[float]] = {"train": [], "validation": []}
    best = _on_host(state)
    for done, one in enumerate(jax.random.split(key, schedule.epochs), start=1):
        state, loss = _epoch(task, schedule, state, one, data)
        if between is not None:
            state, data = between(state, data)
        curves["train"].append(float(loss))
        curves["validation"].append(float(_judge(task, state, held)))
        _refuse_if_not_finite(curves)
        progress(done, schedule.epochs, {name: curve[-1] for name, curve in curves.items()})
        if curves["validation"][-1] <= min(curves["validation"]):
            best = _on_host(state)
        elif done - 1 - int(np.argmin(curves["validation"])) >= schedule.patience:
            break
    return Trained(jax.tree.map(jnp.asarray, best), {name: tuple(curve) for name, curve in curves.items()})


def _on_host(state: State) -> State:
    """A copy that survives the donation of the original."""
    return jax.tree.map(np.array, state)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _epoch(
    task: Task, schedule: Schedule, state: State, key: jax.Array, data: Data
) -> tuple[State, jax.Array]:
    """Steps on windows without repetition, gathered step by step: the history is never copied."""
    count = jax.tree.leaves(data)[0].shape[0]
    batch = min(schedule.batch, count)
    steps = max(1, min(count, schedule.epoch_windows) // batch)
    key_pick, key_step = jax.random.split(key)
    picks = jax.random.permutation(key_pick, count)[: steps * batch].reshape(steps, batch)
    return take_steps(task, state, key_step, data, picks)


def take_steps(
    task: Task, state: State, key: jax.Array, data: Data, picks: jax.Array
) -> tuple[State, jax.Array]:
    """Steps one after another, in one scan.

    Args:
        task: what a step is.
        state: where to start.
        key: for the steps.
        data: to learn from.
        picks: [steps, B], the rows of data that each step sees.

    Returns:
        The new state, and the mean loss [].
    """

    def step(state: State, drawn: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        pick, key = drawn
        return task.step(state, jax.tree.map(lambda each: each[pick], data), key)

    state, losses = jax.lax.scan(step, state, (picks, jax.random.split(key, len(picks))))
    return state, jnp.mean(losses)


@partial(jax.jit, static_argnums=0)
def _judge(task: Task, state: State, held: Data) -> jax.Array:
    return task.judge(state, held)


def _refuse_if_not_finite(curves: Mapping[str, list[float]]) -> None:
    if not np.isfinite([curve[-1] for curve in curves.values()]).all():
        raise FitRefused(
            "fit: got a loss that is not finite, expected training to converge; hint: lower the learning rate"
        )


# -- optimisers ---------------------------------------------------------------------------------------------------


def adam(learning_rate: float, weight_decay: float = 0.0) -> optax.GradientTransformation:
    """AdamW on clipped gradients."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(learning_rate, weight_decay=weight_decay))


def descend(
    optimiser: optax.GradientTransformation, gradient: Any, memory: Any, weights: Any
) -> tuple[Any, Any]:
    """One step: the new weights and the optimiser's new memory."""
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
        updates, memory = optimiser.update(gradient, memory, weights)
    return optax.apply_updates(weights, updates), memory


# -- windows ------------------------------------------------------------------------------------------------------


def split_in_time(windows: Windows, held_out: float) -> tuple[Windows, Windows]:
    """The older and the newest windows, a window's length left out between them.

    Raises:
        FitRefused: either part would be empty.
    """
    old, new = _parts(len(windows.values), windows.values.shape[1], held_out)
    return Windows(windows.values[old], windows.mask[old]), Windows(windows.values[new], windows.mask[new])


def rows_in_time(rows: jax.Array, length: int, held_out: float) -> tuple[jax.Array, jax.Array]:
    """The same of one row [N, ..] per window of ``length`` samples."""
    old, new = _parts(len(rows), length, held_out)
    return rows[old], rows[new]


def _parts(count: int, length: int, held_out: float) -> tuple[slice, slice]:
    first = count - int(count * held_out)
    train_end = max(first - length, min(first, count // 2))
    if train_end < 1 or first >= count:
        raise FitRefused(
            f"fit: got {count} windows of {length} samples, too few to hold a part out; "
            "hint: use a longer history"
        )
    return slice(0, train_end), slice(first, count)


def spread(windows: Windows, most: int) -> Windows:
    """At most so many windows, evenly spaced."""
    every = max(1, -(-len(windows.values) // max(1, most)))
    return Windows(windows.values[::every], windows.mask[::every])


def on_device(windows: Windows) -> Windows:
    """Windows as JAX arrays."""
    return Windows(jnp.asarray(windows.values), jnp.asarray(windows.mask))
