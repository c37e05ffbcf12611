"""Many networks of one kind trained side by side, each on images of its own: an epoch of all is one compiled call.

The task and its steps are those of `models.training`, mapped over the networks. What cannot be mapped without filling
the memory (a pass over all images of a network) is done network by network, in one compiled call too.

Shape letters: K networks, M images of a network (fewer ones are repeated up to M).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.ocnn_paper.mnist import SIDE, Trial
from models.training import Data, State, Task, take_steps

MOST = 7000
"""M: more than any digit has under any protocol, so that all protocols share the compiled programs."""
EPOCH = 4500
"""Images that an epoch draws, at most: fewer than any digit has, for the same reason."""
Keys = jax.Array


class Fleet(NamedTuple):
    """What the networks learn from and judge, on the device.

    Attributes:
        learn: [K, M, 28, 28].
        counts: [K], so many of them are the network's own; the rest repeats them.
        judge: [K, J, 28, 28], repeated likewise.
        least: the smallest of ``counts``, at most `EPOCH`: what an epoch draws of each, and what is passed over whole
            where all networks need the same number.
    """

    learn: jax.Array
    counts: jax.Array
    judge: jax.Array
    least: int


class Length(NamedTuple):
    """How long to train: so many epochs, and images per step."""

    epochs: int
    batch: int


class Bound(NamedTuple):
    """A function with its first arguments, equal where they are: what is compiled for one serves all equal ones."""

    function: Callable[..., Any]
    first: tuple[Any, ...] = ()

    def __call__(self, *rest: Any) -> Any:
        """Call it with the rest of its arguments."""
        return self.function(*self.first, *rest)


Between = Bound
"""What happens after an epoch to one network: its state and data -> the new ones."""
Tell = Callable[[int, int, float], None]
"""Called after every epoch with the epochs done and to do and the networks' mean loss."""


def fleet_of(trials: Sequence[Trial], most: int = MOST) -> Fleet:
    """Trials, moved to the device."""
    counts = [len(each.learn) for each in trials]
    same = trials[0].judge is trials[0].learn
    learn = jnp.asarray(np.stack([_repeated(each.learn, most) for each in trials]))
    if same:
        return Fleet(learn, jnp.asarray(counts), learn, min(*counts, EPOCH))
    judged = max(len(each.judge) for each in trials)
    judge = jnp.asarray(np.stack([_repeated(each.judge, judged) for each in trials]))
    return Fleet(learn, jnp.asarray(counts), judge, min(*counts, EPOCH))


def _repeated(rows: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    if len(rows) > most:
        raise ValueError(f"fleet: got {len(rows)} images of one network, expected at most {most}")
    return rows[np.arange(most) % len(rows)].reshape(most, SIDE, SIDE)


def train(
    keys: Keys,
    task: Task,
    states: State,
    data: Data,
    fleet: Fleet,
    length: Length,
    tell: Tell,
    between: Between | None = None,
) -> State:
    """Train all networks for the same number of epochs.

    Args:
        keys: [K].
        task: what a step is.
        states: of all networks, K first; its arrays are given away.
        data: of all networks, [K, M, ..] in any nesting.
        fleet: whose counts bound what is drawn.
        length: how long.
        tell: progress.
        between: what happens after every epoch.

    Returns:
        The states after the last epoch: nothing is held out to stop by.

    Raises:
        ValueError: a loss is not finite.
    """
    batch = min(length.batch, fleet.least)
    for done in range(1, length.epochs + 1):
        now = jax.vmap(partial(jax.random.fold_in, data=done))(keys)
        states, losses = _epoch(task, batch, fleet.least // batch, states, now, data, fleet.counts)
        if between is not None:
            states, data = each(between, states, data)
        found = np.asarray(losses)
        if not np.isfinite(found).all():
            raise ValueError(f"fleet: got losses {found} in epoch {done}, expected finite ones")
        tell(done, length.epochs, float(found.mean()))
    return states


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _epoch(
    task: Task, batch: int, steps: int, states: State, keys: Keys, data: Data, counts: jax.Array
) -> tuple[State, jax.Array]:
    def one(state: State, key: jax.Array, data: Data, count: jax.Array) -> tuple[State, jax.Array]:
        key_pick, key_step = jax.random.split(key)
        most = jax.tree.leaves(data)[0].shape[0]
        drawn = jax.random.uniform(key_pick, (most,))
        own = jnp.where(
            jnp.arange(most) < count, drawn, 2.0
        )  # repeated images come last, and are never reached
        picks = jnp.argsort(own)[: steps * batch].reshape(steps, batch)
        return take_steps(task, state, key_step, data, picks)

    return jax.vmap(one)(states, keys, data, counts)


@partial(jax.jit, static_argnums=0)
def each(function: Bound, *operands: Any) -> Any:
    """A function of every network's operands, network by network."""
    return jax.lax.map(lambda own: function(*own), operands)
