"""AnoGAN on the last samples: how far a window lies from the nearest that a generator can make.

    G: z -> x     from noise z [H] to the last samples x [L], trained against a discriminator with features f
    z* = argmin_z mean (x - G(z))^2 + `discrimination` mean (f(x) - f(G(z)))^2 + `prior` mean z^2
    residual r = x_T - G(z*)_T,   discrimination q = f(x) - f(G(z*))
    score = (1 - `discrimination`) sqrt(r' S^-1 r / D) + `discrimination` ||q|| / typical,  S the normal covariance of r

Schlegl, Seeboeck, Waldstein, Schmidt-Erfurth & Langs 2017 (IPMI, arXiv:1703.05921), whose weight is .1 too. z* is found
by a fixed number of gradient steps from z = 0, in the compiled program, so that a window always gets the same score.
The residual is that of the last sample, and whitened: the summed absolute one hides a fault in a few sensors.

Shape letters: B windows, L entries of x, D sensors, H units of the noise, W features of the discriminator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta

from models.adversary import discriminator, discriminator_loss, feature_gap, optimiser, seen_features
from models.covariance import inverse, shrunk_covariance
from models.fitting import ROWS_PER_SENSOR, real_tail
from models.hyperparameters import Amount, Count, Rate, Searched, Share
from models.layers import perceptron, perceptron_layers
from models.residuals import per_sensor, weighed
from models.scorer import FitRefused, Fitted, Params, Progress, Scorer, Scores, Windows
from models.signatures import measured_signatures

_JUDGED = 256
"""Held-out windows that are searched for after every epoch."""
_CHUNK = 1024


@dataclass(frozen=True)
class AnoganSpec:
    """Hyperparameters.

    Attributes:
        samples: last samples of a window that are made, at most all of it.
        noise: units of z (H).
        width: units of the hidden layers.
        discrimination: its weight beside the residual, in [0, 1).
        prior: of the length of z in the search.
        search_steps: gradient steps to z*.
        search_rate: their length.
        epochs: at most so many.
        epoch_windows: windows drawn per epoch.
        batch: windows per gradient step.
        learning_rate: Adam's, of generator and discriminator.
        patience: epochs without a better validation loss before training stops.
        held_out: newest share of the windows, for validation.
    """

    samples: Annotated[Count, Searched(2, 16)] = 8
    noise: Annotated[Count, Searched(4, 32)] = 16
    width: Annotated[Count, Searched(16, 128)] = 64
    discrimination: Annotated[float, Meta(ge=0.0, lt=1.0), Searched(0.0, 0.5, linear=True)] = 0.1
    prior: Annotated[Amount, Searched(1e-3, 0.1)] = 0.01
    search_steps: Count = 20
    search_rate: Annotated[float, Meta(gt=0.0)] = 1.0
    epochs: Count = 40
    epoch_windows: Count = 8192
    batch: Count = 32
    learning_rate: Rate = 0.002
    patience: Count = 5
    held_out: Share = 0.15


class Pair(NamedTuple):
    """Generator and discriminator."""

    generator: Params
    discriminator: Params


def first_pair(key: jax.Array, entries: int, spec: AnoganSpec) -> Pair:
    """Both as drawn."""
    key_made, key_judge = jax.random.split(key)
    made = perceptron_layers(key_made, (spec.noise, spec.width, spec.width, entries))
    return Pair(made, discriminator(key_judge, entries, spec.width))


def make(generator: Params, z: jax.Array) -> jax.Array:
    """Rows [B, L] of noise [B, H]."""
    return perceptron(generator, z)


def nearest(pair: Pair, rows: jax.Array, spec: AnoganSpec) -> jax.Array:
    """``G(z*)`` [B, L] of rows [B, L]."""
    return make(pair.generator, searched(pair, rows, spec))


def searched(pair: Pair, rows: jax.Array, spec: AnoganSpec) -> jax.Array:
    """``z*`` [B, H] of rows [B, L]; each row's search is its own."""
    wanted = seen_features(pair.discriminator, rows)

    def apart(z: jax.Array) -> jax.Array:
        made = make(pair.generator, z)
        off = jnp.mean((rows - made) ** 2, axis=1)
        gap = jnp.mean((wanted - seen_features(pair.discriminator, made)) ** 2, axis=1)
        return jnp.sum(off + spec.discrimination * gap + spec.prior * jnp.mean(z**2, axis=1))

    def step(_: int, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        z, speed = carry
        speed = 0.8 * speed - spec.search_rate * bounded(jax.grad(apart)(z))
        return z + speed, speed

    zero = jnp.zeros((rows.shape[0], spec.noise), rows.dtype)
    return jax.lax.fori_loop(0, spec.search_steps, step, (zero, zero))[0]


def bounded(gradient: jax.Array) -> jax.Array:
    """Gradients [B, H] of length 1 at most: far windows pull hard, and the search must not run away."""
    length = jnp.sqrt(jnp.sum(gradient**2, axis=1, keepdims=True))
    return gradient / jnp.maximum(length, 1.0)


@dataclass(frozen=True)
class Turns:
    """A step of the discriminator, then one of the generator; the state is both and their optimisers' memories."""

    spec: AnoganSpec

    def start(self, pair: Pair) -> Any:
        """The state to begin with."""
        adam = optimiser(self.spec.learning_rate)
        return pair, adam.init(pair.generator), adam.init(pair.discriminator)

    def step(self, state: Any, batch: jax.Array, key: jax.Array) -> tuple[Any, jax.Array]:
        """See `models.training.Task`."""
        from models.training import descend

        pair, memory_made, memory_judge = state
        adam = optimiser(self.spec.learning_rate)
        z = jax.random.normal(key, (batch.shape[0], self.spec.noise), batch.dtype)
        loss, gradient = jax.value_and_grad(discriminator_loss)(
            pair.discriminator, batch, make(pair.generator, z)
        )
        judge, memory_judge = descend(adam, gradient, memory_judge, pair.discriminator)
        gradient = jax.grad(lambda made: generator_loss(made, judge, batch, z))(pair.generator)
        made, memory_made = descend(adam, gradient, memory_made, pair.generator)
        return (Pair(made, judge), memory_made, memory_judge), loss

    def judge(self, state: Any, held: jax.Array) -> jax.Array:
        """Mean square [] of what the search does not reach in held-out rows."""
        return jnp.mean((held - nearest(state[0], held, self.spec)) ** 2)


def generator_loss(made: Params, judge: Params, rows: jax.Array, z: jax.Array) -> jax.Array:
    """Be taken for real, and give the discriminator the mean features of real rows."""
    from models.adversary import verdict

    rows_made = make(made, z)
    return jnp.mean(jax.nn.softplus(-verdict(judge, rows_made))) + feature_gap(judge, rows, rows_made)


def fit(rng: jax.Array, windows: Windows, spec: AnoganSpec, progress: Progress) -> Fitted:
    """Train on normal windows.

    Args:
        rng: key.
        windows: [N, T, D] in order of time; NumPy views welcome.
        spec: hyperparameters.
        progress: called after every epoch with the losses.

    Returns:
        ``pair`` (see `Pair`), ``precision`` [D, D] of normal residuals, ``signatures`` [1, D, D] of the sensors in
        them, ``typical`` [], the mean normal ||q||; curves ``train`` and ``validation``.

    Raises:
        FitRefused: too few windows, a loss that is not finite, or a generator that makes nothing like them.
    """
    from models import training  # here, so that optax stays off the scoring path

    samples = min(spec.samples, windows.values.shape[1])
    tail = real_tail(windows, samples, ROWS_PER_SENSOR)
    rows = tail.reshape(tail.shape[0], -1)
    older, newest = training.rows_in_time(rows, windows.values.shape[1], spec.held_out)
    held = newest[:: max(1, -(-len(newest) // _JUDGED))]
    key_init, key_train = jax.random.split(rng)
    task = Turns(spec)
    state = task.start(first_pair(key_init, rows.shape[1], spec))
    schedule = training.Schedule(spec.epochs, spec.epoch_windows, spec.batch, spec.patience)
    trained = training.train(key_train, task, state, older, held, schedule, progress)
    pair: Pair = trained.state[0]
    refuse_collapse(min(trained.curves["validation"]), float(jnp.mean(held**2)))
    return Fitted(_described(pair, spec, tail), trained.curves)


def refuse_collapse(error: float, nothing: float) -> None:
    """Refuse a generator in whose reach held-out rows are no nearer than their mean, 0.

    Raises:
        FitRefused: they are not.
    """
    if not error < nothing:
        raise FitRefused(
            f"anogan: collapsed: got a held-out error of {error:.3g} after the search, expected less than the mean's "
            f"{nothing:.3g}; hint: lower the learning rate, or use more epochs"
        )


def _described(pair: Pair, spec: AnoganSpec, tail: jax.Array) -> Params:
    """What scoring needs of a trained pair and normal last samples [N, samples, D]."""
    judged = jax.jit(partial(_judged, spec=spec))
    parts = np.array_split(np.arange(len(tail)), -(-len(tail) // _CHUNK))
    found = [judged(pair, tail=tail[part]) for part in parts]
    residual, gap = (jnp.concatenate(each) for each in zip(*found, strict=True))
    # Of steps with the last sample only: what older ones leave differs from one trained pair to the next.
    shown = tail[:: max(1, -(-len(tail) // _JUDGED))]
    signatures = jax.jit(
        lambda values: measured_signatures(lambda each: _judged(pair, each, spec)[0], values, (1,))
    )(shown)
    return {
        "pair": pair._asdict(),
        "precision": inverse(shrunk_covariance(residual)),
        "signatures": signatures,
        "typical": jnp.mean(gap),
    }


def _judged(pair: Pair, tail: jax.Array, spec: AnoganSpec) -> tuple[jax.Array, jax.Array]:
    """Residuals [B, D] of the last samples and ||q|| [B], of last samples [B, samples, D]."""
    rows = tail.reshape(tail.shape[0], -1)
    made = nearest(pair, rows, spec)
    gap = seen_features(pair.discriminator, rows) - seen_features(pair.discriminator, made)
    return (rows - made)[:, -tail.shape[2] :], jnp.sqrt(jnp.sum(gap**2, axis=1))


def score(params: Params, spec: AnoganSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample of the nearest that could be made."""
    tail = _tail(windows, spec)
    residual, gap = _judged(Pair(**params["pair"]), tail, spec)
    squared, contributions = weighed(
        residual, windows.mask[:, -1, :], params["precision"], params["signatures"]
    )
    distance = per_sensor(squared, residual.shape[1])
    together = (1.0 - spec.discrimination) * distance + spec.discrimination * gap / params["typical"]
    return Scores(together, contributions, tail[:, -1, :] - residual)


def _tail(windows: Windows, spec: AnoganSpec) -> jax.Array:
    return windows.values[:, -min(spec.samples, windows.values.shape[1]) :, :]


def features(params: Params, spec: AnoganSpec, windows: Windows) -> jax.Array:
    """The noise ``z*`` [B, H] from which G makes what is nearest to windows [B, T, D]."""
    return searched(Pair(**params["pair"]), _tail(windows, spec).reshape(windows.values.shape[0], -1), spec)


SCORER = Scorer("anogan", AnoganSpec, fit, score, features=features)
"""The scorer."""
