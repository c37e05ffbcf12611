"""LSTM autoencoder with a one-step-ahead head: what the past did not let expect, weighed by how rare it is.

    x^_t = sum_k A_k x_(t-k) + F h_(t-1)

The encoder's state before a sample corrects a linear forecast, an autoregressive highway (LSTNet: Lai, Chang,
Yang & Liu 2018, arXiv:1703.07015). A comes in closed form from the ridge regression of `models.var` and F starts
at zero, so that training starts at the best linear forecast; what the network adds is scaled by what held-out
windows confirm, down to nothing. Beside it, in training, the decoder rebuilds the newest samples from the code,
backwards in time (Srivastava et al. 2015, arXiv:1502.04681): what the state must then carry keeps it from fitting
the forecast's noise.

Score: how rare the forecast errors of the window are, in two bands (`models.innovations`): the newest error, and
what all of them add up to. A distance per sensor: about 1 while all is normal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from msgspec import Meta

from models import var
from models.covariance import root
from models.hyperparameters import Amount, Count, Rate, Searched, Share
from models.innovations import Innovations, judged, linear_forecasts, summed
from models.innovations import innovations as innovations_of
from models.lstm import LstmWeights, code, corrections
from models.residuals import per_sensor
from models.scorer import Fitted, Params, Progress, Scorer, Scores, Windows, silent
from models.var import in_chunks, slow_precision


@dataclass(frozen=True)
class LstmAutoencoderSpec:
    """Hyperparameters.

    Attributes:
        hidden: units of encoder and decoder (H).
        tail: newest samples that are reconstructed, at most the window's length.
        order: samples that the linear forecast looks back at (p).
        ridge: penalty on the linear forecast's coefficients, as a share of the number of rows.
        memory_weight: of the newest forecast error in the average of the window's errors, in (0, 1); 1: the
            newest alone is judged.
        epochs: at most so many.
        epoch_windows: windows drawn per epoch.
        batch: windows per gradient step.
        learning_rate: Adam's.
        weight_decay: AdamW's.
        dropout: share of the states that the forecasting head does not see at a training step.
        reconstruction_weight: of the reconstruction's loss beside the forecast's.
        patience: epochs without a better validation loss before training stops.
        held_out: newest share of the windows, for validation and the network's share in the forecast.
    """

    hidden: Annotated[Count, Searched(8, 64)] = 32
    tail: Count = 8
    order: Annotated[Count, Searched(1, 6, linear=True)] = 3
    ridge: Annotated[Amount, Searched(1e-3, 1.0)] = 0.01
    memory_weight: Annotated[float, Meta(gt=0.0, le=1.0), Searched(0.05, 1.0)] = 0.2
    epochs: Count = 20
    epoch_windows: Count = 4096
    batch: Count = 64
    learning_rate: Rate = 0.003
    weight_decay: Annotated[Amount, Searched(1e-4, 0.1)] = 0.01
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0), Searched(0.0, 0.5, linear=True)] = 0.2
    reconstruction_weight: Annotated[Amount, Searched(0.03, 3.0)] = 0.3
    patience: Count = 3
    held_out: Share = 0.15


def innovations(weights: LstmWeights, linear: jax.Array, windows: Windows) -> Innovations:
    """Forecast errors at all samples of windows [B, T, D] that have p before them; linear [p D, D]."""
    order = linear.shape[0] // linear.shape[1]
    expected = linear_forecasts(linear, windows.values) + corrections(weights, windows.values)[:, order:]
    return innovations_of(windows.values[:, order:] - expected, windows.mask)


def past(values: jax.Array, linear: jax.Array) -> jax.Array:
    """The p samples before the last, [B, T, D] -> [B, p D], oldest first."""
    rows = linear.shape[0]
    before = values[:, values.shape[1] - 1 - rows // values.shape[2] : -1, :]
    return before.reshape(values.shape[0], rows)


def fit(rng: jax.Array, windows: Windows, spec: LstmAutoencoderSpec, progress: Progress) -> Fitted:
    """Train on normal windows.

    Args:
        rng: key.
        windows: [N, T, D] in order of time, T > ``spec.order``; NumPy views welcome.
        spec: hyperparameters.
        progress: called after every epoch with the losses.

    Returns:
        ``weights`` (see `LstmWeights`), ``forecast`` [p D, D], ``precision`` [D, D] of the forecast's errors,
        ``slow_precision`` [D, D] of what they add up to, and ``share`` [], how much of the network's correction
        held-out windows confirmed (already within ``weights``); curves ``train`` and ``validation``.

    Raises:
        FitRefused: too few windows, or the loss stopped being finite.
    """
    from models import lstm_training as training  # here, so that flax and optax stay off the scoring path
    from models.lstm_network import Autoencoder, pack

    older, newest = training.split_in_time(windows, spec.held_out)
    plan = training.TrainingPlan(
        spec.epochs,
        spec.epoch_windows,
        spec.batch,
        spec.learning_rate,
        spec.weight_decay,
        spec.patience,
        spec.reconstruction_weight,
    )
    network = Autoencoder(spec.hidden, min(spec.tail, windows.values.shape[1]), spec.dropout)
    first = _linear(older, spec)
    linear = training.Linear(first["forecast"], root(first["precision"]))
    trained = training.train(rng, network, linear, older, newest, plan, progress)
    weights = pack(trained.variables)
    share = confirmed_share(weights, first, newest)
    weights = weights._replace(forecast=share * weights.forecast)
    whole = {**_linear(without_corrections(weights, windows), spec), "share": share}
    if spec.memory_weight < 1.0:
        whole["slow_precision"] = _slow_precision(weights, whole["forecast"], windows, spec.memory_weight)
    return Fitted({"weights": weights._asdict(), **whole}, trained.curves)


def _linear(windows: Windows, spec: LstmAutoencoderSpec) -> dict[str, jax.Array]:
    """``forecast`` and ``precision`` of the ridge regression alone."""
    return dict(var.fit(jax.random.key(0), windows, var.VarSpec(spec.order, spec.ridge), silent).params)


def _slow_precision(weights: LstmWeights, linear: jax.Array, windows: Windows, weight: float) -> jax.Array:
    sums = [summed(_innovations(weights, linear, chunk), weight) for chunk in in_chunks(windows)]
    return slow_precision(sums, weight)


_innovations = jax.jit(innovations)


def confirmed_share(weights: LstmWeights, linear: Params, held: Windows) -> jax.Array:
    """The share in [0, 1] of the network's corrections that held-out windows confirm.

    With r the linear residual, c the correction and P the precision, ``(r - s c)' P (r - s c)`` is smallest at
    ``s = sum r'Pc / sum c'Pc``. Three standard errors are taken off the numerator: what chance could explain is
    not added (these windows also chose the epoch), and few windows leave the linear forecast as it is.
    """
    gains, powers = zip(*(_gains(weights, linear, chunk) for chunk in in_chunks(held)), strict=True)
    gain, power = jnp.concatenate(gains), jnp.sum(jnp.concatenate(powers))
    sure = jnp.sum(gain) - 3.0 * jnp.std(gain) * gain.shape[0] ** 0.5
    return jnp.clip(sure / jnp.maximum(power, 1e-12), 0.0, 1.0)


def _gains(weights: LstmWeights, linear: Params, windows: Windows) -> tuple[jax.Array, jax.Array]:
    """``r'Pc`` and ``c'Pc`` of windows, each [B]."""
    last, real = windows.values[:, -1, :], windows.mask[:, -1, :]
    left = jnp.where(real, last - past(windows.values, linear["forecast"]) @ linear["forecast"], 0.0)
    added = jnp.where(real, last_correction(weights, windows.values), 0.0)
    pulled = added @ linear["precision"]
    return jnp.sum(left * pulled, axis=1), jnp.sum(added * pulled, axis=1)


def without_corrections(weights: LstmWeights, windows: Windows) -> Windows:
    """Windows whose last sample lacks what the network adds to its forecast: the linear part's own target."""
    parts = [chunk.values[:, -1, :] - last_correction(weights, chunk.values) for chunk in in_chunks(windows)]
    values = jnp.asarray(windows.values).at[:, -1, :].set(jnp.concatenate(parts))
    return Windows(values, windows.mask)


@jax.jit
def last_correction(weights: LstmWeights, values: jax.Array) -> jax.Array:
    """What the network adds to the forecast of the last sample of windows [B, T, D]; [B, D]."""
    return corrections(weights, values)[:, -1]


def score(params: Params, spec: LstmAutoencoderSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample as forecast."""
    found = innovations(LstmWeights(**params["weights"]), params["forecast"], windows)
    squared, contributions = judged(
        found, params["forecast"], params["precision"], params.get("slow_precision"), spec.memory_weight
    )
    expected = windows.values[:, -1, :] - found.residual[:, -1]
    return Scores(per_sensor(squared, expected.shape[1]), contributions, expected)


def features(params: Params, spec: LstmAutoencoderSpec, windows: Windows) -> jax.Array:
    """The code [B, H] of windows [B, T, D]."""
    del spec
    return code(LstmWeights(**params["weights"]), windows.values)


SCORER = Scorer("lstm_autoencoder", LstmAutoencoderSpec, fit, score, features=features)
