"""LSTM autoencoder: reconstruct the window, weigh what could not be reconstructed by how rare it normally is.

A mean squared error over the whole window hides a fault of a few sensors at its end. So only the newest
samples count, twice: the last sample's residual sees a sudden fault at once, the mean residual of the last
``tail`` samples sees a small one that stays. Each is weighed by the inverse of its covariance on held-out
normal windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.covariance import inverse, shrunk_covariance
from models.lstm import LstmWeights, reconstruct_tail
from models.residuals import weighed
from models.scorer import Fitted, Params, Progress, Scorer, Scores, Windows


@dataclass(frozen=True)
class LstmAutoencoderSpec:
    """Hyperparameters.

    Attributes:
        hidden: units of encoder and decoder (H).
        tail: newest samples whose mean residual is judged, at most the window's length.
        epochs: at most so many.
        epoch_windows: windows drawn per epoch.
        batch: windows per gradient step.
        learning_rate: Adam's.
        patience: epochs without a better validation loss before training stops.
        held_out: newest share of the windows, for validation and the residuals' covariances.
    """

    hidden: int = 64
    tail: int = 8
    epochs: int = 20
    epoch_windows: int = 4096
    batch: int = 64
    learning_rate: float = 0.005
    patience: int = 3
    held_out: float = 0.15


class Residuals(NamedTuple):
    """What the network could not reconstruct, with what was real.

    Attributes:
        last: [B, D], of the last sample.
        last_real: [B, D] bool.
        mean: [B, D], mean over the real samples of the tail; with fewer of them it is shrunk towards 0, as it
            varies more.
        mean_real: [B, D] bool, True where any sample of the tail was real.
        expected: [B, D], the last sample as reconstructed.
    """

    last: jax.Array
    last_real: jax.Array
    mean: jax.Array
    mean_real: jax.Array
    expected: jax.Array


def residuals(weights: LstmWeights, windows: Windows, tail: int) -> Residuals:
    """Residuals of the newest samples of windows [B, T, D]."""
    tail = min(tail, windows.values.shape[1])
    return residuals_of(windows, reconstruct_tail(weights, windows.values, tail), tail)


def residuals_of(windows: Windows, rebuilt: jax.Array, tail: int) -> Residuals:
    """Residuals of windows [B, T, D] from a reconstruction [B, at least tail, D] that ends with them."""
    rebuilt = rebuilt[:, -tail:, :]
    tail = rebuilt.shape[1]
    real = windows.mask[:, -tail:, :]
    off = jnp.where(real, windows.values[:, -tail:, :] - rebuilt, 0.0)
    count = jnp.sum(real, axis=1).astype(off.dtype)
    mean = jnp.sum(off, axis=1) / jnp.sqrt(jnp.maximum(count, 1.0) * tail)
    return Residuals(off[:, -1, :], real[:, -1, :], mean, count > 0.0, rebuilt[:, -1, :])


def fit(rng: jax.Array, windows: Windows, spec: LstmAutoencoderSpec, progress: Progress) -> Fitted:
    """Train on normal windows.

    Args:
        rng: key.
        windows: [N, T, D] in order of time; NumPy views welcome.
        spec: hyperparameters.
        progress: called after every epoch with the losses.

    Returns:
        ``weights`` (see `LstmWeights`), ``last_precision`` and ``mean_precision`` [D, D]; curves ``train``
        and ``validation``.

    Raises:
        FitRefused: too few windows, or the loss stopped being finite.
    """
    from models import lstm_training  # here, so that flax and optax stay off the scoring path

    plan = lstm_training.TrainingPlan(
        spec.epochs, spec.epoch_windows, spec.batch, spec.learning_rate, spec.patience, spec.held_out
    )
    trained = lstm_training.train(rng, spec.hidden, windows, plan, progress)
    weights = lstm_training.pack(trained.variables)
    _, newest = lstm_training.split_in_time(windows, spec.held_out)
    return Fitted(
        {"weights": weights._asdict(), **residual_precisions(weights, newest, spec.tail)}, trained.curves
    )


def residual_precisions(weights: LstmWeights, windows: Windows, tail: int) -> dict[str, jax.Array]:
    """``last_precision`` and ``mean_precision`` [D, D] of the residuals of normal windows."""
    one = jax.jit(residuals, static_argnames="tail")
    parts = [one(weights, chunk, tail=tail) for chunk in in_chunks(windows)]
    last, mean = (jnp.concatenate([getattr(part, name) for part in parts]) for name in ("last", "mean"))
    return {
        "last_precision": inverse(shrunk_covariance(last)),
        "mean_precision": inverse(shrunk_covariance(mean)),
    }


def in_chunks(windows: Windows, size: int = 1024) -> Iterator[Windows]:
    """Windows on the device, a bounded number at a time."""
    for start in range(0, len(windows.values), size):
        part = slice(start, start + size)
        yield Windows(jnp.asarray(windows.values[part]), jnp.asarray(windows.mask[part]))


def score(params: Params, spec: LstmAutoencoderSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample as reconstructed."""
    off = residuals(LstmWeights(**params["weights"]), windows, spec.tail)
    last, last_shares = weighed(off.last, off.last_real, params["last_precision"])
    mean, mean_shares = weighed(off.mean, off.mean_real, params["mean_precision"])
    return Scores(last + mean, last_shares + mean_shares, off.expected)


SCORER = Scorer("lstm_autoencoder", LstmAutoencoderSpec, fit, score)
