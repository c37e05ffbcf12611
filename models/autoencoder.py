"""The core of the window autoencoders: what a network cannot rebuild of the last sample, weighed by how rare it is.

    x^  = decode(encode(x))                   of the whole window, through a code of few units
    r   = x_T - x^_T                          of its last sample
    score = sqrt(r' S^-1 r / D)               S the normal covariance of r: about 1 while all is normal

A mean squared error over the window hides a fault in a few sensors at its end, and lets the noisiest sensor decide.
What the network is made of and which loss trains it is a `Kind`: dense, convolutional, denoising and variational
autoencoders are four of them.

Shape letters: B windows, T samples, D sensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.covariance import inverse, shrunk_covariance
from models.fitting import real_tail
from models.hyperparameters import Amount, Count, Rate, Searched, Share
from models.residuals import per_sensor, weighed
from models.scorer import FitRefused, Fitted, Params, Progress, Scorer, Scores, Windows
from models.signatures import measured_signatures

_CHUNK = 1024
_SHOWN = 256
"""Windows whose residuals are asked for signatures."""
_LEAST_EXPLAINED = 0.01
"""Share of the variance of held-out windows below which a network is no better than their mean."""


@dataclass(frozen=True)
class AutoencoderSpec:
    """Hyperparameters.

    Attributes:
        code: units that the whole window must pass through.
        width: units of the hidden layers.
        epochs: at most so many.
        epoch_windows: windows drawn per epoch.
        batch: windows per gradient step.
        learning_rate: Adam's.
        weight_decay: AdamW's.
        patience: epochs without a better validation loss before training stops.
        held_out: newest share of the windows, for validation.
    """

    code: Annotated[Count, Searched(4, 64)] = 16
    width: Annotated[Count, Searched(32, 256)] = 128
    epochs: Count = 40
    epoch_windows: Count = 8192
    batch: Count = 64
    learning_rate: Rate = 0.003
    weight_decay: Annotated[Amount, Searched(1e-5, 1e-2)] = 0.0001
    patience: Count = 5
    held_out: Share = 0.15


class Kind(NamedTuple):
    """What an autoencoder is made of; functions that know nothing but their arguments.

    Attributes:
        init: ``(key, spec, length, sensors) -> weights``.
        rebuild: ``(weights, spec, values [B, T, D]) -> [B, T, D]``, without chance.
        loss: ``(weights, spec, windows, key) -> []``, what training makes small.
        scaled: ``(weights, factor) -> weights`` that rebuild ``factor`` times as much.
        encode: ``(weights, values [B, T, D]) -> [B, code]``, the code that ``rebuild`` goes through.
    """

    init: Callable[[jax.Array, Any, int, int], Params]
    rebuild: Callable[[Params, Any, jax.Array], jax.Array]
    loss: Callable[[Params, Any, Windows, jax.Array], jax.Array]
    scaled: Callable[[Params, jax.Array], Params]
    encode: Callable[[Params, jax.Array], jax.Array]


def autoencoder(name: str, spec: type[AutoencoderSpec], kind: Kind) -> Scorer:
    """The scorer of a kind."""
    return Scorer(name, spec, partial(fit, kind), partial(score, kind), features=partial(features, kind))


def mean_square(off: jax.Array, real: jax.Array) -> jax.Array:
    """Mean square [] over the entries that are real."""
    weight = real.astype(off.dtype)
    return jnp.sum(weight * off**2) / jnp.maximum(jnp.sum(weight), 1.0)


def reconstruction_loss(kind: Kind, weights: Params, spec: Any, windows: Windows) -> jax.Array:
    """Mean square [] of what is not rebuilt."""
    return mean_square(kind.rebuild(weights, spec, windows.values) - windows.values, windows.mask)


def fit(kind: Kind, rng: jax.Array, windows: Windows, spec: AutoencoderSpec, progress: Progress) -> Fitted:
    """Train on normal windows.

    Args:
        kind: of autoencoder.
        rng: key.
        windows: [N, T, D] in order of time; NumPy views welcome.
        spec: hyperparameters.
        progress: called after every epoch with the losses.

    Returns:
        ``weights``, ``precision`` [D, D] of normal residuals and ``signatures`` [3, D, D] of the sensors in them;
        curves ``train`` and ``validation``.

    Raises:
        FitRefused: too few windows, a loss that is not finite, or a network that rebuilds no better than the mean.
    """
    from models import training  # here, so that optax stays off the scoring path

    real_tail(windows, 1)  # refuses a history that is too short
    older, newest = training.split_in_time(windows, spec.held_out)
    held = training.on_device(training.spread(newest, spec.epoch_windows // 4))
    data = training.on_device(older)
    key_init, key_train = jax.random.split(rng)
    task = Descent(kind, spec)
    state = task.start(key_init, data)
    schedule = training.Schedule(spec.epochs, spec.epoch_windows, spec.batch, spec.patience)
    trained = training.train(key_train, task, state, data, held, schedule, progress)
    weights = confirmed(kind, trained.state[0], spec, held)
    return Fitted(described(kind, weights, spec, windows), trained.curves)


def described(kind: Kind, weights: Params, spec: AutoencoderSpec, windows: Windows) -> Params:
    """Everything that scoring needs of a trained network; see `fit`."""
    from models.training import on_device, spread

    residuals = residuals_of(kind, weights, spec, windows)
    shown = on_device(spread(windows, _SHOWN)).values
    signatures = jax.jit(measured_signatures, static_argnums=0)(
        partial(_residual, kind, weights, spec), shown
    )
    return {
        "weights": weights,
        "precision": inverse(shrunk_covariance(residuals)),
        "signatures": signatures,
    }


@dataclass(frozen=True)
class Descent:
    """Gradient steps on a kind's loss; the state is its weights and the optimiser's memory."""

    kind: Kind
    spec: AutoencoderSpec

    def start(self, key: jax.Array, data: Windows) -> tuple[Params, Any]:
        """Weights as drawn."""
        weights = self.kind.init(key, self.spec, *data.values.shape[1:])
        return weights, self.optimiser().init(weights)  # type: ignore[arg-type] # a tree, as optax takes it

    def step(self, state: tuple[Params, Any], batch: Windows, key: jax.Array) -> tuple[Any, jax.Array]:
        """See `models.training.Task`."""
        from models.training import descend

        weights, memory = state
        loss, gradient = jax.value_and_grad(self.kind.loss)(weights, self.spec, batch, key)
        return descend(self.optimiser(), gradient, memory, weights), loss

    def judge(self, state: tuple[Params, Any], held: Windows) -> jax.Array:
        """The reconstruction loss, whatever else trains."""
        return reconstruction_loss(self.kind, state[0], self.spec, held)

    def optimiser(self) -> Any:
        """Whose memory is in the state."""
        from models.training import adam

        return adam(self.spec.learning_rate, self.spec.weight_decay)


def confirmed(kind: Kind, weights: Params, spec: AutoencoderSpec, held: Windows) -> Params:
    """The weights that rebuild as much as held-out windows confirm.

    The factor on x^ is that of least squares between 0 and 1 (a stack of the network and the mean: Breiman 1996,
    Machine Learning 24): about 1 where the history is long, less where the network learnt a short one by heart, which
    would otherwise make residuals larger than the window itself.

    Raises:
        FitRefused: next to nothing of the held-out windows is rebuilt.
    """
    found = kind.rebuild(weights, spec, held.values)
    real = held.mask.astype(found.dtype)
    power, shared, whole = (jnp.sum(real * part) for part in (found**2, found * held.values, held.values**2))
    factor = jnp.clip(shared / jnp.maximum(power, 1e-12), 0.0, 1.0)
    explained = float((2.0 * factor * shared - factor**2 * power) / jnp.maximum(whole, 1e-12))
    if not explained > _LEAST_EXPLAINED:
        raise FitRefused(
            f"autoencoder: collapsed: got {explained:.1%} of the held-out windows' variance rebuilt, expected over "
            f"{_LEAST_EXPLAINED:.0%}; hint: use a longer history, or more epochs"
        )
    return kind.scaled(weights, factor)


def residuals_of(kind: Kind, weights: Params, spec: AutoencoderSpec, windows: Windows) -> jax.Array:
    """Residuals [M, D] of the last samples that are wholly real."""
    whole = np.flatnonzero(np.asarray(windows.mask[:, -1, :]).all(axis=1))
    residual = jax.jit(partial(_residual, kind, spec=spec))
    parts = np.array_split(whole, -(-len(whole) // _CHUNK))
    return jnp.concatenate([residual(weights, values=jnp.asarray(windows.values[part])) for part in parts])


def _residual(kind: Kind, weights: Params, spec: AutoencoderSpec, values: jax.Array) -> jax.Array:
    return (values - kind.rebuild(weights, spec, values))[:, -1, :]


def features(kind: Kind, params: Params, spec: AutoencoderSpec, windows: Windows) -> jax.Array:
    """Codes [B, code] of windows [B, T, D]."""
    del spec
    return kind.encode(params["weights"], windows.values)


def score(kind: Kind, params: Params, spec: AutoencoderSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample as rebuilt."""
    residual = _residual(kind, params["weights"], spec, windows.values)
    squared, contributions = weighed(
        residual, windows.mask[:, -1, :], params["precision"], params["signatures"]
    )
    expected = windows.values[:, -1, :] - residual
    return Scores(per_sensor(squared, residual.shape[1]), contributions, expected)
