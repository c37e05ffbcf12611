"""Deep SVDD on the whitened last samples: a network that maps normal into the smallest ball around a fixed centre.

    one_class      loss = mean ||phi(u) - c||^2                                          (+ weight decay)
    soft_boundary  loss = R^2 + 1/nu mean(max(0, ||phi(u) - c||^2 - R^2))                (+ weight decay)
    score = ||phi(u) - c|| / typical, less R / typical with the soft boundary

Ruff, Vandermeulen, Goernitz, Deecke, Siddiqui, Binder, Mueller & Kloft 2018 (ICML). Without a constant the network
cannot map everything to c: no layer has a bias, the activation is unbounded, and c is the mean of the first pass, its
entries kept away from 0, which zero weights would reach. R is the (1 - nu)-quantile of the distances, renewed after
every epoch. Collapse is still looked for, and a fit refused (`refuse_collapse`).

Shape letters: N rows, L entries of a row, H units of the code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from models.hyperparameters import Amount, Count, Lags, Rate, Searched, Share
from models.layers import perceptron, perceptron_layers
from models.scorer import FitRefused, Fitted, Params, Progress, Scorer, Scores, Windows
from models.whitening import fit_whitening, scores_of, whiten

Network = Callable[[Params, jax.Array], jax.Array]
"""Phi: ``(layers, rows [N, ..]) -> [N, H]``."""
OBJECTIVES = ("one_class", "soft_boundary")
_AWAY = 0.1
"""Least size of the centre's entries, as in the authors' code."""


@dataclass(frozen=True)
class DeepSvddSpec:
    """Hyperparameters.

    Attributes:
        objective: ``one_class`` or ``soft_boundary``.
        nu: soft boundary only: share of training windows outside the ball. Not the alert's nu.
        code: units of the network's output (H).
        width: units of its hidden layer.
        lags: samples before the last that are judged with it.
        epochs: at most so many.
        epoch_windows: windows drawn per epoch.
        batch: windows per gradient step.
        learning_rate: Adam's.
        weight_decay: AdamW's.
        patience: epochs without a better validation loss before training stops.
        held_out: newest share of the windows, for validation.
        min_spread: least standard deviation of held-out distances over their mean that is not a collapse.
    """

    objective: Literal["one_class", "soft_boundary"] = "one_class"
    nu: Share = 0.05
    code: Annotated[Count, Searched(8, 128)] = 32
    width: Annotated[Count, Searched(16, 256)] = 64
    lags: Lags = 1
    epochs: Count = 40
    epoch_windows: Count = 8192
    batch: Count = 64
    learning_rate: Rate = 0.003
    weight_decay: Annotated[Amount, Searched(1e-5, 1e-2)] = 0.0001
    patience: Count = 5
    held_out: Share = 0.15
    min_spread: Amount = 0.01


class Ball(NamedTuple):
    """What is learnt.

    Attributes:
        layers: of phi.
        centre: [H] c, fixed from the first pass.
        radius: [] R.
    """

    layers: Params
    centre: jax.Array
    radius: jax.Array


def leaky_perceptron(layers: Params, rows: jax.Array) -> jax.Array:
    """The scorer's network."""
    return perceptron(layers, rows, jax.nn.leaky_relu)


def distances(ball: Ball, rows: jax.Array, network: Network = leaky_perceptron) -> jax.Array:
    """``||phi(u) - c||`` [N] of rows [N, L]."""
    off = network(ball.layers, rows) - ball.centre[None, :]
    return jnp.sqrt(jnp.sum(off**2, axis=1))


def first_ball(key: jax.Array, rows: jax.Array, spec: DeepSvddSpec) -> Ball:
    """The untrained network, its mean output as the centre, and R after the first pass."""
    layers = perceptron_layers(key, (rows.shape[1], spec.width, spec.code), bias=False)
    return ball_around(layers, rows, spec.nu)


def ball_around(layers: Params, rows: jax.Array, nu: float, network: Network = leaky_perceptron) -> Ball:
    """The ball of a network's first pass over rows [N, ..]."""
    mean = jnp.mean(network(layers, rows), axis=0)
    away = jnp.where(mean < 0.0, -_AWAY, _AWAY)
    ball = Ball(layers, jnp.where(jnp.abs(mean) < _AWAY, away, mean), jnp.zeros(()))
    return with_radius(ball, rows, nu, network)


def with_radius(ball: Ball, rows: jax.Array, nu: float, network: Network = leaky_perceptron) -> Ball:
    """The ball with R renewed: the (1 - nu)-quantile of the distances."""
    return ball._replace(radius=jnp.quantile(distances(ball, rows, network), 1.0 - nu))


@dataclass(frozen=True)
class Descent:
    """Gradient steps on the layers; the state is the ball and the optimiser's memory."""

    spec: DeepSvddSpec
    network: Network = leaky_perceptron

    def start(self, ball: Ball) -> tuple[Ball, Any]:
        """The state to begin with."""
        return ball, self.optimiser().init(ball.layers)

    def step(self, state: tuple[Ball, Any], batch: jax.Array, key: jax.Array) -> tuple[Any, jax.Array]:
        """See `models.training.Task`."""
        from models.training import descend

        del key
        ball, memory = state
        loss, gradient = jax.value_and_grad(lambda layers: self.loss(ball._replace(layers=layers), batch))(
            ball.layers
        )
        layers, memory = descend(self.optimiser(), gradient, memory, ball.layers)
        return (ball._replace(layers=layers), memory), loss

    def judge(self, state: tuple[Ball, Any], held: jax.Array) -> jax.Array:
        """The loss of held-out rows."""
        return self.loss(state[0], held)

    def loss(self, ball: Ball, rows: jax.Array) -> jax.Array:
        """What the steps make small."""
        return svdd_loss(ball, rows, self.spec, self.network)

    def optimiser(self) -> Any:
        """Whose memory is in the state."""
        from models.training import adam

        return adam(self.spec.learning_rate, self.spec.weight_decay)


def svdd_loss(
    ball: Ball, rows: jax.Array, spec: DeepSvddSpec, network: Network = leaky_perceptron
) -> jax.Array:
    """The objective above, without weight decay."""
    squared = jnp.sum((network(ball.layers, rows) - ball.centre[None, :]) ** 2, axis=1)
    if spec.objective == "one_class":
        return jnp.mean(squared)
    return ball.radius**2 + jnp.mean(jax.nn.relu(squared - ball.radius**2)) / spec.nu


def fit(rng: jax.Array, windows: Windows, spec: DeepSvddSpec, progress: Progress) -> Fitted:
    """Train on normal windows.

    Args:
        rng: key.
        windows: [N, T, D] in order of time, T > ``spec.lags``; NumPy views welcome.
        spec: hyperparameters.
        progress: called after every epoch with the losses.

    Returns:
        ``whitening`` (see `models.whitening`) and ``ball`` (see `Ball`), with ``typical`` [], the mean normal
        distance; curves ``train`` and ``validation``.

    Raises:
        FitRefused: an unknown objective, too few windows, or the network collapsed.
    """
    from models import training  # here, so that optax stays off the scoring path

    if spec.objective not in OBJECTIVES:
        raise FitRefused(
            f"deep_svdd: got objective {spec.objective!r}, expected one of {', '.join(OBJECTIVES)}"
        )
    whitening, rows = fit_whitening(windows, spec.lags)
    older, newest = training.rows_in_time(rows, windows.values.shape[1], spec.held_out)
    key_init, key_train = jax.random.split(rng)
    first, task = first_ball(key_init, older, spec), Descent(spec)
    before = np.asarray(distances(first, newest))
    schedule = training.Schedule(spec.epochs, spec.epoch_windows, spec.batch, spec.patience)

    def renewed(state: tuple[Ball, Any], data: jax.Array) -> tuple[Any, jax.Array]:
        return (_renewed(state[0], data, spec.nu), state[1]), data

    between = renewed if spec.objective == "soft_boundary" else None
    trained = training.train(key_train, task, task.start(first), older, newest, schedule, progress, between)
    ball: Ball = trained.state[0]
    refuse_collapse(np.asarray(distances(ball, newest)), before, spec.min_spread)
    typical = jnp.mean(distances(ball, rows))
    return Fitted({"whitening": whitening, "ball": ball._asdict(), "typical": typical}, trained.curves)


_renewed = jax.jit(with_radius, static_argnums=2)


def refuse_collapse(after: NDArray[np.float32], before: NDArray[np.float32], least: float) -> None:
    """Refuse a network that must not be used.

    Args:
        after: [N] held-out distances.
        before: [N] of the untrained network.
        least: least standard deviation over the mean.

    Raises:
        FitRefused: the distances hardly differ, or rank exactly as before training.
    """
    spread = float(np.std(after) / max(float(np.mean(after)), 1e-30))
    if not spread > least:
        finding = f"distances that differ by {spread:.3g} of their mean, expected over {least:.3g}"
    elif np.array_equal(np.argsort(after), np.argsort(before)):
        finding = "the ranking of the untrained network, expected another"
    else:
        return
    raise FitRefused(f"deep_svdd: collapsed: got {finding}; hint: lower the learning rate, or leave it out")


def score(params: Params, spec: DeepSvddSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample's conditional mean."""
    ball = Ball(**params["ball"])
    edge = ball.radius if spec.objective == "soft_boundary" else jnp.zeros(())
    return scores_of(
        lambda rows: (distances(ball, rows) - edge) / params["typical"], params["whitening"], windows
    )


def features(params: Params, spec: DeepSvddSpec, windows: Windows) -> jax.Array:
    """``phi(u)`` [B, H] of windows [B, T, D]."""
    del spec
    return leaky_perceptron(params["ball"]["layers"], whiten(params["whitening"], windows).u)


SCORER = Scorer("deep_svdd", DeepSvddSpec, fit, score, features=features)
"""The scorer."""
