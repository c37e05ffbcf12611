"""Ridge vector autoregression: how far samples lie from their one-step forecasts.

x_t is forecast from the p samples before it; the score is the residual's Mahalanobis distance, per sensor: about
1 while all is normal. The sensors' dynamics are part of normal here, so a fault that breaks them shows as long
as it lasts; a slow drift that keeps them hardly shows in one residual. With ``memory_weight`` below 1 the residuals
of the window are judged together as well, see `models.innovations`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta

from models.covariance import inverse, shrunk, shrunk_covariance
from models.fitting import real_tail
from models.hyperparameters import Amount, Count, Searched
from models.innovations import Band, Innovations, judged, linear_forecasts, summed, whitened_bands
from models.innovations import innovations as innovations_of
from models.residuals import per_sensor
from models.scorer import FitRefused, Fitted, Params, Progress, Scorer, Scores, Windows


@dataclass(frozen=True)
class VarSpec:
    """Hyperparameters.

    Attributes:
        order: samples that the forecast looks back at (p).
        ridge: penalty on the coefficients, as a share of the number of rows.
        memory_weight: of the newest residual in the average of the window's residuals, in (0, 1]; 1: the newest
            alone is judged, as is classic.
    """

    order: Annotated[Count, Searched(1, 6, linear=True)] = 3
    ridge: Annotated[Amount, Searched(1e-3, 1.0)] = 0.01
    memory_weight: Annotated[float, Meta(gt=0.0, le=1.0), Searched(0.05, 1.0)] = 1.0


def fit(rng: jax.Array, windows: Windows, spec: VarSpec, progress: Progress) -> Fitted:
    """Fit on normal windows.

    Args:
        rng: unused: there is nothing random.
        windows: [N, T, D] with T > ``spec.order``.
        spec: hyperparameters.
        progress: called once.

    Returns:
        ``forecast`` [p D, D] (oldest sample first), ``precision`` [D, D] of the residuals, and with a memory
        ``slow_precision`` [D, D] of what they add up to.

    Raises:
        FitRefused: too few fully real rows.
    """
    del rng
    tail = real_tail(windows, spec.order + 1)
    past, present = _past(tail, spec.order), tail[:, -1, :]
    forecast, precision, power = _regressed(past, present, jnp.float32(spec.ridge))
    progress(1, 1, {"residual": float(power)})
    params = {"forecast": forecast, "precision": precision}
    if spec.memory_weight < 1.0:
        sums = [summed(innovations(forecast, chunk), spec.memory_weight) for chunk in in_chunks(windows)]
        params["slow_precision"] = slow_precision(sums, spec.memory_weight)
    return Fitted(params, {})


@jax.jit
def _regressed(
    past: jax.Array, present: jax.Array, ridge: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Coefficients [p D, D] of the ridge regression, its residuals' inverse covariance [D, D], mean square []."""
    gram = past.T @ past + ridge * past.shape[0] * jnp.eye(past.shape[1], dtype=past.dtype)
    forecast = jax.scipy.linalg.solve(gram, past.T @ present, assume_a="pos")
    residuals = present - past @ forecast
    return forecast, inverse(shrunk_covariance(residuals)), jnp.mean(residuals**2)


def in_chunks(windows: Windows, size: int = 1024) -> Iterator[Windows]:
    """Windows on the device, a bounded number at a time."""
    for start in range(0, len(windows.values), size):
        part = slice(start, start + size)
        yield Windows(jnp.asarray(windows.values[part]), jnp.asarray(windows.mask[part]))


def slow_precision(sums: list[Band], weight: float) -> jax.Array:
    """Inverse covariance [D, D] of what the residuals of normal windows add up to, from those that are whole.

    N sums of overlapping windows are worth ``N weight / (2 - weight)`` independent ones. Their covariance is shrunk
    by 0.3 D over that number: about where independent normal runs are most likely (Tennessee Eastman and two simulated
    plants of 8 sensors, fitted to 300 to 2,500 rows).

    Raises:
        FitRefused: hardly any window is whole.
    """
    value = np.concatenate([np.asarray(band.value) for band in sums])
    whole = np.concatenate([np.asarray(band.real) for band in sums]).all(axis=1)
    count, sensors = int(np.count_nonzero(whole)), value.shape[1]
    if count < 2 * sensors:
        raise FitRefused(
            f"fit: got {count} of {whole.size} windows whose residuals are real for most of the window in all "
            f"{sensors} sensors, expected at least {2 * sensors}; hint: leave out the sensors that are often missing"
        )
    return _inverse_covariance(value[whole], 0.3 * sensors * (2.0 - weight) / (weight * count))


@partial(jax.jit, static_argnums=1)
def _inverse_covariance(rows: jax.Array, share: float) -> jax.Array:
    return inverse(shrunk(rows, share))


@jax.jit
def innovations(forecast: jax.Array, windows: Windows) -> Innovations:
    """One-step residuals of a linear forecast [p D, D] at all samples of windows that have p before them."""
    order = forecast.shape[0] // forecast.shape[1]
    left = windows.values[:, order:] - linear_forecasts(forecast, windows.values)
    return innovations_of(left, windows.mask)


def _past(values: jax.Array, order: int) -> jax.Array:
    """The ``order`` samples before the last, [B, T, D] -> [B, order D], oldest first."""
    batch, length, sensors = values.shape
    return values[:, length - 1 - order : length - 1, :].reshape(batch, order * sensors)


def score(params: Params, spec: VarSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the forecast of the last sample."""
    found = innovations(params["forecast"], windows)
    squared, contributions = judged(
        found, params["forecast"], params["precision"], params.get("slow_precision"), spec.memory_weight
    )
    expected = windows.values[:, -1, :] - found.residual[:, -1]
    return Scores(per_sensor(squared, expected.shape[1]), contributions, expected)


def features(params: Params, spec: VarSpec, windows: Windows) -> jax.Array:
    """The residuals that are judged, whitened [B, D]; with a memory [B, 2D]."""
    found = innovations(params["forecast"], windows)
    return whitened_bands(found, params["precision"], params.get("slow_precision"), spec.memory_weight)


SCORER = Scorer("var", VarSpec, fit, score, features=features)
